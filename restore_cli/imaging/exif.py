"""EXIF blocks (EXIF 2.32): upright orientation, no stale thumbnail, the true size, all else kept.

A block that came with a JPEG, PNG or WebP is patched in place, byte for byte: rewriting it would
break the offsets inside maker notes. A block is held without the "Exif\\0\\0" prefix.
"""

from __future__ import annotations

import struct

from restore_cli.imaging.directory import (
    LONG,
    SHORT,
    Directory,
    Field,
    Header,
    Tree,
    numbers,
    pack,
    read_directory,
    read_header,
)

ORIENTATION = 0x0112
_EXIF, _GPS, _INTEROP = 0x8769, 0x8825, 0xA005
_PIXEL_WIDTH, _PIXEL_HEIGHT = 0xA002, 0xA003
_THUMBNAIL, _THUMBNAIL_LENGTH = 0x0201, 0x0202
_RESOLUTION = (0x011A, 0x011B, 0x0128)
_WORDS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298)  # maker, date, artist ...
_WINDOWS = (0x4746, 0x4749, *range(0x9C9B, 0x9CA0))  # rating, title, comment, author, keywords ...
_IPTC = 0x83BB
KEPT = frozenset((*_WORDS, *_WINDOWS, *_RESOLUTION, _IPTC))
"""Tags of a first directory that describe the picture and not how its file stores it."""


def orientation(block: bytes) -> int:
    """How the stored picture must be turned, 1 to 8. Raises ValueError for a damaged block."""
    header = read_header(block)
    return orientation_of(read_directory(block, header, header.first))


def orientation_of(directory: Directory) -> int:
    """The orientation that a first directory gives, 1 where it gives none that exists."""
    value = directory.integer(ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def upright(block: bytes) -> bytes:
    """The block of the same picture once it stands upright and has been changed: Orientation 1,
    and the thumbnail, which shows the old picture, erased. Raises ValueError for a damaged block.
    """
    header = read_header(block)
    first = read_directory(block, header, header.first)
    patched = bytearray(block)
    if ORIENTATION in first.fields:
        _patch(patched, first, ORIENTATION, SHORT, 1)
    if first.following:
        struct.pack_into(header.order + "I", patched, first.link, 0)
        _erase_thumbnail(patched, read_directory(block, header, first.following))
    return bytes(patched)


def resized(block: bytes, height: int, width: int) -> bytes:
    """The block with its pixel dimensions, if it states any, set to the true ones."""
    header = read_header(block)
    first = read_directory(block, header, header.first)
    if _EXIF not in first.fields:
        return block
    photo = read_directory(block, header, first.integer(_EXIF, 0))
    patched = bytearray(block)
    for tag, size in ((_PIXEL_WIDTH, width), (_PIXEL_HEIGHT, height)):
        if tag in photo.fields:
            _patch(patched, photo, tag, LONG, size)
    return bytes(patched)


def from_tiff(data: bytes, header: Header, first: Directory) -> bytes | None:
    """What the first directory of a TIFF file says of the picture, as an upright EXIF block.

    Offsets inside a maker note cannot survive the move; its bytes do.
    """
    order = header.order
    children: dict[int, Tree] = {}
    if _EXIF in first.fields:
        photo = read_directory(data, header, first.integer(_EXIF, 0))
        below = {}
        if _INTEROP in photo.fields:
            interop = read_directory(data, header, photo.integer(_INTEROP, 0))
            below[_INTEROP] = Tree(_small(interop))
        children[_EXIF] = Tree(_small(photo, without=_INTEROP), below)
    if _GPS in first.fields:
        children[_GPS] = Tree(_small(read_directory(data, header, first.integer(_GPS, 0))))
    fields = {tag: field for tag, field in _small(first).items() if tag in KEPT}
    if not fields and not children:
        return None
    fields[ORIENTATION] = numbers(order, SHORT, 1)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "I", 8) + pack(Tree(fields, children), order, 8)


def _small(directory: Directory, without: int | None = None) -> dict[int, Field]:
    # types above 13 are BigTIFF's own and unknown to EXIF
    return {
        tag: field
        for tag, field in directory.fields.items()
        if tag != without and field.type <= 13
    }


def _patch(block: bytearray, directory: Directory, tag: int, type_: int, value: int) -> None:
    """Makes an entry hold one number, whatever it held before."""
    entry = directory.fields[tag].entry
    number = "I" if type_ == LONG else "Hxx"
    struct.pack_into(directory.order + "HI" + number, block, entry + 2, type_, 1, value)


def _erase_thumbnail(block: bytearray, directory: Directory) -> None:
    start = directory.integer(_THUMBNAIL, 0)
    end = start + directory.integer(_THUMBNAIL_LENGTH, 0)
    if 8 <= start < end <= len(block):
        block[start:end] = bytes(end - start)
        if end >= len(block) - 1:  # it stood last, as it mostly does: cut it off
            del block[start:]
