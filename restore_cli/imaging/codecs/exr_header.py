"""Header of an OpenEXR file and its table of chunks, parsed before the library reads pixels.

The library writes a line to stderr about each damaged chunk, and asks for memory before it looks.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import NamedTuple

from restore_cli.errors import UnreadableImage

MAGIC = b"v/1\x01"
TILED, DEEP, PARTS = 0x200, 0x800, 0x1000  # flags in the version
MOST_PARTS, MOST_ATTRIBUTES = 64, 4096
BYTES = {0: 4, 1: 2, 2: 4}  # of a sample by its type: unsigned, half, float
HALF, FLOAT = 1, 2
# Rows of a chunk by compression: none, RLE, ZIPS, ZIP, PIZ, PXR24, B44, B44A, DWAA, DWAB,
# HTJ2K256, HTJ2K32, LJ2K, ZSTD.
ROWS = (1, 1, 1, 16, 32, 16, 32, 32, 32, 256, 256, 32, 256, 1)
RATIOS = {0: 1, 1: 64, 2: 1032, 3: 1032}  # of decoded to stored bytes, at most
COLOURS = ("R", "G", "B")


class Channel(NamedTuple):
    name: str
    type: int
    sampling: tuple[int, int]


@dataclass(frozen=True)
class Part:
    """Attributes of the header of one image of a file."""

    channels: tuple[Channel, ...]
    compression: int
    left: int
    top: int
    height: int
    width: int
    kind: bytes  # scanlineimage, tiledimage, deepscanline, deeptile
    tile: tuple[int, int, int] | None  # width, height, mode of levels
    chunks: int | None  # as stated

    @property
    def has_levels(self) -> bool:
        return self.tile is not None and self.tile[2] & 15 != 0

    @property
    def bytes_per_pixel(self) -> int:
        return sum(BYTES.get(channel.type, 4) for channel in self.channels)

    @property
    def least(self) -> float:
        """The bytes that the pixels take at least."""
        ratio = RATIOS.get(self.compression)
        return self.height * self.width * self.bytes_per_pixel / ratio if ratio else 0

    def colours(self) -> tuple[str, ...]:
        """Return the names of the channels of the image. Raises UnreadableImage."""
        if b"deep" in self.kind:
            raise _refusal("deep samples", "flatten it to one sample a pixel")
        names = [channel.name for channel in self.channels]
        chosen = COLOURS if {*COLOURS} <= {*names} else ("Y",) if "Y" in names else ()
        if {"RY", "BY"} & {*names} and chosen != COLOURS:
            raise _refusal("luminance and chroma (Y, RY, BY)", "save it in RGB")
        if not chosen and len(names) == 1:
            chosen = (names[0],)
        if not chosen:
            raise _refusal(f"the channels {', '.join(names[:9])} and no R, G, B or Y", LAYER)
        for channel in self.channels:
            if channel.name in (*chosen, "A") and channel.sampling != (1, 1):
                raise _refusal("subsampled channels", "save all channels in full size")
            if channel.name in chosen and channel.type not in (HALF, FLOAT):
                raise _refusal("integer channels", "save its channels as half or float")
        return chosen


LAYER = "save the layer to restore with the channels R, G and B"


def _refusal(found: str, hint: str) -> UnreadableImage:
    return UnreadableImage(f"an OpenEXR image with {found}", hint=hint)


def read_parts(data: bytes) -> list[Part]:
    """Return the images of a file. Raises ValueError, struct.error, LookupError."""
    return _parts(data)[0]


def _parts(data: bytes) -> tuple[list[Part], int]:
    """Return the images, and the offset of the tables of chunks that follow their headers."""
    magic, version = struct.unpack_from("<4sI", data)
    if magic != MAGIC or version & 0xFF != 2:
        raise ValueError(f"version {version & 0xFF} of OpenEXR")
    found, at = list[Part](), 8
    while len(found) < MOST_PARTS:
        part, at = _part(data, at, version)
        found.append(part)
        if not version & PARTS:
            return found, at
        if data[at : at + 1] == b"\0":
            return found, at + 1
    raise ValueError(f"more than {MOST_PARTS} parts")


def _part(data: bytes, at: int, version: int) -> tuple[Part, int]:
    attributes = dict[bytes, bytes]()
    for _ in range(MOST_ATTRIBUTES):
        name, at = _name(data, at)
        if not name:
            break
        _, at = _name(data, at)
        (size,) = struct.unpack_from("<i", data, at)
        if size < 0 or at + 4 + size > len(data):
            raise ValueError("its header is cut off")
        attributes[name] = data[at + 4 : at + 4 + size]
        at += 4 + size
    left, top, right, bottom = struct.unpack_from("<4i", attributes[b"dataWindow"])
    kind = attributes.get(b"type", b"tiledimage" if version & TILED else b"scanlineimage")
    if version & DEEP and not version & PARTS:
        kind = b"deepscanline"
    tiles, chunks = attributes.get(b"tiles"), attributes.get(b"chunkCount")
    part = Part(
        tuple(_channels(attributes[b"channels"])),
        attributes[b"compression"][0],
        left,
        top,
        bottom - top + 1,
        right - left + 1,
        kind,
        struct.unpack_from("<IIB", tiles) if tiles and b"tile" in kind else None,
        struct.unpack_from("<i", chunks)[0] if chunks else None,
    )
    return part, at


def _name(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.find(b"\0", at, at + 256)
    if end < 0:
        raise ValueError("a name without end")
    return data[at:end], end + 1


def _channels(value: bytes) -> list[Channel]:
    found, at = list[Channel](), 0
    while value[at : at + 1] not in (b"", b"\0"):
        name, at = _name(value, at)
        kind, _, across, down = struct.unpack_from("<iB3xii", value, at)
        found.append(Channel(name.decode("latin-1"), kind, (across, down)))
        at += 16
    return found


def check_chunks(data: bytes) -> None:
    """Check that every chunk of the first part is there. Raises ValueError, LookupError."""
    parts, at = _parts(data)
    part, count = parts[0], _count(parts[0])
    leader = 4 * (len(parts) > 1) + (20 if part.tile else 8)  # part, place, size
    if count < 1 or at + 8 * count > len(data):
        raise ValueError("its table of chunks is cut off")
    for index, offset in enumerate(struct.unpack_from(f"<{count}Q", data, at)):
        if not at < offset <= len(data) - leader:
            raise ValueError("a part of the image is missing")
        place, size = struct.unpack_from("<2i", data, offset + leader - 8)
        if size < 0 or offset + leader + size > len(data):
            raise ValueError("a part of the image is cut off")
        if part.tile is None and place != part.top + index * ROWS[part.compression]:
            raise ValueError("a part of the image is in another place")


def _count(part: Part) -> int:
    if part.tile is None:
        return -(-part.height // ROWS[part.compression])
    across, down, mode = part.tile
    if not across or not down:
        raise ValueError("tiles without size")
    if part.has_levels:
        if part.chunks is not None:
            return part.chunks
        levels = _levels(part, mode)
    else:
        levels = [(part.width, part.height)]
    return sum(math.ceil(width / across) * math.ceil(height / down) for width, height in levels)


def _levels(part: Part, mode: int) -> list[tuple[int, int]]:
    """Return the sizes of the levels: halved together (mipmap), or each by itself (ripmap)."""

    def halved(size: int) -> list[int]:
        sizes = [size]
        while sizes[-1] > 1:
            sizes.append(-(-size // 2 ** len(sizes)) if mode & 16 else size // 2 ** len(sizes))
        return sizes

    widths, heights = halved(part.width), halved(part.height)
    if mode & 15 == 1:
        count = max(len(widths), len(heights))
        widths += [1] * (count - len(widths))
        heights += [1] * (count - len(heights))
        return [*zip(widths, heights, strict=True)]
    return [(width, height) for width in widths for height in heights]
