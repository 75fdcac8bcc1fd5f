"""A video through one network, frame by frame; reading, computing and encoding overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from torch import Tensor

from restore_cli.imaging.formats import Container
from restore_cli.imaging.image import Image
from restore_cli.imaging.video.reader import Clip, Frame, open_clip
from restore_cli.imaging.video.writer import ClipWriter, writing
from restore_cli.imaging.video.yuv import Planes, changed, from_rgb, to_luma, to_rgb, with_luma
from restore_cli.inference.report import Report, Restored
from restore_cli.inference.restorer import Restorer
from restore_cli.inference.upscaler import Upscaler

WAITING = 2  # frames at most on either side of the network

OnFrame = Callable[[int, int], None]  # frames done, frames in all


@dataclass(frozen=True)
class RestoredVideo:
    """What was written."""

    width: int
    height: int
    frames: int
    report: Report  # of the last frame


class RestoresImages(Protocol):
    def __call__(self, image: Image) -> Restored: ...


class Way(Protocol):
    """What of a frame a network is given, and how its answer becomes a frame again.

    `prepare` and `finish` run beside the network, in threads of their own.
    """

    def prepare(self, planes: Planes) -> Tensor: ...

    def restore(self, prepared: Tensor) -> tuple[Tensor, Report]: ...

    def finish(self, planes: Planes, prepared: Tensor, restored: Tensor) -> Planes: ...


class LumaFrames:
    """Luma as it is stored, without a detour through RGB: chroma never leaves its own size."""

    def __init__(self, restorer: Restorer | Upscaler):
        self.restore = restorer.run_luma

    def prepare(self, planes: Planes) -> Tensor:
        return to_luma(planes)

    def finish(self, planes: Planes, prepared: Tensor, restored: Tensor) -> Planes:
        return with_luma(planes, restored)


class RgbFrames:
    def __init__(self, restorer: RestoresImages):
        self.restorer = restorer

    def prepare(self, planes: Planes) -> Tensor:
        return to_rgb(planes)

    def restore(self, prepared: Tensor) -> tuple[Tensor, Report]:
        restored = self.restorer(Image(prepared))
        return restored.image.pixels, restored.report

    def finish(self, planes: Planes, prepared: Tensor, restored: Tensor) -> Planes:
        if restored.shape != prepared.shape:
            return from_rgb(restored, planes.layout)
        return changed(planes, prepared, restored)


def frame_converter(restorer: RestoresImages) -> Way:
    if isinstance(restorer, Restorer | Upscaler) and restorer.luma_alone:
        return LumaFrames(restorer)
    return RgbFrames(restorer)


def restore_video(
    source: Path,
    target: Path,
    restorer: RestoresImages,
    *,
    format: Container,
    quality: int | None = None,
    overwrite: bool = False,
    on_frame: OnFrame | None = None,
) -> RestoredVideo:
    """Restore each frame of a video into another, which appears whole or not at all.

    Raises UnreadableVideo, OutputError, and what the restorer raises.
    """
    with (
        open_clip(source) as clip,
        writing(clip, target, format=format, quality=quality, overwrite=overwrite) as writer,
    ):
        return _Relay(clip, frame_converter(restorer), writer).run(on_frame)


class _Relay:
    """One clip on its way from a thread that reads, by the network, to one that writes."""

    def __init__(self, clip: Clip, way: Way, writer: ClipWriter):
        self.clip, self.way, self.writer = clip, way, writer
        self.frames = clip.frames()

    def run(self, on_frame: OnFrame | None) -> RestoredVideo:
        reader = ThreadPoolExecutor(1, "restore-decoder")
        encoder = ThreadPoolExecutor(1, "restore-encoder")
        ahead = deque(reader.submit(self._read) for _ in range(WAITING))
        behind: deque[Future[Planes]] = deque()
        count, expected = 0, self.clip.expected
        try:
            while (coming := ahead.popleft().result()) is not None:
                ahead.append(reader.submit(self._read))
                frame, prepared = coming
                restored, report = self.way.restore(prepared)
                behind.append(encoder.submit(self._write, frame, prepared, restored))
                if len(behind) > WAITING:
                    behind.popleft().result()
                count += 1
                if on_frame is not None:
                    on_frame(count, max(count, expected or 0))
            last = [future.result() for future in behind][-1]
        finally:
            reader.shutdown(cancel_futures=True)
            encoder.shutdown(cancel_futures=True)
            self.frames.close()
        return RestoredVideo(last.width, last.height, count, report)

    def _read(self) -> tuple[Frame, Tensor] | None:
        frame = next(self.frames, None)
        return None if frame is None else (frame, self.way.prepare(frame.planes))

    def _write(self, frame: Frame, prepared: Tensor, restored: Tensor) -> Planes:
        planes = self.way.finish(frame.planes, prepared, restored)
        self.writer.write(replace(frame, planes=planes))
        return planes
