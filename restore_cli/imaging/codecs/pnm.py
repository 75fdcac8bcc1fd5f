"""PGM and PPM of more than 8 bits, which Pillow would reduce to 8; the others go to Pillow.

Comments of the header are read here.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.codecs import pillow
from restore_cli.imaging.codecs.metadata import comments_to_texts
from restore_cli.imaging.codecs.segments import BEHIND
from restore_cli.imaging.headers import PNM_BITS, refuse_giant
from restore_cli.imaging.image import Metadata
from restore_cli.imaging.quantize import Decoded, stored

# Kind, width, height, largest level; comments may stand in between.
HEADER = re.compile(rb"P([2356])" + rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})" * 3 + rb"\s")
BITS = re.compile(rb"P([14])" + rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})" * 2 + rb"\s")
COMMENT = re.compile(rb"#([^\r\n]*)")
LONGEST_HEADER = 4096
CHANNELS = {b"2": 1, b"5": 1, b"3": 3, b"6": 3}
IN_WORDS = (b"2", b"3")  # levels as decimal numbers


def decode(data: bytes, storage: Storage = MEMORY) -> Decoded:
    """Decode a PBM, PGM or PPM. Raises ValueError, ImageTooLarge, and what Pillow raises."""
    header = HEADER.match(data, 0, LONGEST_HEADER)
    start = header or BITS.match(data, 0, LONGEST_HEADER)
    texts = comments_to_texts(tuple(COMMENT.findall(start[0]))) if start else ()
    metadata = Metadata(texts=tuple(text._replace(text=text.text.strip()) for text in texts))
    dropped = (BEHIND,) if start and _has_more(data, start) else ()
    if header is None or not 255 < int(header[4]) <= 65535:
        return replace(pillow.decode(data, storage), metadata=metadata, dropped=dropped)
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
    levels = stored(levels.astype(np.uint16).reshape(shape), storage)
    return Decoded(levels, largest, metadata=metadata, dropped=dropped)


def _has_more(data: bytes, header: re.Match[bytes]) -> bool:
    """Return True for contents behind the levels, such as further images."""
    kind, width, height = header[1], int(header[2]), int(header[3])
    if kind in (b"1", *IN_WORDS):
        return False  # decimal numbers, of which the decoder takes as many as it needs
    row = -(-width // 8) if kind == b"4" else width * PNM_BITS[kind] // 8
    wide = kind != b"4" and int(header[4]) > 255
    return bool(data[header.end() + height * row * (1 + wide) :].strip(b"\0\r\n\t "))
