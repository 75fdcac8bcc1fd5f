"""PGM and PPM of more than 8 bits, which Pillow would reduce to 8; the others go to Pillow."""

from __future__ import annotations

import re

import numpy as np

from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.codecs import pillow
from restore_cli.imaging.headers import refuse_giant
from restore_cli.imaging.quantize import Decoded, stored

# Kind, width, height, largest level; comments may stand in between.
HEADER = re.compile(rb"P([2356])" + rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})" * 3 + rb"\s")
LONGEST_HEADER = 4096
CHANNELS = {b"2": 1, b"5": 1, b"3": 3, b"6": 3}
IN_WORDS = (b"2", b"3")  # levels as decimal numbers


def decode(data: bytes, storage: Storage = MEMORY) -> Decoded:
    """Decode a PBM, PGM or PPM. Raises ValueError, ImageTooLarge, and what Pillow raises."""
    header = HEADER.match(data, 0, LONGEST_HEADER)
    if header is None or not 255 < int(header[4]) <= 65535:
        return pillow.decode(data, storage)
    kind, width, height, largest = header[1], int(header[2]), int(header[3]), int(header[4])
    refuse_giant(height, width)
    count = height * width * CHANNELS[kind]
    if kind in IN_WORDS:
        words = data[header.end() :].split()
        if len(words) < count:
            raise ValueError(f"{len(words)} of {count} levels")
        levels = np.array([int(word) for word in words[:count]])
    else:
        levels = np.frombuffer(data, ">u2", count, header.end())
    if levels.max() > largest or levels.min() < 0:
        raise ValueError(f"a level is outside 0 to {largest}")
    shape = (height, width, CHANNELS[kind])
    return Decoded(stored(levels.astype(np.uint16).reshape(shape), storage), largest)
