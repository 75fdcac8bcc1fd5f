"""Header of a Radiance HDR image."""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST = 1 << 16  # bytes of a header
SIZE = re.compile(rb"([-+])([XY]) +(\d{1,9}) +([-+])([XY]) +(\d{1,9})\n")
XYZ = "FORMAT=32-bit_rle_xyze"
# EXIF orientation by the directions of rows and of the pixels in a row.
ORIENTATIONS = {
    **{"-Y+X": 1, "-Y-X": 2, "+Y-X": 3, "+Y+X": 4},
    **{"+X-Y": 5, "-X-Y": 6, "-X+Y": 7, "+X+Y": 8},
}


@dataclass(frozen=True)
class Radiance:
    """Lines of the header without the size, and where the pixels start."""

    lines: tuple[str, ...]
    stored_size: tuple[int, int]  # rows, pixels of a row
    orientation: int  # as of EXIF
    start: int

    @property
    def is_xyz(self) -> bool:
        return XYZ in self.lines

    @property
    def height(self) -> int:
        return self.stored_size[self.orientation >= 5]

    @property
    def width(self) -> int:
        return self.stored_size[self.orientation < 5]


def read_radiance(data: bytes) -> Radiance:
    """Return the header of an image. Raises ValueError."""
    head = data[:LONGEST]
    end = head.find(b"\n\n")
    size = SIZE.match(head, end + 2) if end >= 0 else None
    if size is None:
        raise ValueError("its header is cut off")
    sign, axis, rows, other, across, columns = (part.decode() for part in size.groups())
    orientation = ORIENTATIONS.get(sign + axis + other + across)
    if orientation is None:
        raise ValueError(f"rows along {axis} of pixels along {across}")
    lines = tuple(line.strip() for line in head[:end].decode("latin-1").split("\n"))
    return Radiance(lines, (int(rows), int(columns)), orientation, size.end())
