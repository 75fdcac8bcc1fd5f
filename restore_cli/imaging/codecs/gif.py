"""Contents of a GIF beside its frames."""

from __future__ import annotations

import struct

from restore_cli.imaging.codecs.segments import BEHIND, Beside

HEADER = 13  # bytes, before the colours
EXTENSION, IMAGE, END = 0x21, 0x2C, 0x3B  # first bytes of blocks
COMMENT, TEXT, APPLICATION = 0xFE, 0x01, 0xFF  # labels of extensions
# Applications whose data Pillow reads: the number of plays, and XMP.
READ = (b"NETSCAPE2.0", b"ANIMEXTS1.0", b"XMP DataXMP")
PROFILE = b"ICCRGBG1012"


def read_beside(data: bytes) -> Beside:
    """Return the comments, and name what else is not read; of a damaged file, up to the damage."""
    comments, dropped = list[bytes](), list[str]()
    try:
        at = HEADER + _colours(data[10])
        while (kind := data[at]) != END:
            if kind == IMAGE:
                at += 10 + _colours(data[at + 9])
                _, at = _parts(data, at + 1, keep=False)  # behind the size of the codes
            elif kind == EXTENSION:
                label = data[at + 1]
                parts, at = _parts(data, at + 2, keep=label in (COMMENT, APPLICATION))
                if label == COMMENT:
                    comments.append(b"".join(parts))
                elif label == TEXT:
                    dropped.append("its plain text")
                elif label == APPLICATION and parts and parts[0] not in READ:
                    is_profile = parts[0] == PROFILE
                    dropped.append("its ICC profile" if is_profile else "its application data")
            else:
                break
        if kind == END and data[at + 1 :].strip(b"\0"):
            dropped.append(BEHIND)
    except (IndexError, struct.error):
        pass  # decoding reports it
    return Beside(tuple(comments), b"", tuple(dict.fromkeys(dropped)))


def _colours(flags: int) -> int:
    """Return the length of a table of colours."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _parts(data: bytes, at: int, *, keep: bool) -> tuple[list[bytes], int]:
    """Return the parts of a block, if they are to be kept, and the offset behind it."""
    parts = list[bytes]()
    while length := data[at]:
        if keep:
            parts.append(data[at + 1 : at + 1 + length])
        at += 1 + length
    return parts, at + 1
