"""Segments of a JPEG beside its pixels, and the contents of the file behind its end."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from restore_cli.imaging.codecs.exif import first_directory

START, STOP, SCAN, COMMENT, PHOTOSHOP = b"\xff\xd8\xff", 0xD9, 0xDA, 0xFE, 0xED
APPLICATIONS = range(0xE0, 0xF0)
WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))
LONGEST = 65_533  # bytes of a segment
IN_PHOTOSHOP, IN_INDEX = b"Photoshop 3.0\0", b"MPF\0"
INDEX_ENTRIES, PREVIEWS = 0xB002, (0x010001, 0x010002)  # CIPA DC-007, 5.2.3
BEHIND = "the data behind its end"
MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
AFTER_SCAN = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
CLIP = re.compile(rb"ftyp(?:mp4|iso|avc|qt|3gp|mmp|M4V|heic|hevc)")
GAIN_MAP = re.compile(rb"hdrgm:|hdr-gain-map|(?i:GainMap)|21496")  # any prefix of its XMP

# First bytes of segments -> their name in a message; None: they are kept, or say nothing more.
KNOWN: dict[tuple[int, bytes], str | None] = {
    (0xE0, b"JFIF\0"): None,
    (0xE0, b"JFXX\0"): None,  # a thumbnail
    (0xE1, b"Exif\0"): None,
    (0xE1, b"http://ns.adobe.com/xap/1.0/\0"): None,
    (0xE1, b"http://ns.adobe.com/xmp/extension/\0"): "its extended XMP",
    (0xE1, b"FLIR\0"): "its thermal data (FLIR)",
    (0xE2, b"ICC_PROFILE\0"): None,
    (0xE2, IN_INDEX): None,  # index of the images behind this one
    (0xE2, b"urn:iso:std:iso:ts:21496"): None,  # of a gain map, which is behind this one
    (0xEB, b"JP"): "its JUMBF data (content credentials)",
    (0xEC, b"Ducky"): None,  # settings of the encoder
    (PHOTOSHOP, IN_PHOTOSHOP): None,
    (0xEE, b"Adobe"): None,
}


class Segment(NamedTuple):
    """A segment of a JPEG."""

    marker: int
    body: bytes


class Beside(NamedTuple):
    """Contents of a JPEG file beside the pixels, EXIF, ICC profile and XMP."""

    comments: tuple[bytes, ...]
    photoshop: bytes
    dropped: tuple[str, ...]


def read_beside(data: bytes) -> Beside:
    """Read the comments and resources of a JPEG, and name all else that is not kept."""
    segments, end = _walk(data, 0)
    resources = [each.body for each in segments if each.body.startswith(IN_PHOTOSHOP)]
    return Beside(
        tuple(each.body for each in segments if each.marker == COMMENT),
        b"".join(body.removeprefix(IN_PHOTOSHOP) for body in resources),
        tuple(dict.fromkeys([*_unknown(segments), *_behind(data, end, _previews(segments))])),
    )


def markers(jpeg: bytes) -> Iterator[tuple[int, int]]:
    """Yield the markers up to the first scan, and their offsets."""
    at = 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        yield marker, at
        if marker == SCAN:
            return
        at += 2 if marker in WITHOUT_LENGTH else 2 + struct.unpack_from(">H", jpeg, at + 2)[0]


def _walk(data: bytes, at: int) -> tuple[list[Segment], int]:
    """Return comments and application segments of the JPEG at `at`, and the offset of its end."""
    found = list[Segment]()
    for kind, start, stop in parts(data, at):
        if kind == STOP:
            return found, stop
        if kind == COMMENT or kind in APPLICATIONS:
            found.append(Segment(kind, data[start:stop]))
    return found, len(data)


def parts(data: bytes, at: int = 0) -> Iterator[tuple[int, int, int]]:
    """Yield marker, first and last offset of the segments of the JPEG at `at`, up to its end."""
    pattern, at = MARKER, at + 2
    while marker := pattern.search(data, at):
        kind, at, pattern = marker[1][0], marker.end(), MARKER
        if kind == STOP:
            yield kind, at, at
            return
        if kind in WITHOUT_LENGTH:
            continue
        if at + 2 > len(data):
            return
        stop = at + max(2, struct.unpack_from(">H", data, at)[0])
        yield kind, at + 2, stop
        pattern = AFTER_SCAN if kind == SCAN else MARKER
        at = stop


def _unknown(segments: Sequence[Segment]) -> Iterator[str]:
    for each in segments:
        if each.marker == COMMENT:
            continue
        starts = (start for start in KNOWN if start[0] == each.marker)
        start = next((start for start in starts if each.body.startswith(start[1])), None)
        name = f"its APP{each.marker - 0xE0} data" if start is None else KNOWN[start]
        if name:
            yield name


def _previews(segments: Sequence[Segment]) -> int:
    """Return the number of reduced copies of the image that the index of the file lists."""
    index = next((each.body for each in segments if each.body.startswith(IN_INDEX)), None)
    try:
        directory = first_directory((index or b"").removeprefix(IN_INDEX))
    except ValueError:
        return 0
    entries = directory.value(INDEX_ENTRIES) or b""
    code = f"{directory.order}I12x"
    kinds = struct.iter_unpack(code, entries[: len(entries) // 16 * 16])
    return sum(kind & 0xFFFFFF in PREVIEWS for (kind,) in kinds)


def _behind(data: bytes, end: int, previews: int) -> Iterator[str]:
    """Name the contents behind the end of the first image, without previews and zeros."""
    clip = CLIP.search(data, end)
    limit = clip.start() - 4 if clip else len(data)
    images, others, at = -previews, False, end
    while (start := data.find(START, at, limit)) >= 0:
        others |= bool(data[at:start].strip(b"\0"))
        images += 1
        _, at = _walk(data, start)
    others |= bool(data[at:limit].strip(b"\0"))
    if images > 0 and GAIN_MAP.search(data):
        images -= 1
        yield "its gain map (HDR)"
    if images > 0:
        yield "the other images"
    if clip:
        yield "its video clip"
    elif others:
        yield BEHIND


def pack(marker: int, body: bytes, prefix: bytes = b"") -> bytes:
    """Encode a body as one segment, or as several that begin with the prefix."""
    step = LONGEST - len(prefix)
    parts = [prefix + body[at : at + step] for at in range(0, len(body), step)]
    return b"".join(struct.pack(">BBH", 0xFF, marker, len(part) + 2) + part for part in parts)
