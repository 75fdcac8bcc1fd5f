"""Writing of videos: frames are encoded one by one, audio and subtitles are copied.

Sizes, timestamps and colour tags are preserved; `formats` names the codecs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO

import av
import numpy as np
from av.codec.context import Flags
from av.stream import Stream
from torch import Tensor

from restore_cli.errors import OutputError
from restore_cli.files import atomic_path
from restore_cli.imaging.formats import MUXINGS, Container, Muxing
from restore_cli.imaging.io import refuse_source
from restore_cli.imaging.video.reader import ALPHA_MODE, NAME_OF_FORMAT, Clip, Frame
from restore_cli.imaging.video.yuv import Planes, with_full_chroma
from restore_cli.storage import Location

logger = logging.getLogger(__name__)

ODD_SIZES = ("libvpx-vp9",)  # codecs that take odd sizes with subsampled chroma
ELSEWHERE = "choose another place with -o"
QUALITY = 90  # by default: visually lossless


class ClipWriter:
    """A video being written, made by `writing`."""

    def __init__(
        self,
        container: av.container.OutputContainer,
        clip: Clip,
        target: Location,
        format: Container,
        quality: int | None,
    ):
        self.container = container
        self.clip = clip
        self.target = target
        self.muxing = MUXINGS[format]
        self.quality = QUALITY if quality is None else quality
        self._stream: av.VideoStream | None = None
        self._count = 0  # frames
        self._copies: dict[int, Stream] = {}
        self._check_streams()

    def write(self, frame: Frame) -> None:
        """Encode a frame of the same size as the first. Raises OutputError."""
        with _failures_of(self.target):
            planes = self._with_even_size(frame.planes)
            if self._stream is None:
                self._stream = self._begin(planes)
            image = _image(planes)
            image.pts, image.time_base = frame.time, self.clip.time_base
            image.duration = frame.duration
            self._count += 1
            self.container.mux(self._stream.encode(image))
            for packet in frame.packets:
                self._copy(packet)

    def finish(self) -> None:
        """Flush the encoder and close the file. Raises OutputError."""
        with _failures_of(self.target):
            if self._stream is not None:
                packets = self._stream.encode()
                if self._count <= 2:  # x265 leaves dts undefined in such short videos
                    for packet in packets:
                        packet.dts = packet.pts
                self.container.mux(packets)
            self.container.close()

    def _begin(self, planes: Planes) -> av.VideoStream:
        clip, layout = self.clip, planes.layout
        name = self._codec(layout.bits)
        options = _codec_options(name, self.quality)
        stream = self.container.add_stream(name, rate=clip.rate, options=options)
        assert isinstance(stream, av.VideoStream)
        context = stream.codec_context
        context.width, context.height = planes.width, planes.height
        context.pix_fmt = NAME_OF_FORMAT[layout.down, layout.across, layout.bits]
        context.time_base = stream.time_base = clip.time_base
        context.flags |= Flags.frame_duration  # else the last frame repeats the previous duration
        if clip.pixel_aspect:
            context.sample_aspect_ratio = clip.pixel_aspect
        colour = clip.colour
        context.color_range, context.colorspace = colour.range, colour.matrix
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        if name == "libx265" and self.muxing.quicktime:
            context.codec_tag = "hvc1"  # the only tag that Apple's players accept
        tags = clip.stream.metadata
        stream.metadata.update({tag: tags[tag] for tag in tags if tag.lower() != ALPHA_MODE})
        self.container.metadata.update(clip.container.metadata)
        self.container.set_chapters(clip.container.chapters())
        for source in clip.copied:
            copy = self.container.add_stream_from_template(source)
            copy.metadata.update(source.metadata)
            self._copies[source.index] = copy
        return stream

    def _copy(self, packet: av.Packet[Stream]) -> None:
        if packet.pts is not None:
            shift = round(self.clip.start / packet.time_base)
            packet.pts -= shift
            packet.dts = packet.pts if packet.dts is None else packet.dts - shift
        packet.stream = self._copies[packet.stream.index]
        self.container.mux_one(packet)

    def _with_even_size(self, planes: Planes) -> Planes:
        """Return planes with full chroma if the codec cannot subsample chroma of an odd size."""
        layout = planes.layout
        odd = planes.height % layout.down or planes.width % layout.across
        if not odd or self._codec(layout.bits) in ODD_SIZES:
            return planes
        if self._stream is None:
            logger.warning(
                "%s: the size %dx%d is odd: written with full chroma (4:4:4), which some players "
                "cannot show",
                self.target,
                planes.width,
                planes.height,
            )
        return with_full_chroma(planes)

    def _codec(self, bits: int) -> str:
        return self.muxing.codec(bits)

    def _check_streams(self) -> None:
        """Refuse audio that the container cannot hold; drop such subtitles with a warning."""
        for stream in list(self.clip.copied):
            if _can_hold(self.muxing, stream):
                continue
            name = stream.codec_context.codec.canonical_name
            if stream.type == "audio":
                raise OutputError(
                    f"{self.target}: {self.muxing.container} cannot hold the audio codec {name}",
                    hint="choose .mkv, which holds any codec, for example -o out.mkv",
                )
            logger.warning(
                "%s: subtitles dropped: %s cannot hold %s", self.target, self.muxing.container, name
            )
            self.clip.copied.remove(stream)


def _can_hold(muxing: Muxing, stream: Stream) -> bool:
    """Test by writing a header: some containers list a codec, but refuse it there."""
    with av.open(BytesIO(), "w", format=muxing.muxer) as trial:
        try:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
        except (av.FFmpegError, ValueError):
            return False
    return True


@contextmanager
def writing(
    clip: Clip, target: Location, *, format: Container, quality: int | None, overwrite: bool
) -> Iterator[ClipWriter]:
    """Open a video for writing; the file appears at the end, complete, and not after an error.

    quality: 1 to 100. Missing folders are created.
    Raises OutputExists, OutputCollision, OutputError.
    """
    with _failures_of(target):
        refuse_source(clip.source, target)
    muxing = MUXINGS[format]
    options = {"movflags": "faststart"} if muxing.quicktime else {}
    with atomic_path(target, overwrite=overwrite, hint=ELSEWHERE) as part:
        with _failures_of(target):
            container = av.open(f"file:{part}", "w", format=muxing.muxer, options=options)
        try:
            writer = ClipWriter(container, clip, target, format, quality)
            yield writer
            writer.finish()
        finally:
            with suppress(av.FFmpegError, OSError):
                container.close()


@contextmanager
def _failures_of(target: Location) -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise OutputError(f"{target}: {error.strerror or error}", hint=ELSEWHERE) from error


def _codec_options(codec: str, quality: int) -> dict[str, str]:
    crf = 51 - 0.37 * quality  # of x264: 17.7 at 90, 23 (its default) at 75, 14 at 100
    if codec == "libvpx-vp9":
        good = {"deadline": "good", "cpu-used": "4", "row-mt": "1"}
        return {"crf": str(round(crf * 63 / 51)), "b": "0", **good}
    options = {"crf": f"{crf:.1f}", "preset": "medium"}
    if codec == "libx265":
        options["x265-params"] = "log-level=none"  # else it prints to stderr
    return options


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
