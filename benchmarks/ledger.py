"""Measure plans and ledgers of many items: seconds and memory.

    python benchmarks/ledger.py --items 1000000

Makes a tree of empty files, plans it with a new ledger, writes the two rows of each item as a run
does, makes an empty output for each, and plans again, when all is done. Prints for each step the
seconds that passed, those of the CPU, and the largest memory of the process so far.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from restore_cli.batch.jobs import Job
from restore_cli.batch.ledger import Ledger
from restore_cli.batch.plan import Plan, plan

IN_A_FOLDER = 1000


@contextmanager
def measured(step: str, items: int) -> Iterator[None]:
    began, used = time.perf_counter(), time.process_time()
    yield
    passed, used = time.perf_counter() - began, time.process_time() - used
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    each = 1e3 * passed / items
    print(f"{step}: {passed:.1f} s ({each:.3f} ms an item), CPU {used:.1f} s, {memory:.0f} MiB")


def make_tree(folder: Path, items: int) -> None:
    for number in range(items):
        inside = folder / f"{number // IN_A_FOLDER:06}"
        if number % IN_A_FOLDER == 0:
            inside.mkdir(parents=True)
        (inside / f"IMG_{number:08}.jpg").touch()


def planned(sources: Path, out: Path, ledger: Path) -> Plan:
    book = Ledger(ledger)
    return plan([str(sources)], str(out), task="derain", model="", recursive=True, ledger=book)


def finish(job: Job, ledger: Ledger) -> None:
    from restore_cli.batch.run import Result  # with torch, which takes most of the memory

    assert isinstance(job.target, Path)
    ledger.finish(Result(job, "ok", 0.0, sha256="0" * 64))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=100_000)
    items = parser.parse_args().items
    with tempfile.TemporaryDirectory() as temporary:
        sources, out = Path(temporary, "in"), Path(temporary, "out")
        ledger = Path(temporary, "run.sqlite")
        make_tree(sources, items)
        with measured("plan", items):
            first = planned(sources, out, ledger)
        assert first.ledger is not None and len(first.jobs) == items
        with measured("rows", items):
            for job in first.ledger.start_each(first.jobs):
                finish(job, first.ledger)
        make_tree(out, items)
        with measured("plan again", items):
            assert len(planned(sources, out, ledger).skipped) == items


if __name__ == "__main__":
    main()
