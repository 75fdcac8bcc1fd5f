"""Measure plans and ledgers of many items: seconds, memory and disk.

    python benchmarks/ledger.py --items 1000000

Makes a tree of empty files, plans it with a new ledger, writes the two rows of each item as a run
does, makes an empty output for each, and plans again, when all is done. Prints for each step the
seconds that passed, those of the CPU, the largest memory of the process so far, and the sizes of
the two databases. Each plan is made by a process of its own.

The files are links to a few, so that ten million of them need no inodes: about 6 GB of disk in
all, in the folder of temporary files (TMPDIR).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from restore_cli.batch.jobs import Job
from restore_cli.batch.ledger import Ledger
from restore_cli.batch.plan import Plan, plan

IN_A_FOLDER = 1000
LINKS = 10_000  # names of one file


@contextmanager
def measured(step: str, items: int) -> Iterator[None]:
    began, used = time.perf_counter(), time.process_time()
    yield
    passed, used = time.perf_counter() - began, time.process_time() - used
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    each = 1e3 * passed / items
    print(
        f"{step}: {passed:.1f} s ({each:.3f} ms an item), CPU {used:.1f} s, {memory:.0f} MiB",
        flush=True,
    )


def make_tree(folder: Path, items: int) -> None:
    for number in range(items):
        inside = folder / f"{number // IN_A_FOLDER:06}"
        if number % IN_A_FOLDER == 0:
            inside.mkdir(parents=True)
        path = inside / f"IMG_{number:08}.jpg"
        if number % LINKS == 0:
            path.touch()
            first = path
        else:
            os.link(first, path)


def planned(folder: Path) -> Plan:
    sources, out = str(folder / "in"), str(folder / "out")
    book = Ledger(folder / "run.sqlite")
    return plan([sources], out, task="derain", model="", recursive=True, ledger=book)


def finish(job: Job, ledger: Ledger) -> None:
    from restore_cli.batch.pipeline import Result

    assert isinstance(job.target, Path)
    ledger.finish(Result(job, "ok", 0.0, sha256="0" * 64))


def print_sizes(ledger: Ledger) -> None:
    for name, schema in (("plan", "temp"), ("ledger", "main")):
        pages, size = (
            ledger.connection.execute(f"PRAGMA {schema}.{what}").fetchone()[0]
            for what in ("page_count", "page_size")
        )
        print(f"{name} on disk: {pages * size / 1e6:.0f} MB", flush=True)


def run_all(folder: Path, items: int) -> None:
    with measured("plan", items):
        first = planned(folder)
    assert first.ledger is not None and len(first.jobs) == items
    with measured("rows", items):
        for job in first.ledger.start_each(first.jobs.numbered()):
            finish(job, first.ledger)
    print_sizes(first.ledger)


def plan_again(folder: Path, items: int) -> None:
    with measured("plan again", items):
        again = planned(folder)
    assert len(again.skipped) == items


def in_a_process(step: Callable[[Path, int], None], folder: Path, items: int) -> None:
    process = multiprocessing.get_context("spawn").Process(target=step, args=(folder, items))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=100_000)
    items = parser.parse_args().items
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_tree(folder / "in", items)
        in_a_process(run_all, folder, items)
        make_tree(folder / "out", items)
        in_a_process(plan_again, folder, items)


if __name__ == "__main__":
    main()
