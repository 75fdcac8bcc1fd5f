"""Detection of video files, and of truncated ones, from the headers of their containers.

Containers state their length, so that an incomplete copy or download is refused before hours of
work. An unfinished recording and an MPEG stream state none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

EBML, SEGMENT = 0x1A45DFA3, 0x18538067  # elements of Matroska and WebM
LONGEST_NUMBER = 8  # bytes of a length in Matroska
BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")  # first boxes of MP4 and MOV


def is_video(head: bytes) -> bool:
    """Return True if these first bytes belong to a video in a common container."""
    matroska = head.startswith(EBML.to_bytes(4, "big"))
    return head[4:8] in BOXES or matroska or (head.startswith(b"RIFF") and head[8:12] == b"AVI ")


def missing_bytes(path: Path) -> int:
    """Return the number of bytes missing at the end; 0 if unknown. Raises OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(0)
        if head[4:8] in BOXES:
            ends = _boxes(file, size)
        elif head.startswith(EBML.to_bytes(4, "big")):
            ends = _elements(file, size)
        elif head.startswith(b"RIFF"):
            ends = iter([8 + int.from_bytes(head[4:8], "little")])
        else:
            return 0
        return max(0, max(ends, default=0) - size)


def _boxes(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield the end of each box of an MP4 or MOV file."""
    start = 0
    while start + 8 <= size:
        file.seek(start)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8 or not head[4:8].isascii():
            return  # 0: the box extends to the end; else it is not a box
        start += length
        yield start


def _elements(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield the ends of header and segment of a Matroska file."""
    for _ in (EBML, SEGMENT):
        kind = _number(file, keep_marker=True)
        length = _number(file, keep_marker=False)
        if kind not in (EBML, SEGMENT) or length is None:
            return
        file.seek(length, 1)
        yield file.tell()


def _number(file: BinaryIO, *, keep_marker: bool) -> int | None:
    """Read a number whose first byte states its length; None if unknown (all bits set)."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    length = LONGEST_NUMBER - first[0].bit_length() + 1
    digits = first + file.read(length - 1)
    value = int.from_bytes(digits, "big")
    if keep_marker:
        return value
    bits = 7 * length
    value &= (1 << bits) - 1
    return None if value == (1 << bits) - 1 else value
