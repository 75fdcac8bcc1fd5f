"""What the first bytes of a video file tell: that it is one, and whether it is all there.

By the lengths that containers state, a copy or a download that broke off is told before hours of
work, not after them. A recording that was never closed states no length; of such a file and of an
MPEG stream nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

EBML, SEGMENT = 0x1A45DFA3, 0x18538067  # elements of Matroska and WebM
LONGEST_NUMBER = 8  # bytes, of a length there
BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")  # with which MP4 and MOV begin


def is_video(head: bytes) -> bool:
    """Whether a file that begins so is a video in one of the usual containers."""
    matroska = head.startswith(EBML.to_bytes(4, "big"))
    return head[4:8] in BOXES or matroska or (head.startswith(b"RIFF") and head[8:12] == b"AVI ")


def missing_bytes(path: Path) -> int:
    """How much of the file is not there; 0 where that is not known. Raises OSError."""
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
    """Where each box of an MP4 or MOV file ends."""
    start = 0
    while start + 8 <= size:
        file.seek(start)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8 or not head[4:8].isascii():
            return  # 0: up to the end, whatever that is; else it is no box
        start += length
        yield start


def _elements(file: BinaryIO, size: int) -> Iterator[int]:
    """Where the header and the one segment of a Matroska file end."""
    for _ in (EBML, SEGMENT):
        kind = _number(file, keep_marker=True)
        length = _number(file, keep_marker=False)
        if kind not in (EBML, SEGMENT) or length is None:
            return
        file.seek(length, 1)
        yield file.tell()


def _number(file: BinaryIO, *, keep_marker: bool) -> int | None:
    """A number whose first byte says how long it is. None: unknown, which is all bits set."""
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
