"""Many images and videos through one network, reading ahead and writing behind."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol, cast

from restore_cli.batch.giants import disk_need, restore_giant
from restore_cli.batch.jobs import Job, Standard
from restore_cli.batch.ledger import recorded
from restore_cli.batch.plan import Existing, Plan
from restore_cli.batch.provenance import CommandRecord, restored_record, to_text
from restore_cli.batch.targets import ELSEWHERE, is_taken
from restore_cli.errors import OutOfMemory, OutputError, OutputExists, RestoreError
from restore_cli.files import local_copy, sha256_of, write_atomically
from restore_cli.imaging.codecs.animated import FRAMES, Animation, read_animation
from restore_cli.imaging.formats import ENCODINGS, Compress, Container, Format, is_container
from restore_cli.imaging.image import Image
from restore_cli.imaging.io import (
    LARGEST_FILE,
    contents,
    decode_unreported,
    encode,
    refuse_colours,
    refuse_source,
)
from restore_cli.inference.light import LightUpscaler
from restore_cli.inference.options import OnProgress
from restore_cli.inference.report import ImageRestorer, Report, Restored
from restore_cli.memory import enough_memory
from restore_cli.worker import Pending, Worker

if TYPE_CHECKING:
    import torch

    from restore_cli.batch.grids import Grid

WAITING = 2  # images at most on either side of the network, for each thread there
MOST_THREADS = 8  # on either side
WRITERS = 2  # threads at least: while one waits for the disk, the other encodes

WATCHING = 2.0  # seconds between two plans; a source that has not changed for so long is complete

logger = logging.getLogger(__name__)

OnTile = Callable[[int, int, int], None]


@dataclass(frozen=True)
class Result:
    """Result of a job; width and height are those of the written image or video."""

    job: Job
    status: Literal["ok", "skipped", "failed"]
    seconds: float  # of reading, computing and writing, without the time spent waiting
    error: RestoreError | None = None
    report: Report | None = None  # of a video that of its last frame, without rain
    frames: int | None = None  # of a video
    width: int | None = None
    height: int | None = None
    sha256: str | None = None  # of the target, where checksums are wanted


@dataclass(frozen=True)
class _Loaded:
    image: Image
    animation: Animation | None  # what follows the image
    sha256: str
    seconds: float


@dataclass(frozen=True)
class _Done:
    restored: Restored
    animation: Animation | None
    source_sha256: str
    seconds: float  # up to now


def run(
    jobs: Iterable[Job],
    restorer: ImageRestorer,
    *,
    existing: Existing = "error",
    quality: int | None = None,
    compress: Compress = "normal",
    stdin: bytes = b"",
    stdout: BinaryIO | None = None,
    on_tile: OnTile | None = None,
    record: CommandRecord | None = None,
    checksums: bool = False,
) -> Generator[Result, None, None]:
    """Restore the source of each job into its target; a Result as soon as each is finished.

    An image that fails does not stop the others: its Result carries the RestoreError. One that
    runs out of memory beside others is tried again at the end, alone.
    existing: "skip" also skips the targets that appear in the meantime.
    stdin, stdout: what Standard.INPUT holds, and where Standard.OUTPUT goes.
    checksums: whether a Result has the SHA-256 of its target.
    record: of the command; with it each result has a record in its metadata.
    on_tile: gets the index of the image in work, its tiles done, and its tiles in all; of a
    video its frames.
    Closing the generator drops what is not yet being written; no file is left half-written.
    """
    crowded: list[Job] = []
    shared = partial(
        _pipelined,
        restorer=restorer,
        existing=existing,
        quality=quality,
        compress=compress,
        stdin=stdin,
        stdout=stdout,
        record=record,
        checksums=checksums,
    )
    coming = iter(jobs)
    first = list(islice(coming, 2))
    with closing(shared(chain(first, coming), on_tile=on_tile)) as results:
        for result in results:
            if len(first) > 1 and isinstance(result.error, OutOfMemory):
                crowded.append(result.job)
            else:
                yield result
    for job in crowded:
        with closing(shared([job], on_tile=None)) as results:
            yield from results


def _pipelined(
    jobs: Iterable[Job],
    *,
    restorer: ImageRestorer,
    existing: Existing,
    quality: int | None,
    compress: Compress,
    stdin: bytes,
    stdout: BinaryIO | None,
    on_tile: OnTile | None,
    record: CommandRecord | None,
    checksums: bool,
) -> Generator[Result, None, None]:
    """Yield a Result for each job; reading, computing and writing overlap."""
    behind: deque[Pending[Result]] = deque()
    threads = _codec_threads(restorer.device)
    waiting = WAITING * threads
    with Worker(threads) as reader, Worker(max(threads, WRITERS)) as writer:

        def begin(job: Job) -> tuple[Job, Pending[_Loaded | int] | None]:
            if is_container(job.format):
                return job, None
            return job, reader.submit(_read, job, restorer, stdin, existing)

        coming = map(begin, jobs)
        ahead = deque(islice(coming, waiting))
        for index in count():
            if not ahead:
                break
            job, loaded = ahead.popleft()
            ahead.extend(islice(coming, 1))
            began = time.monotonic()
            progress = _within(index, on_tile)
            try:
                done = None if loaded is None else _restore(loaded, restorer, progress)
                if isinstance(done, _Done):
                    behind.append(
                        writer.submit(
                            _write,
                            job,
                            done,
                            quality,
                            compress,
                            existing,
                            stdout,
                            record,
                            checksums,
                        )
                    )
                    del done  # so that an image is freed once the writer has done with it
                else:
                    while behind:  # this may take hours: what is done before is told before
                        yield behind.popleft().result()
                    if done is None:
                        result = _film(job, restorer, quality, existing, progress)
                    else:
                        result = _giant(
                            job, done, restorer, quality, compress, existing, record, progress
                        )
                    yield _with_checksum(result) if checksums else result
                    continue
            except RestoreError as error:
                yield _without_result(job, error, existing, time.monotonic() - began)
            while behind and (len(behind) > waiting or behind[0].done()):
                yield behind.popleft().result()
        while behind:
            yield behind.popleft().result()


class Engine(Protocol):
    """A way to run jobs: `run` with a restorer, or that of a pool of workers."""

    def __call__(
        self,
        jobs: Iterable[Job],
        *,
        existing: Existing,
        quality: int | None,
        compress: Compress,
        stdin: bytes,
        stdout: BinaryIO | None,
        on_tile: OnTile | None,
        record: CommandRecord | None,
        checksums: bool,
    ) -> Generator[Result, None, None]: ...


def run_plan(
    planned: Plan,
    engine: Engine,
    *,
    quality: int | None = None,
    compress: Compress = "normal",
    stdin: bytes = b"",
    stdout: BinaryIO | None = None,
    on_tile: OnTile | None = None,
    record: CommandRecord | None = None,
) -> Generator[Result, None, None]:
    """Run the jobs of a plan, and write each result to its ledger, if it has one.

    A ledger that is watching plans again from time to time, without end.
    """
    ledger = planned.ledger
    working = partial(
        engine,
        existing=planned.existing,
        quality=quality,
        compress=compress,
        stdin=stdin,
        stdout=stdout,
        on_tile=on_tile,
        record=record,
        checksums=ledger is not None,
    )
    told = {item.source for item in planned.unreadable}
    while True:
        yield from recorded(ledger, planned.jobs.numbered(), working)
        if ledger is None or not ledger.watching:
            return
        time.sleep(WATCHING)
        planned = planned.again()
        for item in planned.unreadable:
            if item.source not in told:
                message = item.error.message.removeprefix(f"{item.source}: ")
                logger.warning("%s: %s", item.source, message)
        told |= {item.source for item in planned.unreadable}


def _codec_threads(device: torch.device) -> int:
    """Return the threads that decode, which is also the least of those that encode.

    Beside a GPU all cores are theirs; a network on the CPU takes the cores itself.
    """
    return 1 if device.type == "cpu" else max(1, min(MOST_THREADS, (os.cpu_count() or 1) // 2))


def _without_result(job: Job, error: RestoreError, existing: Existing, seconds: float) -> Result:
    """Return the result of a job that wrote nothing: another run may have been faster."""
    if existing == "skip" and isinstance(error, OutputExists):
        return Result(job, "skipped", seconds)
    return Result(job, "failed", seconds, without_frames(error))


def without_frames(error: RestoreError) -> RestoreError:
    """Return an error without its frames, which hold the image."""
    error.__cause__ = error.__context__ = None
    if isinstance(error, OutOfMemory):
        gc.collect()  # generators and their frames refer to each other
    return error.with_traceback(None)


def refuse_existing(job: Job | Grid, existing: Existing) -> None:
    """Refuse a target that has appeared since the plan, before any work. Raises OutputExists."""
    if not may_replace(job, existing) and is_taken(job.target):
        raise OutputExists(f"already exists: {job.target}", hint="add --overwrite")


def may_replace(job: Job | Grid, existing: Existing) -> bool:
    return existing == "overwrite" or job.replaces


def _with_checksum(result: Result) -> Result:
    target = result.job.target
    return result if isinstance(target, Standard) else replace(result, sha256=sha256_of(target))


def _film(
    job: Job,
    restorer: ImageRestorer,
    quality: int | None,
    existing: Existing,
    on_frame: OnProgress | None,
) -> Result:
    from restore_cli.batch.video import restore_video  # images need not wait for FFmpeg

    assert not isinstance(job.source, Standard) and not isinstance(job.target, Standard)
    began = time.monotonic()
    refuse_existing(job, existing)
    with enough_memory(str(job.source)):
        movie = restore_video(
            job.source,
            job.target,
            restorer,
            format=cast(Container, job.format),
            quality=quality,
            overwrite=may_replace(job, existing),
            on_frame=on_frame,
        )
    steps = tuple(replace(step, rain=None) for step in movie.report.steps)
    return Result(
        job,
        "ok",
        time.monotonic() - began,
        report=Report(steps),
        frames=movie.frames,
        width=movie.width,
        height=movie.height,
    )


def _disk_need(source: Path, job: Job, restorer: ImageRestorer) -> int | None:
    """Return what a job takes on disk that is done band by band, None for others."""
    if isinstance(job.target, Standard):
        return None
    try:
        return disk_need(source, cast(Format, job.format), restorer, job.size)
    except RestoreError:  # decoding reports it
        return None


def _giant(
    job: Job,
    need: int,
    restorer: ImageRestorer,
    quality: int | None,
    compress: Compress,
    existing: Existing,
    record: CommandRecord | None,
    on_progress: OnProgress | None,
) -> Result:
    assert not isinstance(job.source, Standard) and not isinstance(job.target, Standard)
    began = time.monotonic()
    with enough_memory(str(job.source)):
        restored = restore_giant(
            job.source,
            job.target,
            need,
            restorer,
            format=cast(Format, job.format),
            quality=quality,
            compress=compress,
            overwrite=may_replace(job, existing),
            record=None if record is None else partial(_record_of, record, job, quality),
            on_progress=on_progress,
        )
    return Result(
        job,
        "ok",
        time.monotonic() - began,
        report=restored.report,
        width=restored.image.width,
        height=restored.image.height,
    )


def _within(index: int, on_tile: OnTile | None) -> OnProgress | None:
    if on_tile is None:
        return None
    return lambda done, total: on_tile(index, done, total)


def _read(job: Job, restorer: ImageRestorer, stdin: bytes, existing: Existing) -> _Loaded | int:
    """Read the image of a job; of a giant return what it takes on disk."""
    began = time.monotonic()
    refuse_existing(job, existing)
    name = job.source.value if isinstance(job.source, Standard) else str(job.source)
    with enough_memory(name):
        if isinstance(job.source, Standard):
            data = stdin
        else:
            with local_copy(job.source, most=LARGEST_FILE) as path:
                need = _disk_need(path, job, restorer)
                if need is not None:
                    return need
                data = contents(path, name=name)
        image = decode_unreported(data, name=name, device=restorer.device)
    if not isinstance(job.source, Standard):
        image = replace(image, source=job.source)
    format = cast(Format, job.format)
    refuse_colours(image, format)
    animation = None
    if FRAMES in image.dropped and ENCODINGS[format].animated:
        with enough_memory(name):
            animation = read_animation(data, name)
    if animation is not None:
        image = replace(image, dropped=tuple(part for part in image.dropped if part != FRAMES))
    return _Loaded(image, animation, sha256_of(data), time.monotonic() - began)


def _restore(
    coming: Pending[_Loaded | int],
    restorer: ImageRestorer,
    on_progress: OnProgress | None,
) -> _Done | int:
    """Restore an image that has been read; of a giant return what it takes on disk."""
    loaded = coming.result()
    if isinstance(loaded, int):
        return loaded
    began = time.monotonic()
    with enough_memory():
        animation, image = loaded.animation, loaded.image
        if not isinstance(restorer, LightUpscaler):
            image = image.as_tensors()
        restored = restorer(image, on_progress=None if animation else on_progress)
        if animation is not None:
            animation = animation.through(lambda frame: restorer(frame).image, on_progress)
    return _Done(restored, animation, loaded.sha256, loaded.seconds + time.monotonic() - began)


def _write(
    job: Job,
    done: _Done,
    quality: int | None,
    compress: Compress,
    existing: Existing,
    stdout: BinaryIO | None,
    record: CommandRecord | None,
    checksums: bool,
) -> Result:
    began = time.monotonic()
    image = done.restored.image if record is None else _recorded(done, job, record, quality)
    try:
        with enough_memory():
            data = encode(
                image,
                format=cast(Format, job.format),  # videos are written elsewhere
                quality=quality,
                compress=compress,
                name=str(image.source or Standard.INPUT.value),
                animation=done.animation,
            )
        if isinstance(job.target, Standard):
            assert stdout is not None  # whoever plans for stdout hands it over
            pipe_out(data, stdout)
        else:
            refuse_source(image.source, job.target)
            write_atomically(job.target, data, overwrite=may_replace(job, existing), hint=ELSEWHERE)
    except RestoreError as error:
        return _without_result(job, error, existing, done.seconds + time.monotonic() - began)
    return Result(
        job,
        "ok",
        done.seconds + time.monotonic() - began,
        report=done.restored.report,
        width=image.width,
        height=image.height,
        sha256=sha256_of(data) if checksums else None,
    )


def _recorded(done: _Done, job: Job, record: CommandRecord, quality: int | None) -> Image:
    """The image with the record of how it was made in its metadata."""
    image = done.restored.image
    made = _record_of(record, job, quality, done.restored.report, done.source_sha256)
    return replace(image, metadata=replace(image.metadata, record=made))


def _record_of(
    record: CommandRecord, job: Job, quality: int | None, report: Report, sha256: str
) -> str:
    """Return the record of a result as text."""
    name = job.source.value if isinstance(job.source, Standard) else job.source.name
    format = cast(Format, job.format)
    return to_text(
        restored_record(record, name, sha256, report.steps, format=format, quality=quality)
    )


def pipe_out(data: bytes, stdout: BinaryIO) -> None:
    """Write an image to stdout. Raises OutputError."""
    try:
        stdout.write(data)
        stdout.flush()
    except BrokenPipeError:
        raise  # no failure: the reader wants no more
    except OSError as error:
        raise OutputError(f"stdout: {error.strerror}") from error
