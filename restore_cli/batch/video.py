"""Restoration of videos frame by frame; reading, computing and encoding overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from restore_cli.imaging.formats import MUXINGS, Container, refuse_beyond_codec
from restore_cli.imaging.image import Image
from restore_cli.imaging.transfer import CPU, beside, home_of
from restore_cli.imaging.video.reader import Clip, Frame, open_clip
from restore_cli.imaging.video.writer import ClipWriter, writing
from restore_cli.imaging.video.yuv import Planes, from_rgb, to_luma, to_rgb, with_change, with_luma
from restore_cli.inference.chain import Chain
from restore_cli.inference.report import Report, Restored
from restore_cli.inference.restorer import Restorer
from restore_cli.inference.upscaler import Upscaler
from restore_cli.storage import Location
from restore_cli.worker import Pending, Worker

WAITING = 2  # most frames that wait before the network, and behind it

OnFrame = Callable[[int, int], None]  # (frames done, total)


@dataclass(frozen=True)
class RestoredVideo:
    """Size and number of frames of a written video."""

    width: int
    height: int
    frames: int
    report: Report  # of the last frame


class RestoresImages(Protocol):
    def size_after(self, height: int, width: int) -> tuple[int, int]: ...

    def __call__(self, image: Image) -> Restored: ...


class FrameConverter(Protocol):
    """Conversion of frames to the input of a network, and of its output to frames.

    `prepare` and `finish` run in threads of their own, concurrently with `restore`.
    """

    device: torch.device  # of the planes

    def prepare(self, planes: Planes) -> Tensor: ...

    def restore(self, prepared: Tensor) -> tuple[Tensor, Report]: ...

    def finish(self, planes: Planes, prepared: Tensor, restored: Tensor) -> Planes: ...


class LumaFrames:
    """Restores stored luma without conversion to RGB; chroma keeps its subsampling."""

    def __init__(self, restorer: Restorer | Upscaler):
        self.restore = restorer.run_luma
        self.device = home_of(restorer.device)

    def prepare(self, planes: Planes) -> Tensor:
        return to_luma(planes)

    def finish(self, planes: Planes, prepared: Tensor, restored: Tensor) -> Planes:
        return with_luma(planes, restored)


class RgbFrames:
    """Restores frames in RGB."""

    def __init__(self, restorer: RestoresImages, device: torch.device = CPU):
        self.restorer, self.device = restorer, device

    def prepare(self, planes: Planes) -> Tensor:
        return to_rgb(planes)

    def restore(self, prepared: Tensor) -> tuple[Tensor, Report]:
        restored = self.restorer(Image(prepared))
        return restored.image.pixels, restored.report

    def finish(self, planes: Planes, prepared: Tensor, restored: Tensor) -> Planes:
        if restored.shape != prepared.shape:
            return from_rgb(restored, planes.layout)
        return with_change(planes, prepared, restored)


def frame_converter(restorer: RestoresImages) -> FrameConverter:
    """Choose the conversion for a restorer: luma if it needs nothing else."""
    if isinstance(restorer, Restorer | Upscaler) and restorer.luma_alone:
        return LumaFrames(restorer)
    if isinstance(restorer, Restorer | Upscaler | Chain):
        return RgbFrames(restorer, home_of(restorer.device))
    return RgbFrames(restorer)


def restore_video(
    source: Location,
    target: Location,
    restorer: RestoresImages,
    *,
    format: Container,
    quality: int | None = None,
    overwrite: bool = False,
    on_frame: OnFrame | None = None,
) -> RestoredVideo:
    """Restore each frame of a video; the result is complete or absent.

    Raises UnreadableVideo, OutputError, and what the restorer raises.
    """
    with open_clip(source) as clip:
        codec = MUXINGS[format].codec(clip.bits)
        refuse_beyond_codec(codec, *restorer.size_after(*clip.size), name=str(target))
        with writing(clip, target, format=format, quality=quality, overwrite=overwrite) as writer:
            return _Pipeline(clip, frame_converter(restorer), writer).run(on_frame)


class _Pipeline:
    """A pipeline of three threads for one clip: reader, network, encoder."""

    def __init__(self, clip: Clip, converter: FrameConverter, writer: ClipWriter):
        self.clip, self.converter, self.writer = clip, converter, writer
        self.frames = clip.frames()

    def run(self, on_frame: OnFrame | None) -> RestoredVideo:
        behind: deque[Pending[Planes]] = deque()
        count, expected = 0, self.clip.expected
        with (
            closing(self.frames),
            Worker() as reader,
            Worker() as encoder,
        ):
            ahead = deque(reader.submit(self._read) for _ in range(WAITING))
            while (coming := ahead.popleft().result()) is not None:
                ahead.append(reader.submit(self._read))
                frame, prepared = coming
                restored, report = self.converter.restore(prepared)
                behind.append(encoder.submit(self._write, frame, prepared, restored))
                if len(behind) > WAITING:
                    behind.popleft().result()
                count += 1
                if on_frame is not None:
                    on_frame(count, max(count, expected or 0))
            last = [pending.result() for pending in behind][-1]
        return RestoredVideo(last.width, last.height, count, report)

    def _read(self) -> tuple[Frame, Tensor] | None:
        frame = next(self.frames, None)
        if frame is None:
            return None
        with beside(self.converter.device, "upload"):
            planes = frame.planes.to(self.converter.device)
        return replace(frame, planes=planes), self.converter.prepare(planes)

    def _write(self, frame: Frame, prepared: Tensor, restored: Tensor) -> Planes:
        with beside(self.converter.device, "download"):
            planes = self.converter.finish(frame.planes, prepared, restored).to(CPU)
        self.writer.write(replace(frame, planes=planes))
        return planes
