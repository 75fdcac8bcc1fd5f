"""Videos to disk: frames encoded as they come, sound and subtitles copied packet by packet.

H.264 for 8 bits and HEVC for 10 (whose H.264 hardly any device shows), VP9 in WebM. Sizes, time
stamps and colours stay what they were.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags
from av.stream import Stream
from torch import Tensor

from restore_cli.errors import OutputError
from restore_cli.files import atomic_path
from restore_cli.imaging.formats import Container
from restore_cli.imaging.io import refuse_source
from restore_cli.imaging.video.reader import NAME_OF_FORMAT, Clip, Frame
from restore_cli.imaging.video.yuv import Planes, with_full_chroma

logger = logging.getLogger(__name__)

MUXERS: dict[Container, str] = {"mp4": "mp4", "mov": "mov", "mkv": "matroska", "webm": "webm"}
ELSEWHERE = "choose another place with -o"
QUALITY = 90  # if none is asked for: nothing is seen to be missing


class ClipWriter:
    """A video that is being written. Use `writing`."""

    def __init__(
        self,
        container: av.container.OutputContainer,
        clip: Clip,
        target: Path,
        format: Container,
        quality: int | None,
    ):
        self.container = container
        self.clip = clip
        self.target = target
        self.format = format
        self.quality = QUALITY if quality is None else quality
        self._stream: av.VideoStream | None = None
        self._count = 0  # of frames
        self._copies: dict[int, Stream] = {}
        self._refuse_what_does_not_fit()

    def write(self, frame: Frame) -> None:
        """Encode a frame; all must be as large as the first. Raises OutputError."""
        with _failures_of(self.target):
            planes = self._fitting(frame.planes)
            if self._stream is None:
                self._stream = self._begin(planes)
            image = _image(planes)
            image.pts, image.time_base = frame.time, self.clip.time_base
            image.duration = frame.duration
            self._count += 1
            self.container.mux(self._stream.encode(image))
            for packet in frame.passing:
                self._copy(packet)

    def finish(self) -> None:
        """Encode what is waiting, and close the file. Raises OutputError."""
        with _failures_of(self.target):
            if self._stream is not None:
                packets = self._stream.encode()
                if self._count <= 2:  # x265 leaves the order of decoding undefined in these
                    for packet in packets:
                        packet.dts = packet.pts
                self.container.mux(packets)
            self.container.close()

    def _begin(self, planes: Planes) -> av.VideoStream:
        clip, layout = self.clip, planes.layout
        name, options = _encoder(self.format, layout.bits, self.quality)
        stream = self.container.add_stream(name, rate=clip.rate, options=options)
        assert isinstance(stream, av.VideoStream)
        context = stream.codec_context
        context.width, context.height = planes.width, planes.height
        context.pix_fmt = NAME_OF_FORMAT[layout.down, layout.across, layout.bits]
        context.time_base = stream.time_base = clip.time_base
        context.flags |= Flags.frame_duration  # else the last frame gets that of the one before
        if clip.pixel_aspect:
            context.sample_aspect_ratio = clip.pixel_aspect
        colour = clip.colour
        context.color_range, context.colorspace = colour.range, colour.matrix
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        if name == "libx265" and self.format in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # players of Apple's know it by no other name
        stream.metadata.update(clip.stream.metadata)
        self.container.metadata.update(clip.container.metadata)
        for passed in clip.passing:
            copy = self.container.add_stream_from_template(passed)
            copy.metadata.update(passed.metadata)
            self._copies[passed.index] = copy
        return stream

    def _copy(self, packet: av.Packet[Stream]) -> None:
        if packet.pts is not None:
            shift = round(self.clip.start / packet.time_base)
            packet.pts -= shift
            packet.dts = packet.pts if packet.dts is None else packet.dts - shift
        packet.stream = self._copies[packet.stream.index]
        self.container.mux_one(packet)

    def _fitting(self, planes: Planes) -> Planes:
        """H.264 and HEVC have no odd sizes where pixels share chroma; so none do."""
        layout = planes.layout
        odd = planes.height % layout.down or planes.width % layout.across
        if not odd or self.format == "webm":
            return planes
        if self._stream is None:
            logger.warning(
                "%s: %dx%d is odd, so it is written with full chroma (4:4:4), which some players "
                "do not show",
                self.target,
                planes.width,
                planes.height,
            )
        return with_full_chroma(planes)

    def _refuse_what_does_not_fit(self) -> None:
        """Sound that the container cannot hold; subtitles are left out."""
        for stream in list(self.clip.passing):
            if _holds(self.format, stream):
                continue
            name = stream.codec_context.codec.canonical_name
            if stream.type == "audio":
                raise OutputError(
                    f"{self.target}: {self.format} cannot hold its sound, {name}",
                    hint="choose .mkv, which holds any, for example -o out.mkv",
                )
            logger.warning("%s: %s cannot hold its subtitles, %s", self.target, self.format, name)
            self.clip.passing.remove(stream)


def _holds(format: Container, stream: Stream) -> bool:
    """By trial: a container may know a codec and refuse it in its header all the same."""
    with av.open(BytesIO(), "w", format=MUXERS[format]) as trial:
        try:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
        except (av.FFmpegError, ValueError):
            return False
    return True


@contextmanager
def writing(
    clip: Clip, target: Path, *, format: Container, quality: int | None, overwrite: bool
) -> Iterator[ClipWriter]:
    """What writes the video; it gets its name at the end, unless an error comes before.

    quality: 1-100. Missing folders are made.
    Raises OutputExists, OutputCollision, OutputError.
    """
    with _failures_of(target):
        refuse_source(clip.source, target)
    options = {"movflags": "faststart"} if format in ("mp4", "mov") else {}
    with atomic_path(target, overwrite=overwrite, hint=ELSEWHERE) as part:
        with _failures_of(target):
            container = av.open(f"file:{part}", "w", format=MUXERS[format], options=options)
        try:
            writer = ClipWriter(container, clip, target, format, quality)
            yield writer
            writer.finish()
        finally:
            with suppress(av.FFmpegError, OSError):
                container.close()


@contextmanager
def _failures_of(target: Path) -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise OutputError(f"{target}: {error.strerror or error}", hint=ELSEWHERE) from error


def _encoder(format: Container, bits: int, quality: int) -> tuple[str, dict[str, str]]:
    """The codec, and its options. In all three, a lower `crf` is a better image."""
    crf = 51 - 0.37 * quality  # x264's: 17.7 at 90, 23 (its own default) at 75, 14 at 100
    if format == "webm":
        good = {"deadline": "good", "cpu-used": "4", "row-mt": "1"}
        return "libvpx-vp9", {"crf": str(round(crf * 63 / 51)), "b": "0", **good}
    options = {"crf": f"{crf:.1f}", "preset": "medium"}
    if bits == 8:
        return "libx264", options
    return "libx265", options | {"x265-params": "log-level=none"}  # it writes to stderr itself


def _image(planes: Planes) -> av.VideoFrame:
    layout = planes.layout
    name = NAME_OF_FORMAT[layout.down, layout.across, layout.bits]
    image = av.VideoFrame(planes.width, planes.height, name)
    samples = (planes.luma, planes.chroma[0], planes.chroma[1])
    for plane, levels in zip(image.planes, samples, strict=True):
        _fill(plane, levels, layout.bits)
    return image


def _fill(plane: av.video.plane.VideoPlane, levels: Tensor, bits: int) -> None:
    room = np.frombuffer(memoryview(plane), np.uint8 if bits == 8 else np.uint16)
    per_line = plane.line_size // room.itemsize
    room.reshape(-1, per_line)[: plane.height, : plane.width] = levels.numpy()
