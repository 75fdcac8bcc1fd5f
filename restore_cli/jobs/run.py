"""Many pictures through one network, reading ahead and writing behind."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from restore_cli.errors import RestoreError
from restore_cli.imaging.files import read, write
from restore_cli.imaging.image import Image
from restore_cli.jobs.plan import Job

AHEAD = 2  # pictures that wait on either side of the network


class Restores(Protocol):
    """Whatever turns a picture into a better one; a pipelines.restorer.Restorer."""

    tile: int | None

    def __call__(
        self, image: Image, *, on_progress: Callable[[int, int], None] | None = None
    ) -> Image: ...


@dataclass(frozen=True)
class Result:
    """What became of a job."""

    job: Job
    seconds: float
    error: RestoreError | None = None
    width: int | None = None  # of the result, pixels
    height: int | None = None
    tile: int | None = None  # None: the whole picture at once


@dataclass(frozen=True)
class _Writing:
    job: Job
    restored: Image
    began: float
    tile: int | None
    done: Future[None]


def run(
    jobs: Sequence[Job],
    restorer: Restores,
    *,
    overwrite: bool = False,
    quality: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[Result]:
    """Restore each job's source into its target; a Result as each one is finished.

    One that fails does not stop the others: its Result carries the RestoreError. on_progress gets
    the tiles done and in all of the picture in work.
    """
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        reading: deque[tuple[Job, Future[Image]]] = deque()
        writing: deque[_Writing] = deque()
        waiting = iter(jobs)
        try:
            while True:
                while len(reading) < AHEAD and (job := next(waiting, None)) is not None:
                    reading.append((job, reader.submit(_read, job)))
                if not reading:
                    break
                job, coming = reading.popleft()
                began = time.monotonic()
                try:
                    restored = restorer(coming.result(), on_progress=on_progress)
                except RestoreError as error:
                    yield Result(job, time.monotonic() - began, error)
                    continue
                done = writer.submit(
                    write, restored, job.target, quality=quality, overwrite=overwrite
                )
                writing.append(_Writing(job, restored, began, restorer.tile, done))
                while writing and (len(writing) > AHEAD or writing[0].done.done()):
                    yield _finish(writing.popleft())
            while writing:
                yield _finish(writing.popleft())
        finally:
            reader.shutdown(wait=False, cancel_futures=True)


def _read(job: Job) -> Image:
    if job.error is not None:
        raise job.error
    return read(job.source)


def _finish(item: _Writing) -> Result:
    try:
        item.done.result()
    except RestoreError as error:
        return Result(item.job, time.monotonic() - item.began, error)
    return Result(
        item.job,
        time.monotonic() - item.began,
        None,
        item.restored.width,
        item.restored.height,
        item.tile,
    )
