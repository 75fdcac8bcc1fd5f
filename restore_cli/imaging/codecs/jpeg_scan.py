"""Pixels of a JPEG, and its damage.

A JPEG has no checksum. libjpeg warns where a scan breaks the rules of its code; simplejpeg raises
these warnings, Pillow drops them. FFmpeg also checks that no block has more than 64 coefficients.
Neither minds zeros, as a disk has them in sectors that were never written: they are valid code.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import simplejpeg

from restore_cli.imaging.canvas import Storage
from restore_cli.imaging.codecs.segments import SCAN, markers, parts
from restore_cli.imaging.headers import JPEG_ARITHMETIC, JPEG_SIZES, PROGRESSIVE
from restore_cli.imaging.quantize import Array

COLOURS = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # by Pillow's mode
CHANNELS = {"L": 1, "RGB": 3, "CMYK": 4}
DAMAGE = (
    "Corrupt JPEG data",
    "Invalid JPEG file structure",
    "Premature end of JPEG file",
    "Unsupported marker type",
)
EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")

COEFFICIENTS = 64  # of a block
FRAMES = (*JPEG_SIZES, *JPEG_ARITHMETIC)  # markers SOF
UNFINISHED = "its last scans, which are missing"
DAMAGED, NO_END = "parts of the image that are damaged", "its end marker"

END = b"\xff\xd9"  # marker
DCT_FRAMES = (0xC0, 0xC1, 0xC2)  # markers SOF of Huffman coding
FOR_PIXELS = (*DCT_FRAMES, 0xC4, 0xDB, 0xDD)
LARGEST_FOR_FFMPEG = 200_000_000  # pixels; it refuses more
MORE = b"\x5a" * 256  # arbitrary data of a scan
ALIGNMENT = 2  # zeros at most that end the data of a scan
HUFFMAN = 0xC4  # marker DHT
SEQUENTIAL = (0xC0, 0xC1)  # markers SOF
HEADER = 17  # bytes before the symbols of a table: its kind, and how many have each length
HOLE = bytes(64)  # longer than a block of coefficients that all have the code 0


def decode_scan(
    data: bytes, mode: str, height: int, width: int, storage: Storage
) -> tuple[Array | None, list[str]]:
    """Return the levels (H, W, C) as stored, None for a kind left to Pillow, and what is lost.

    A file with damaged blocks is read, one without some of its blocks is refused.
    Raises ValueError.
    """
    room = storage.new((height, width, CHANNELS[mode]), np.uint8)
    levels, lost = _decoded(data, mode, room)
    storage.release()
    return levels, [*lost, *([UNFINISHED] if levels is not None and not _is_finished(data) else [])]


def _decoded(data: bytes, mode: str, room: Array) -> tuple[Array | None, list[str]]:
    try:
        levels = _levels(data, mode, room)
        checked = room.shape[0] * room.shape[1] <= LARGEST_FOR_FFMPEG
        whole = not _has_hole(data) and (not checked or _blocks_are_whole(data))
        return levels, [] if whole else [DAMAGED]
    except ValueError as error:
        words = str(error)
    scan = dict(markers(data)).get(SCAN)
    if scan is None or not words.startswith(DAMAGE):
        return None, []
    end = data.find(END, scan)
    if end < 0:
        data = _without_padding(data) + END
        end = len(data) - len(END)
        with suppress(ValueError):
            return _levels(data, mode, room), [NO_END]
    levels = _levels(data, mode, room, strict=False)
    if (padding := EXTRANEOUS.search(words)) and _is_uniform(data[end - int(padding[1]) : end]):
        return levels, []
    longer = data[:end] + MORE + data[end:]
    if not np.array_equal(levels, _levels(longer, mode, np.empty_like(room), strict=False)):
        raise ValueError("its end is missing")  # a complete scan ignores what follows it
    return levels, [DAMAGED]


def _levels(data: bytes, mode: str, room: Array, *, strict: bool = True) -> Array:
    """Decode into `room`; strict: raise ValueError for the first warning as well as for errors."""
    simplejpeg.decode_jpeg(data, COLOURS[mode], buffer=room, strict=strict)
    return room


def _has_hole(jpeg: bytes) -> bool:
    """Return True for zeros amid a scan whose code they are for blocks without an end.

    The code of zeros is that of the first symbol of a table. Where it ends a block in all of them,
    as it may in tables made for an image, zeros are what flat areas are coded by.
    """
    ends_blocks, sequential = True, False
    for marker, start, stop in parts(jpeg):
        sequential |= marker in SEQUENTIAL
        if marker == HUFFMAN:
            ends_blocks &= not any(_first_symbols(jpeg[start:stop]))
        elif marker == SCAN:
            coded = jpeg[stop : jpeg.find(END, stop)].rstrip(b"\0")
            return sequential and not ends_blocks and HOLE in coded
    return False


def _first_symbols(tables: bytes) -> Iterator[int]:
    """Yield the first symbol of each table of AC coefficients in a segment DHT."""
    while len(tables) > HEADER:
        if tables[0] >> 4:
            yield tables[HEADER]
        tables = tables[HEADER + sum(tables[1:HEADER]) :]


def _blocks_are_whole(jpeg: bytes) -> bool:
    """Return False where FFmpeg finds a block of more than 64 coefficients, or an invalid code."""
    if not {*DCT_FRAMES} & {marker for marker, _ in markers(jpeg)}:
        return True  # lossless or arithmetic coding, which FFmpeg does not decode
    import av  # slow to load

    parts = [b"\xff\xd8"]
    for marker, at in markers(jpeg):
        if marker in FOR_PIXELS:
            parts.append(jpeg[at : at + 2 + struct.unpack_from(">H", jpeg, at + 2)[0]])
        elif marker == SCAN:
            parts.append(jpeg[at : jpeg.find(END, at)] + END)
    context = av.CodecContext.create("mjpeg", "r")
    context.thread_count = 1
    context.options = {"err_detect": "explode", "skip_idct": "all"}
    try:
        context.decode(av.Packet(b"".join(parts)))
        context.decode(None)
    except av.InvalidDataError:
        return False
    except av.FFmpegError:
        return True  # a kind that it does not decode
    return True


def _is_finished(jpeg: bytes) -> bool:
    """Return False if a coefficient of a component is in no scan, or not to its last bit.

    A file that was cut between two scans is whole otherwise.
    """
    missing, progressive = dict[int, set[int]](), False
    for marker, start, stop in parts(jpeg):
        if stop > len(jpeg):
            return False
        if marker in FRAMES:
            progressive = marker in PROGRESSIVE
            components = jpeg[start + 6 : start + 6 + 3 * jpeg[start + 5] : 3]
            missing = {component: {*range(COEFFICIENTS)} for component in components}
        elif marker == SCAN:
            selectors = start + 1 + 2 * jpeg[start]
            first, last, bits = jpeg[selectors : selectors + 3]
            for component in jpeg[start + 1 : selectors : 2]:
                if not progressive:
                    missing.pop(component, None)
                elif bits & 15 == 0:  # the last bit
                    missing.get(component, set()).difference_update(range(first, last + 1))
            if not any(missing.values()):
                return True
    return False


def _without_padding(jpeg: bytes) -> bytes:
    """Remove zeros behind a file that was not completed."""
    bare = jpeg.rstrip(b"\0")
    return bare if len(jpeg) - len(bare) > ALIGNMENT else jpeg


def _is_uniform(padding: bytes) -> bool:
    """Return True for one value, repeated; 0xFF, which fills anywhere, may be mixed in."""
    return len({*padding} - {0xFF}) <= 1
