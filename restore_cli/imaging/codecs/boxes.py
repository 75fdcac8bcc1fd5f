"""Boxes of the MP4 family, as in AVIF, HEIC and JPEG XL: sizes, depth, colours, metadata.

ISO/IEC 14496-12 and 23008-12 (HEIF); ITU-T H.273 for the codes of colours.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from restore_cli.imaging.codecs.segments import BEHIND

MOST_BOXES = 100_000
# Boxes of a file of its own; any other stands behind its end.
OUTERMOST = {
    *(b"ftyp", b"meta", b"mdat", b"moov", b"free", b"skip", b"wide", b"uuid", b"idat"),
    *(b"JXL ", b"jxlc", b"jxlp", b"jxll", b"jxli", b"jbrd", b"jhgm", b"jumb"),
    *(b"Exif", b"xml ", b"brob"),
}
CREDENTIALS = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")  # of a box `uuid`: C2PA
CLIP = b"mpvd"  # Samsung's motion photos
WITH_VERSION = (b"meta",)  # four bytes before the boxes inside
UNSTATED = (0, 2)  # codes of primaries and transfer that state nothing
HDR = {16: "PQ", 18: "HLG"}  # codes of transfer


class Box(NamedTuple):
    kind: bytes
    body: memoryview


def boxes(data: bytes | memoryview) -> Iterator[Box]:
    """Yield the boxes at one level, the last one as far as it is present."""
    view, at = memoryview(data), 0
    for _ in range(MOST_BOXES):
        if at + 8 > len(view):
            return
        length, kind = struct.unpack_from(">I4s", view, at)
        head = 8
        if length == 1 and at + 16 <= len(view):
            (length,), head = struct.unpack_from(">Q", view, at + 8), 16
        stop = len(view) if length == 0 else at + length
        if stop < at + head:
            return
        yield Box(kind, view[at + head : stop])
        at = stop


def inside(data: bytes | memoryview, *kinds: bytes) -> Iterator[memoryview]:
    """Yield the bodies of all boxes at a path, such as meta, iprp, ipco, ispe."""
    first, *rest = kinds
    for kind, body in boxes(data):
        if kind == first:
            body = body[4:] if kind in WITH_VERSION else body
            yield from inside(body, *rest) if rest else iter((body,))


def beside(data: bytes) -> list[str]:
    """Name the contents of a file that are no part of the image."""
    found = [*boxes(data)]
    others = (box for box in found if box.kind not in {*OUTERMOST, CLIP})
    names = {
        "its video clip": any(kind == CLIP for kind, _ in found),
        "its content credentials (C2PA)": any(body[:16] == CREDENTIALS for _, body in found),
        BEHIND: any(box.kind.strip(b"\0") or bytes(box.body).strip(b"\0") for box in others),
    }
    return [name for name, is_present in names.items() if is_present]


@dataclass(frozen=True)
class Properties:
    """Properties of a HEIF or AVIF image."""

    height: int
    width: int
    depth: int  # bits per channel
    colours: tuple[tuple[bytes, bytes], ...]  # chunks of a PNG that state the same


def properties(data: bytes) -> Properties | None:
    """Return the properties of the image; None without a size. Raises struct.error."""
    stated = [*inside(data, b"meta", b"iprp", b"ipco")]
    found = [box for part in stated for box in boxes(part)]
    sizes = [struct.unpack_from(">II", body, 4) for kind, body in found if kind == b"ispe"]
    if not sizes:
        return None
    # Tiles, thumbnails and masks have sizes of their own, and none is larger than the image.
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    for clap in (struct.unpack_from(">4I", body) for kind, body in found if kind == b"clap"):
        if clap[1] and clap[3]:  # the clean aperture: blocks of the codec may stand out
            width, height = min(width, clap[0] // clap[1]), min(height, clap[2] // clap[3])
            break
    depths = [depth for kind, body in found if kind == b"pixi" for depth in body[5:]]
    av1 = [body[2] for kind, body in found if kind == b"av1C"]
    depths += [12 if flags & 32 else 10 for flags in av1 if flags & 64]
    codes = [bytes(body) for kind, body in found if kind == b"colr"]
    nclx = [struct.unpack_from(">HH", body, 4) for body in codes if body[:4] == b"nclx"]
    return Properties(height, width, max(depths, default=8), colour_chunks(nclx))


def hdr_of(chunks: Mapping[bytes, bytes]) -> str | None:
    """Return the name of a transfer function for which ICC profiles have no curve."""
    return HDR.get(chunks[b"cICP"][1]) if b"cICP" in chunks else None


def colour_chunks(codes: Sequence[tuple[int, int]]) -> tuple[tuple[bytes, bytes], ...]:
    """Return the first (primaries, transfer) that says more than sRGB as the cICP of a PNG."""
    for primaries, transfer in codes:
        is_srgb = primaries in (1, *UNSTATED) and transfer in (13, *UNSTATED)
        if not is_srgb and max(primaries, transfer) < 256:
            stated = (1 if primaries in UNSTATED else primaries, transfer)
            return ((b"cICP", bytes((*stated, 0, 1))),)
    return ()
