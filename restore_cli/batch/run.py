"""Many images and videos through one network, and the results of a plan into its ledger."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable
from contextlib import closing
from functools import partial
from itertools import chain, islice
from typing import BinaryIO, Protocol

from restore_cli.batch.jobs import Job
from restore_cli.batch.ledger import recorded
from restore_cli.batch.pipeline import OnTile, Pipeline, Result
from restore_cli.batch.plan import Existing, Plan
from restore_cli.batch.provenance import CommandRecord
from restore_cli.errors import OutOfMemory
from restore_cli.imaging.formats import Compress
from restore_cli.inference.report import ImageRestorer

WATCHING = 2.0  # seconds between two plans; a source that has not changed for so long is complete

logger = logging.getLogger(__name__)


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
    pipeline = Pipeline(
        restorer, existing, quality, compress, stdin, stdout, record, checksums=checksums
    )
    crowded: list[Job] = []
    coming = iter(jobs)
    first = list(islice(coming, 2))
    with closing(pipeline.results(chain(first, coming), on_tile)) as results:
        for result in results:
            if len(first) > 1 and isinstance(result.error, OutOfMemory):
                crowded.append(result.job)
            else:
                yield result
    for job in crowded:
        with closing(pipeline.results([job])) as results:
            yield from results


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
