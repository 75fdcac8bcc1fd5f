"""The jobs of a plan on the workers of a Ray cluster, or of Ray on this machine.

Ray Data moves the paths of jobs to the workers and their results back. The plan, the ledger and
the messages stay with the command that began it.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore_cli.assets import set_environment
from restore_cli.batch.jobs import Job
from restore_cli.batch.pipeline import BatchOptions, OnTile, Result
from restore_cli.batch.run import run
from restore_cli.errors import DeviceError, MissingExtra, RestoreError, UsageError
from restore_cli.files import sweep
from restore_cli.inference.options import RunOptions
from restore_cli.memory import keep_freed_memory

if TYPE_CHECKING:
    import torch

    from restore_cli.inference.report import ImageRestorer

CHUNK = 4000  # jobs of a worker between two starts of the pool; all that is in memory of a plan
BATCH = 16  # jobs at most that a worker takes at once
ATTEMPTS = 3  # of a job that ends its worker
OBJECTS = 100 << 20  # bytes of the shared memory of Ray on this machine: it holds paths only
SETTINGS = {  # Ray reads them when it is imported
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a worker without a GPU sees none
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # which prints the stack at SIGTERM
}

ADDRESS_SETTINGS = {"RAY_NUM_REDIS_GET_RETRIES": "1"}  # 40 s without a cluster, 13 min by default

logger = logging.getLogger(__name__)

Load = Callable[[], "ImageRestorer"]


@dataclass(frozen=True)
class Cluster:
    """Options of a run on Ray; None: by the resources of the cluster."""

    address: str | None = None  # None: Ray starts on this machine
    workers: int | None = None
    gpus_per_worker: float | None = None


@dataclass(frozen=True)
class Pool:
    """Workers that load the same network, and what one of them has said about it."""

    load: Load
    workers: int
    cpus: float  # of each
    gpus: float
    options: RunOptions
    model: str
    device: torch.device

    def run(
        self,
        jobs: Iterable[Job],
        *,
        options: BatchOptions = BatchOptions(),
        on_tile: OnTile | None = None,
    ) -> Generator[Result, None, None]:
        """Yield what `batch.run.run` does. A job that ends its worker three times has failed.

        Raises DeviceError where the cluster fails, RuntimeError with the traceback of a worker.
        """
        remaining, done = iter(jobs), 0
        while chunk := list(islice(remaining, CHUNK * self.workers)):
            try:
                for index, result in self._run_chunk(chunk, options):
                    done += 1
                    if on_tile is not None:
                        on_tile(done, 0, 1)
                    yield replace(result, job=chunk[index])
            except (KeyboardInterrupt, GeneratorExit):
                _end_workers(chunk)
                raise

    def _run_chunk(
        self, jobs: Sequence[Job], options: BatchOptions
    ) -> Iterator[tuple[int, Result]]:
        """Yield results of jobs with their indices."""
        import pyarrow
        import ray.data

        size = max(1, min(BATCH, len(jobs) // (4 * self.workers)))
        remaining, tables = iter(enumerate(jobs)), []
        while batch := list(islice(remaining, size)):
            tables.append(pyarrow.table({"packed": [pickle.dumps(item) for item in batch]}))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        attempts = ray.remote(num_cpus=0)(_Attempts).remote()
        dataset = ray.data.from_arrow(tables).map_batches(
            _Worker,
            fn_constructor_args=(self.load, os.getcwd(), options, attempts),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(self.workers, len(tables))),
            num_cpus=self.cpus,
            num_gpus=self.gpus,
        )
        try:
            batches = dataset.iter_batches(
                batch_size=None, batch_format="pyarrow", prefetch_batches=0
            )
            for packed in chain.from_iterable(table["packed"] for table in batches):
                index, result, warnings, bug = pickle.loads(packed.as_py())
                if bug is not None:
                    raise RuntimeError(f"in a worker of Ray:\n{bug}")
                for message in warnings:
                    logger.warning("%s", message)
                yield index, result
        except ray.exceptions.RayError as error:
            raise DeviceError(
                f"the Ray cluster failed: {_last_line(error)}",
                hint="with --ledger the same command continues where it ended",
            ) from error


class _Attempts:
    """Count of what the workers have begun, in a process of its own.

    Ray gives a batch of a worker that ended to another one, and does so without end.
    """

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()
        self._rows: dict[str, bytes] = {}

    def begin(self, name: str) -> tuple[int, bytes | None]:
        """Return how often a batch or a job has been begun, and the row of a job that is done."""
        self._begun[name] += 1
        return self._begun[name], self._rows.get(name)

    def finish(self, name: str, row: bytes) -> None:
        self._rows[name] = row


class _Worker:
    """A loaded network in a process of Ray."""

    def __init__(self, load: Load, folder: str, options: BatchOptions, attempts: Any):
        with suppress(OSError):  # relative paths are those of the command
            os.chdir(folder)
        keep_freed_memory()
        self._restorer, self._options, self._attempts = load(), options, attempts

    def __call__(self, table: Any) -> Any:
        import pyarrow

        batch: list[tuple[int, Job]] = [
            pickle.loads(packed) for packed in table["packed"].to_pylist()
        ]
        begun, _ = self._begin(f"batch {batch[0][0]}")
        rows = self._run(batch) if begun == 1 else map(self._retry, batch)
        return pyarrow.table({"packed": list(rows)})

    def _begin(self, name: str) -> tuple[int, bytes | None]:
        import ray

        begun: tuple[int, bytes | None] = ray.get(self._attempts.begin.remote(name))
        return begun

    def _retry(self, item: tuple[int, Job]) -> bytes:
        """Return the row of a job that runs alone, since one of its batch may end the worker."""
        index, job = item
        begun, row = self._begin(str(index))
        if row is not None:
            return row
        if begun < ATTEMPTS:  # the first one was with the others
            (row,) = self._run([(index, replace(job, replaces=True))])
        else:
            error = DeviceError(
                f"{job.source}: the worker ended in {ATTEMPTS} attempts",
                hint="its memory may be too small; the logs of Ray tell more",
            )
            row = pickle.dumps((index, Result(job, "failed", 0.0, error), [], None))
        self._attempts.finish.remote(str(index), row)
        return row

    def _run(self, batch: Sequence[tuple[int, Job]]) -> Iterator[bytes]:
        """Yield a row for each job: index, result, warnings, and the traceback of a bug."""
        indices = {job: index for index, job in batch}
        with _warnings() as warnings:
            try:
                for result in run(indices, self._restorer, self._options):
                    yield pickle.dumps((indices[result.job], result, warnings[:], None))
                    warnings.clear()
            except Exception:
                yield pickle.dumps((None, None, [], traceback.format_exc()))


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect the warnings of the library, which the command is to show."""

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            collected.append(record.getMessage())

    collected: list[str] = []
    handler, library = Collecting(logging.WARNING), logging.getLogger("restore_cli")
    library.addHandler(handler)
    try:
        yield collected
    finally:
        library.removeHandler(handler)


def _last_line(error: Exception) -> str:
    """Return the last line of an error of Ray, below the traceback of a worker."""
    return str(error).strip().splitlines()[-1]


def _end_workers(jobs: Iterable[Job]) -> None:
    """End Ray, and remove the temporary files of workers on this machine."""
    import ray

    ray.shutdown()
    for folder in {
        os.path.realpath(job.target.parent) for job in jobs if isinstance(job.target, Path)
    }:
        sweep(folder)


def start(load: Load, cluster: Cluster) -> Pool:
    """Connect to a cluster, or start Ray here, and have a worker load the network once.

    Raises MissingExtra, UsageError, and what `load` raises.
    """
    set_environment(SETTINGS | (ADDRESS_SETTINGS if cluster.address else {}))
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtra(
            "--engine ray needs Ray", hint="pip install 'restore-cli[ray]'"
        ) from error
    _connect(cluster)
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cores, devices = resources.get("CPU", 0), resources.get("GPU", 0)
    gpus = cluster.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if devices else 0.0
    workers = cluster.workers or max(1, int(devices / gpus if gpus else cores))
    if gpus * workers > devices or workers > cores:
        raise UsageError(
            f"{workers} workers with {gpus:g} GPUs each: Ray has {cores:g} cores and "
            f"{devices:g} GPUs",
            hint="set --workers and --gpus-per-worker",
        )
    cpus = max(1, cores // workers)
    describe = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_describe)
    try:
        described = ray.get(describe.remote(load, os.getcwd()))
    except ray.exceptions.RayError as error:
        raise DeviceError(
            f"a worker of Ray cannot load the network: {_last_line(error)}",
            hint="restore must be installed on all machines of the cluster",
        ) from error
    if isinstance(described, RestoreError):
        raise described
    options, model, device = described
    return Pool(load, workers, cpus, gpus, options, model, device)


def _connect(cluster: Cluster) -> None:
    """Start Ray without a line on stderr, and keep the handlers of signals. Raises UsageError."""
    import ray

    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    resources = {} if cluster.address else _local_resources(cluster.workers)
    is_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with _silent():
            ray.init(
                address=cluster.address or "local",
                include_dashboard=False if resources else None,
                log_to_driver=False,
                ignore_reinit_error=True,
                logging_level=logging.CRITICAL,
                **resources,
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        if cluster.address is None:
            raise DeviceError(
                f"Ray cannot be started on this machine: {_last_line(error)}"
            ) from error
        raise UsageError(
            f"--address {cluster.address}: no Ray cluster", hint="start one: ray start --head"
        ) from error
    finally:
        for number, handler in handlers.items() if is_main else ():
            signal.signal(number, handler)


@contextmanager
def _silent() -> Iterator[None]:
    """Discard what is written to stderr, also by the C++ part of Ray."""
    try:
        stderr = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def _local_resources(workers: int | None) -> dict[str, Any]:
    """Return the resources of Ray on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"num_cpus": max(cores or 1, workers or 1), "object_store_memory": OBJECTS}


def _describe(load: Load, folder: str) -> tuple[RunOptions, str, torch.device] | RestoreError:
    """Load the network in a worker; the error is returned, since Ray would wrap it."""
    with suppress(OSError):
        os.chdir(folder)
    try:
        restorer = load()
    except RestoreError as error:
        return error
    return restorer.options, restorer.model, restorer.device
