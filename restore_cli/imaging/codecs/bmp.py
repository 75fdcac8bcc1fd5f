"""Contents of a BMP beside its pixels, which Pillow does not read."""

from __future__ import annotations

import struct
from typing import NamedTuple

from restore_cli.imaging.codecs.segments import BEHIND

HEADER = 14  # bytes before the one that gives the size
OLDEST = 12  # bytes of the shortest header, with sides of 16 bits
VERSION_5 = 124  # bytes of the header that may name an ICC profile
EMBEDDED, LINKED = b"DEBM", b"KNIL"  # kinds of profile: in the file, and in another one
RUN_LENGTH = (1, 2)  # compression
UNCOMPRESSED = (0, 3, 6)  # plain, and plain with masks of the channels


class Layout(NamedTuple):
    """Size and storage of the pixels."""

    height: int
    width: int
    bits: int  # of a pixel
    compression: int


def read_layout(data: bytes) -> Layout:
    """Read the size and the storage of the pixels. Raises struct.error."""
    if struct.unpack_from("<I", data, HEADER)[0] == OLDEST:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        return Layout(height, width, bits, 0)
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    return Layout(abs(height), width, bits, compression)  # negative: from top to bottom


def profile_of(data: bytes) -> bytes | None:
    """Return the ICC profile. Raises struct.error."""
    start, length = _profile(data, EMBEDDED)
    return data[start : start + length] if 0 < length <= len(data) - start else None


def dropped_from(data: bytes) -> tuple[str, ...]:
    """Name the contents that are not read. Raises struct.error."""
    named = ["its ICC profile, which is in another file"] if _profile(data, LINKED)[1] else []
    end = _end_of_pixels(data)
    ends = (sum(_profile(data, kind)) for kind in (EMBEDDED, LINKED))
    if end is not None and data[max(end, *ends) :].strip(b"\0"):
        named.append(BEHIND)
    return tuple(named)


def _profile(data: bytes, kind: bytes) -> tuple[int, int]:
    """Return offset and length of a profile of a kind; (0, 0) without one."""
    if struct.unpack_from("<I", data, HEADER)[0] < VERSION_5 or data[70:74] != kind:
        return 0, 0
    start, length = struct.unpack_from("<II", data, HEADER + 112)
    return HEADER + start, length


def _end_of_pixels(data: bytes) -> int | None:
    """Return the offset behind the pixels; None where they are compressed, of unknown length."""
    layout = read_layout(data)
    if layout.compression not in UNCOMPRESSED:
        return None
    start: int = struct.unpack_from("<I", data, 10)[0]
    row = -(-layout.width * layout.bits // 32) * 4
    return start + row * layout.height
