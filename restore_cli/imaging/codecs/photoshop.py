"""Image resources of Photoshop, in which JPEG and TIFF hold IPTC captions and clipping paths.

Adobe Photoshop File Formats Specification, "Image Resources Section"; IPTC-NAA IIM 4.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

SIGNATURES = (b"8BIM", b"8B64", b"MeSa", b"AgHg", b"PHUT", b"DCSR")
IPTC, IPTC_DIGEST, COPYRIGHTED, URL = 0x0404, 0x0425, 0x040A, 0x040B
PATHS = range(0x07D0, 0x0BB8)  # with the name of the clipping path; in shares of the sides
# Data sets of IPTC about itself: character set, and versions of its records.
ABOUT_ITSELF = ((1, 0), (1, 90), (2, 0))
DATA_SET = re.compile(rb"\x1c([\x01-\x09])(.)", re.DOTALL)


class Resource(NamedTuple):
    id: int
    data: bytes
    whole: bytes


def resources(block: bytes) -> Iterator[Resource]:
    """Yield the complete resources of a block."""
    at = 0
    while block[at : at + 4] in SIGNATURES and at + 12 <= len(block):
        (id,) = struct.unpack_from(">H", block, at + 4)
        start = at + 6 + (block[at + 6] + 2) // 2 * 2  # after a name of even length
        if start + 4 > len(block):
            return
        (length,) = struct.unpack_from(">I", block, start)
        stop = start + 4 + length
        if stop > len(block):
            return
        yield Resource(id, block[start + 4 : stop], block[at:stop] + b"\0" * (length % 2))
        at = stop + length % 2


def descriptive_resources(block: bytes, *, upright: bool) -> bytes:
    """Return the resources that are true of the image in any other file.

    upright: False for an image that has been turned, to which its clipping paths no longer apply.
    """
    found = list(resources(block))
    kept = [COPYRIGHTED, URL, *(PATHS if upright else ())]
    if any(each.id == IPTC and _has_captions(each.data) for each in found):
        kept += [IPTC, IPTC_DIGEST]
    return b"".join(each.whole for each in found if each.id in kept)


def _has_captions(iptc: bytes) -> bool:
    sets = {(match[1][0], match[2][0]) for match in DATA_SET.finditer(iptc)}
    return not sets <= {*ABOUT_ITSELF}


def named(block: bytes) -> list[str]:
    """Return names of the contents, for messages."""
    ids = {each.id for each in resources(block)}
    names = {
        "its IPTC captions": IPTC in ids,
        "its copyright mark": not ids.isdisjoint((COPYRIGHTED, URL)),
        "its clipping paths": not ids.isdisjoint(PATHS),
    }
    return [name for name, is_there in names.items() if is_there]


def iptc_in(block: bytes) -> bytes | None:
    """Return the IPTC captions of a block."""
    return next((each.data for each in resources(block) if each.id == IPTC), None)


def with_iptc(block: bytes, iptc: bytes) -> bytes:
    """Return the block with these IPTC captions, unless it has some of its own."""
    if not iptc or iptc_in(block) is not None:
        return block
    if iptc[:1] != b"\x1c" and iptc[3:4] == b"\x1c":  # stored as numbers in another byte order
        iptc = b"".join(iptc[at : at + 4][::-1] for at in range(0, len(iptc), 4))
    head = b"8BIM" + struct.pack(">HHI", IPTC, 0, len(iptc))
    return head + iptc + b"\0" * (len(iptc) % 2) + block
