"""Reading of videos frame by frame, with the packets of audio and subtitles between frames.

A frame keeps its timestamp, so that a variable frame rate is preserved. The rotation stated in the
file is applied, as in players.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import torch
from av.sidedata.sidedata import SideData
from av.stream import Disposition, Stream
from torch import Tensor

from restore_cli.errors import UnreadableVideo
from restore_cli.files import local_copy
from restore_cli.imaging.video.containers import missing_bytes
from restore_cli.imaging.video.yuv import Layout, Matrix, Planes, rotated
from restore_cli.storage import Location

logger = logging.getLogger(__name__)

PIXEL_FORMATS = {  # read without conversion, and written: (rows, columns, bits) of chroma
    "yuv420p": (2, 2, 8),
    "yuv422p": (1, 2, 8),
    "yuv444p": (1, 1, 8),
    "yuv420p10le": (2, 2, 10),
    "yuv422p10le": (1, 2, 10),
    "yuv444p10le": (1, 1, 10),
}
NAME_OF_FORMAT = {layout: name for name, layout in PIXEL_FORMATS.items()}

# Codes of ITU-T H.273.
MATRICES: dict[int, Matrix] = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 7: "bt601"}
MATRICES |= {9: "bt2020", 10: "bt2020"}
TAG_OF_MATRIX: dict[Matrix, int] = {"bt709": 1, "bt601": 6, "bt2020": 9}
UNSPECIFIED = 2
HIGH_DEFINITION = (1280, 577)  # width, height; from either on, players assume BT.709
STUDIO, FULL = 1, 2  # ranges, FFmpeg's codes

# Side data of frames that is not written, by FFmpeg's name.
LEFT_OUT = {
    **dict.fromkeys(("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"), "its mastering data"),
    **dict.fromkeys(("DYNAMIC_HDR_PLUS", "DYNAMIC_HDR_VIVID"), "its dynamic HDR data"),
    **dict.fromkeys(("DOVI_METADATA", "DOVI_RPU_BUFFER"), "its Dolby Vision data"),
    "A53_CC": "its closed captions",
    "SPHERICAL": "its spherical projection",
    "STEREO3D": "its stereo layout",
}
ALPHA_MODE = "alpha_mode"  # tag of VP8 and VP9, whose alpha FFmpeg's own decoders skip

FALLBACK_RATE = Fraction(25)


@dataclass(frozen=True)
class Colour:
    """Colour tags of a video: codes of H.273 and FFmpeg."""

    range: int
    matrix: int
    primaries: int
    transfer: int


@dataclass(frozen=True)
class Frame:
    """One upright image of a video."""

    planes: Planes
    time: int  # in units of the clip's time_base
    duration: int  # until the next frame; of the last one as stated in the file
    packets: tuple[av.Packet[Stream], ...] = ()  # audio and subtitles until the next frame


class Clip:
    """A video open for reading, made by `open_clip`."""

    def __init__(self, container: av.container.InputContainer, source: Location):
        self.source = source
        self.container = container
        self.stream = _first_video(container, source)
        self.stream.thread_type = "AUTO"
        # A damaged frame is an error; FFmpeg must not conceal it.
        self.stream.codec_context.options = {"err_detect": "explode"}
        self.copied = [  # streams of audio and subtitles
            stream
            for stream in (*container.streams.audio, *container.streams.subtitles)
            if stream.codec_context is not None  # None: unknown to FFmpeg
        ]
        self.time_base = self.stream.time_base or Fraction(1, 90_000)
        self.rate = self.stream.average_rate or self.stream.guessed_rate or FALLBACK_RATE
        self.start = Fraction(max(container.start_time or 0, 0), av.time_base)
        self._first: tuple[int, int, str] | None = None
        self._turn = (0, False)
        self._last: int | None = None

    @property
    def expected(self) -> int | None:
        """Return the approximate number of frames, if the file states its duration."""
        if self.stream.duration:
            return max(1, round(self.stream.duration * self.time_base * self.rate))
        if self.container.duration:
            return max(1, round(self.container.duration * self.rate / av.time_base))
        return None

    @property
    def size(self) -> tuple[int, int]:
        """Return the (H, W) that the file states, before any rotation."""
        return self.stream.codec_context.height, self.stream.codec_context.width

    @property
    def bits(self) -> int:
        """Return the bits of a level, 8 or 10, as the file states them."""
        stated = self.stream.codec_context.format
        deep = stated is not None and max(component.bits for component in stated.components) > 8
        return 10 if deep else 8

    @property
    def colour(self) -> Colour:
        """Return the colour tags, known after the first frame; absent ones are guessed."""
        context = self.stream.codec_context
        return Colour(
            range=FULL if self._is_full_range() else STUDIO,
            matrix=context.colorspace if context.colorspace in MATRICES else self._guessed_matrix(),
            primaries=context.color_primaries,
            transfer=context.color_trc,
        )

    @property
    def pixel_aspect(self) -> Fraction | None:
        """Return the width of an upright pixel divided by its height."""
        aspect = self.stream.codec_context.sample_aspect_ratio or self.stream.sample_aspect_ratio
        return 1 / aspect if aspect and self._turn[0] % 2 else aspect or None

    def frames(self) -> Generator[Frame, None, None]:
        """Yield all frames in display order. Raises UnreadableVideo."""
        previous: Frame | None = None
        packets: list[av.Packet[Stream]] = []
        for packet in self._packets():
            if packet.stream.index != self.stream.index:  # set also for the empty packet at the end
                if packet.dts is not None:
                    packets.append(packet)
                continue
            for image in self._decoded(packet):
                frame = self._frame(image)
                if previous is not None:
                    yield replace(
                        previous, duration=frame.time - previous.time, packets=tuple(packets)
                    )
                    packets = []
                previous = frame
        if previous is None:
            raise UnreadableVideo(f"{self.source}: no readable frame")
        yield replace(previous, packets=tuple(packets))

    def _packets(self) -> Iterator[av.Packet[Stream]]:
        try:
            yield from self.container.demux(self.stream, *self.copied)
        except av.FFmpegError as error:
            raise self._broken(str(error.strerror)) from error

    def _decoded(self, packet: av.Packet[Stream]) -> Sequence[av.VideoFrame]:
        """Decode the frames completed by a packet; skip damage before the first whole frame."""
        try:
            images = self.stream.decode(packet)
        except av.FFmpegError as error:
            if self._first is None:
                return ()  # a recording may start anywhere in a broadcast
            raise self._broken(str(error.strerror)) from error
        damaged = packet.is_corrupt or any(image.is_corrupt for image in images)
        if damaged and self._first is not None:
            raise self._broken("damaged data")
        return () if damaged else images

    def _broken(self, why: str) -> UnreadableVideo:
        after = f"at {float((self._last or 0) * self.time_base):.1f} s: " if self._last else ""
        return UnreadableVideo(
            f"{self.source}: damaged {after}{why}",
            hint="get the file again, or cut it earlier",
        )

    def _frame(self, image: av.VideoFrame) -> Frame:
        shape = (image.width, image.height, image.format.name)
        if self._first is None:
            self._first = shape
            self._turn = _orientation(image)
            self._warn(image)
        elif shape != self._first:
            raise self._broken(
                f"the frame size changes from {_description(self._first)} to {_description(shape)}"
            )
        planes = rotated(self._planes(image), *self._turn)
        step = max(1, round(1 / (self.rate * self.time_base)))
        time = image.pts
        if time is not None:
            time -= round(self.start / self.time_base)
        if self._last is not None:  # its timestamp is missing or not increasing
            time = self._last + step if time is None else max(time, self._last + 1)
        self._last = time or 0
        return Frame(planes, self._last, image.duration or step)

    def _planes(self, image: av.VideoFrame) -> Planes:
        colour = self.colour
        name = image.format.name.replace("yuvj", "yuv")
        if name not in PIXEL_FORMATS:
            name = _nearest_format(image.format)
            image = image.reformat(
                format=name,
                dst_colorspace="ITU709" if image.format.is_rgb else None,
                dst_color_range=colour.range,
            )
        down, across, bits = PIXEL_FORMATS[name]
        layout = Layout(down, across, bits, colour.range == FULL, MATRICES[colour.matrix])
        luma, blue, red = (_samples(plane, bits) for plane in image.planes)
        return Planes(luma, torch.stack([blue, red]), layout)

    def _is_full_range(self) -> bool:
        context = self.stream.codec_context
        return context.color_range == FULL or str(context.pix_fmt).startswith("yuvj")

    def _guessed_matrix(self) -> int:
        """Guess the matrix as players do; RGB is converted to BT.709."""
        context = self.stream.codec_context
        high = context.width >= HIGH_DEFINITION[0] or context.height >= HIGH_DEFINITION[1]
        rgb = context.format is not None and context.format.is_rgb
        return TAG_OF_MATRIX["bt709" if high or rgb else "bt601"]

    def _warn(self, image: av.VideoFrame) -> None:
        if image.interlaced_frame:
            logger.warning(
                "%s is interlaced: both fields are read as one frame; deinterlace it first",
                self.source,
            )
        parts = [*dict.fromkeys(self._left_out(image))]
        if parts:
            *first, last = parts
            names = f"{', '.join(first)} and {last}" if first else last
            logger.warning("%s: read without %s", self.source, names)

    def _left_out(self, image: av.VideoFrame) -> Iterator[str]:
        """Yield the contents of the file that are not read, judged by its first frame."""
        streams = self.container.streams
        others = [stream for stream in streams.video if stream is not self.stream]
        covers = [stream for stream in others if stream.disposition & Disposition.attached_pic]
        if len(others) > len(covers):
            yield "the other video tracks"
        if covers:
            yield "its cover"
        for stream in (*streams.audio, *streams.subtitles):
            if stream.codec_context is None:
                yield f"{stream.type} in a codec unknown to FFmpeg"
        if streams.attachments:
            yield "its attachments"
        if streams.data and not self.container.chapters():  # MP4 lists chapters as data
            yield "its data tracks"
        components = image.format.components
        if any(component.is_alpha for component in components) or self._states_alpha():
            yield "its alpha channel"
        if max(component.bits for component in components) > 10:
            yield "its bits beyond 10"
        for data in cast(Sequence[SideData], image.side_data):  # wrongly typed as a mapping
            if data.type.name in LEFT_OUT:
                yield LEFT_OUT[data.type.name]

    def _states_alpha(self) -> bool:
        tags = {name.lower(): value for name, value in self.stream.metadata.items()}
        return tags.get(ALPHA_MODE, "0") != "0"


@contextmanager
def open_clip(source: Location) -> Iterator[Clip]:
    """Open a video file. Raises UnreadableVideo, and as `storage.download`."""
    with local_copy(source) as path, _opened(path, str(source)) as container:
        yield Clip(container, source)


def _opened(path: Path, name: str) -> av.container.InputContainer:
    try:
        if path.stat().st_size == 0:
            raise UnreadableVideo(f"{name}: the file is empty", hint="get the file again")
        missing = missing_bytes(path)
        if missing:
            raise UnreadableVideo(
                f"{name}: truncated, the last {missing:,} bytes are missing",
                hint="get the file again",
            )
        return av.open(f"file:{path}", metadata_errors="replace")
    except av.FFmpegError as error:
        raise UnreadableVideo(
            f"{name}: damaged or not a video ({error.strerror})", hint="get the file again"
        ) from error
    except OSError as error:
        raise UnreadableVideo(
            f"{name}: {error.strerror or error}", hint="check the path and its permissions"
        ) from error


def _first_video(container: av.container.InputContainer, source: Location) -> av.VideoStream:
    """Return the first video stream that is not a cover image."""
    if container.format.name.endswith("_pipe"):
        raise UnreadableVideo(
            f"{source}: an image, not a video", hint="rename it to the suffix of its format"
        )
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise UnreadableVideo(f"{source}: no video stream", hint="the file may hold audio only")


def _orientation(image: av.VideoFrame) -> tuple[int, bool]:
    """Return (counter-clockwise quarter turns, mirroring before them) that make it upright."""
    side_data = cast(Sequence[SideData], image.side_data)  # wrongly typed as a mapping
    stated = [data for data in side_data if data.type.name == "DISPLAYMATRIX"]
    if not stated:
        return 0, False
    a, b, _, c, d = np.frombuffer(bytes(stated[0]), np.int32)[:5].astype(np.int64)
    mirrored = bool(a * d - b * c < 0)
    right = (-a, -b) if mirrored else (a, b)  # direction of the right-hand side, y downwards
    turns = round(np.degrees(np.arctan2(-right[1], right[0])) / 90)
    return int(turns) % 4, mirrored


def _nearest_format(given: av.VideoFormat) -> str:
    """Return the pixel format in PIXEL_FORMATS that preserves most of `given`."""
    bits = 8 if max(component.bits for component in given.components) <= 8 else 10
    wide = given.chroma_width(64) == 64
    high = given.chroma_height(64) == 64
    if given.is_rgb or (wide and len(given.components) > 2):
        return NAME_OF_FORMAT[1, 1, bits]
    return NAME_OF_FORMAT[1 if high and len(given.components) > 2 else 2, 2, bits]


def _samples(plane: av.video.plane.VideoPlane, bits: int) -> Tensor:
    """Return a view of the levels in a plane, (H, W)."""
    levels = np.frombuffer(memoryview(plane), np.uint8 if bits == 8 else np.uint16)
    per_line = plane.line_size // levels.itemsize
    return torch.from_numpy(levels.reshape(-1, per_line)[: plane.height, : plane.width])


def _description(shape: tuple[int, int, str]) -> str:
    return f"{shape[0]}x{shape[1]} {shape[2]}"
