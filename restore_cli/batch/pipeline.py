"""Images and videos of jobs through one network, reading ahead and writing behind."""

from __future__ import annotations

import gc
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

from restore_cli.batch.giants import disk_need, restore_giant
from restore_cli.batch.jobs import Job, Standard
from restore_cli.batch.plan import Existing
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
BATCH = 16  # small images at most that are restored together
BATCH_PIXELS = 1 << 20  # of them all; with more, a GPU is busy with one image
WRITERS = 2  # threads at least: while one waits for the disk, the other encodes

OnTile = Callable[[int, int, int], None]  # index of the image, its tiles done, its tiles in all


@dataclass(frozen=True)
class BatchOptions:
    """Options of a batch, apart from its network."""

    existing: Existing = "error"  # "skip" also skips targets that appear in the meantime
    quality: int | None = None
    compress: Compress = "normal"
    record: CommandRecord | None = None  # with it, each result has a record in its metadata
    checksums: bool = False  # each Result has the SHA-256 of its target
    stdin: bytes = b""  # contents of Standard.INPUT
    stdout: BinaryIO | None = None  # Standard.OUTPUT


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


@dataclass(frozen=True)
class _Coming:
    """A job whose image is being read. loaded: None for a video."""

    index: int
    job: Job
    loaded: Pending[_Loaded | int] | None

    def is_read(self) -> bool:
        return self.loaded is not None and self.loaded.done()

    def size(self) -> tuple[int, int] | None:
        """Wait for the (H, W) of an image; None for all that is restored alone."""
        if self.loaded is None:
            return None
        try:
            loaded = self.loaded.peek()
        except RestoreError:
            return None
        if isinstance(loaded, int) or loaded.animation is not None:
            return None
        return loaded.image.height, loaded.image.width


@dataclass(frozen=True)
class Pipeline:
    """Reads, restores and writes images at the same time."""

    restorer: ImageRestorer
    options: BatchOptions

    def results(
        self, jobs: Iterable[Job], on_tile: OnTile | None = None
    ) -> Generator[Result, None, None]:
        """Yield a Result for each job."""
        behind: deque[Pending[Result]] = deque()
        threads = _codec_threads(self.restorer.device)
        waiting = WAITING * threads
        with Worker(threads) as reader, Worker(max(threads, WRITERS)) as writer:

            def begin(numbered: tuple[int, Job]) -> _Coming:
                index, job = numbered
                is_video = is_container(job.format)
                return _Coming(index, job, None if is_video else reader.submit(self._read, job))

            coming = map(begin, enumerate(jobs))
            for job, restore in self._restorations(coming, waiting, on_tile):
                began = time.monotonic()
                try:
                    done = restore()
                    if isinstance(done, _Done):
                        behind.append(writer.submit(self._write, job, done))
                        del done  # so that an image is freed once the writer has done with it
                    else:
                        while behind:  # this may take hours: what is done before is told before
                            yield behind.popleft().result()
                        yield done()
                        continue
                except RestoreError as error:
                    yield self._without_result(job, error, time.monotonic() - began)
                while behind and (len(behind) > waiting or behind[0].done()):
                    yield behind.popleft().result()
            while behind:
                yield behind.popleft().result()

    def _restorations(
        self, coming: Iterator[_Coming], waiting: int, on_tile: OnTile | None
    ) -> Iterator[tuple[Job, Callable[[], _Done | Callable[[], Result]]]]:
        """Yield each job with what restores it, where `waiting` images are read ahead.

        That returns a call for what is restored and written at the same time: videos and giants.
        Small images of one size are restored together when the first of them comes.
        """
        ahead = deque(islice(coming, waiting))
        while ahead:
            group = [ahead.popleft() for _ in range(self._at_once(ahead))]
            ahead.extend(islice(coming, len(group)))
            calls: list[Callable[[], _Done | Callable[[], Result]]] = [
                partial(self._restore, each, _within(each.index, on_tile), len(group))
                for each in group
            ]
            if len(group) > 1:
                from restore_cli.inference.together import together  # loads torch

                calls = [pending.result for pending in together(calls)]
            yield from zip((each.job for each in group), calls, strict=True)

    def _at_once(self, ahead: Sequence[_Coming]) -> int:
        """Return how many of the next images are restored together, of those that are read."""
        size = ahead[0].size()
        if size is None:
            return 1
        most = batch_size(self.restorer.device, *size)
        alike = takewhile(
            lambda each: each.is_read() and each.size() == size, islice(ahead, 1, most)
        )
        return _power_of_two(1 + sum(1 for _ in alike))

    def _read(self, job: Job) -> _Loaded | int:
        """Read the image of a job; of a giant return what it takes on disk."""
        began = time.monotonic()
        refuse_existing(job, self.options.existing)
        name = job.source.value if isinstance(job.source, Standard) else str(job.source)
        with enough_memory(name):
            if isinstance(job.source, Standard):
                data = self.options.stdin
            else:
                with local_copy(job.source, limit=LARGEST_FILE) as path:
                    need = self._disk_need(path, job)
                    if need is not None:
                        return need
                    data = contents(path, name=name)
            image = decode_unreported(data, name=name, device=self.restorer.device)
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

    def _disk_need(self, source: Path, job: Job) -> int | None:
        """Return what a job takes on disk that is done band by band, None for others."""
        if isinstance(job.target, Standard):
            return None
        try:
            return disk_need(source, cast(Format, job.format), self.restorer, job.size)
        except RestoreError:  # decoding reports it
            return None

    def _restore(
        self, coming: _Coming, on_progress: OnProgress | None, at_once: int
    ) -> _Done | Callable[[], Result]:
        """Restore an image that has been read, one of so many at once.

        Return a call for what is written while it is restored.
        """
        if coming.loaded is None:
            return partial(self._video, coming.job, on_progress)
        loaded = coming.loaded.result()
        if isinstance(loaded, int):
            return partial(self._giant, coming.job, loaded, on_progress)
        began = time.monotonic()
        with enough_memory():
            animation, image = loaded.animation, loaded.image
            if not isinstance(self.restorer, LightUpscaler):
                image = image.as_tensors()
            restored = self.restorer(image, on_progress=None if animation else on_progress)
            if animation is not None:
                animation = animation.through(lambda frame: self.restorer(frame).image, on_progress)
        seconds = loaded.seconds + (time.monotonic() - began) / at_once
        return _Done(restored, animation, loaded.sha256, seconds)

    def _video(self, job: Job, on_frame: OnProgress | None) -> Result:
        from restore_cli.batch.video import restore_video  # images need not wait for FFmpeg

        assert not isinstance(job.source, Standard) and not isinstance(job.target, Standard)
        began = time.monotonic()
        refuse_existing(job, self.options.existing)
        with enough_memory(str(job.source)):
            video = restore_video(
                job.source,
                job.target,
                self.restorer,
                format=cast(Container, job.format),
                quality=self.options.quality,
                overwrite=may_replace(job, self.options.existing),
                on_frame=on_frame,
            )
        return Result(
            job,
            "ok",
            time.monotonic() - began,
            report=Report(tuple(replace(step, rain=None) for step in video.report.steps)),
            frames=video.frames,
            width=video.width,
            height=video.height,
            sha256=sha256_of(job.target) if self.options.checksums else None,
        )

    def _giant(self, job: Job, need: int, on_progress: OnProgress | None) -> Result:
        assert not isinstance(job.source, Standard) and not isinstance(job.target, Standard)
        began, command = time.monotonic(), self.options.record
        with enough_memory(str(job.source)):
            restored = restore_giant(
                job.source,
                job.target,
                need,
                self.restorer,
                format=cast(Format, job.format),
                quality=self.options.quality,
                compress=self.options.compress,
                overwrite=may_replace(job, self.options.existing),
                record=None if command is None else partial(self._record, command, job),
                on_progress=on_progress,
            )
        return Result(
            job,
            "ok",
            time.monotonic() - began,
            report=restored.report,
            width=restored.image.width,
            height=restored.image.height,
            sha256=sha256_of(job.target) if self.options.checksums else None,
        )

    def _write(self, job: Job, done: _Done) -> Result:
        began = time.monotonic()
        image = done.restored.image
        command = self.options.record
        if command is not None:
            record = self._record(command, job, done.restored.report, done.source_sha256)
            image = replace(image, metadata=replace(image.metadata, record=record))
        try:
            with enough_memory():
                data = encode(
                    image,
                    format=cast(Format, job.format),  # videos are written elsewhere
                    quality=self.options.quality,
                    compress=self.options.compress,
                    name=str(image.source or Standard.INPUT.value),
                    animation=done.animation,
                )
            if isinstance(job.target, Standard):
                assert self.options.stdout is not None  # whoever plans for stdout hands it over
                pipe_out(data, self.options.stdout)
            else:
                refuse_source(image.source, job.target)
                overwrite = may_replace(job, self.options.existing)
                write_atomically(job.target, data, overwrite=overwrite, hint=ELSEWHERE)
        except RestoreError as error:
            return self._without_result(job, error, done.seconds + time.monotonic() - began)
        return Result(
            job,
            "ok",
            done.seconds + time.monotonic() - began,
            report=done.restored.report,
            width=image.width,
            height=image.height,
            sha256=sha256_of(data) if self.options.checksums else None,
        )

    def _record(self, command: CommandRecord, job: Job, report: Report, sha256: str) -> str:
        """Return the record of a result as text."""
        name = job.source.value if isinstance(job.source, Standard) else job.source.name
        format = cast(Format, job.format)
        quality = self.options.quality
        return to_text(
            restored_record(command, name, sha256, report.steps, format=format, quality=quality)
        )

    def _without_result(self, job: Job, error: RestoreError, seconds: float) -> Result:
        """Return the result of a job that wrote nothing: another run may have been faster."""
        if self.options.existing == "skip" and isinstance(error, OutputExists):
            return Result(job, "skipped", seconds)
        return Result(job, "failed", seconds, without_frames(error))


def _within(index: int, on_tile: OnTile | None) -> OnProgress | None:
    if on_tile is None:
        return None
    return lambda done, total: on_tile(index, done, total)


def batch_size(device: torch.device, height: int, width: int) -> int:
    """Return how many images of a size are worth a batch on a device.

    On a CPU one: a batch pays for less than 2^13 pixels only (docs/performance.md).
    """
    return 1 if device.type == "cpu" else min(BATCH, BATCH_PIXELS // (height * width))


def _power_of_two(count: int) -> int:
    """Return the largest power of two that is not above `count`: so batches have few shapes."""
    return 1 << count.bit_length() - 1


def _codec_threads(device: torch.device) -> int:
    """Return the threads that decode, which is also the least of those that encode.

    Beside a GPU all cores are theirs; a network on the CPU takes the cores itself.
    """
    return 1 if device.type == "cpu" else max(1, min(MOST_THREADS, (os.cpu_count() or 1) // 2))


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


def pipe_out(data: bytes, stdout: BinaryIO) -> None:
    """Write an image to stdout. Raises OutputError."""
    try:
        stdout.write(data)
        stdout.flush()
    except BrokenPipeError:
        raise  # no failure: the reader wants no more
    except OSError as error:
        raise OutputError(f"stdout: {error.strerror}") from error
