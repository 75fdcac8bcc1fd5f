"""Many images and videos through one network, and the results of a plan into its ledger."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import Protocol

from restore_cli.batch.jobs import Job
from restore_cli.batch.ledger import recorded
from restore_cli.batch.pipeline import BatchOptions, OnTile, Pipeline, Result
from restore_cli.batch.plan import Plan
from restore_cli.errors import OutOfMemory
from restore_cli.inference.report import ImageRestorer

WATCHING = 2.0  # seconds between two plans; a source that has not changed for so long is complete

logger = logging.getLogger(__name__)


def run(
    jobs: Iterable[Job],
    restorer: ImageRestorer,
    options: BatchOptions = BatchOptions(),
    *,
    on_tile: OnTile | None = None,
) -> Generator[Result, None, None]:
    """Restore the source of each job into its target; a Result as soon as each is finished.

    An image that fails does not stop the others: its Result carries the RestoreError. One that
    runs out of memory beside others is tried again at the end, alone.
    on_tile: called with the tiles of an image, or the frames of a video.
    Closing the generator drops what is not yet being written; no file is left half-written.
    """
    pipeline = Pipeline(restorer, options)
    crowded: list[Job] = []
    remaining = iter(jobs)
    first = list(islice(remaining, 2))
    with closing(pipeline.results(chain(first, remaining), on_tile)) as results:
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
        options: BatchOptions,
        on_tile: OnTile | None,
    ) -> Generator[Result, None, None]: ...


def run_plan(
    planned: Plan,
    engine: Engine,
    options: BatchOptions = BatchOptions(),
    *,
    on_tile: OnTile | None = None,
) -> Generator[Result, None, None]:
    """Run the jobs of a plan, and write each result to its ledger, if it has one.

    The plan decides on existing targets, and the ledger on checksums. A ledger that is watching
    plans again from time to time, without end.
    """
    ledger = planned.ledger
    options = replace(options, existing=planned.existing, checksums=ledger is not None)
    run_jobs = partial(engine, options=options, on_tile=on_tile)
    reported = {item.source for item in planned.unreadable}
    while True:
        yield from recorded(ledger, planned.jobs.numbered(), run_jobs)
        if ledger is None or not ledger.watching:
            return
        time.sleep(WATCHING)
        planned = planned.again()
        for item in planned.unreadable:
            if item.source not in reported:
                message = item.error.message.removeprefix(f"{item.source}: ")
                logger.warning("%s: %s", item.source, message)
        reported |= {item.source for item in planned.unreadable}
