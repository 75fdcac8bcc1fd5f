"""EXIF as bytes, which is also how TIFF keeps its tags: directories of 12-byte entries.

What says how an image is turned and how large it is changes with the image; all else, the notes
of the camera maker too, stays where it is, byte for byte.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Union

FIRST = 8  # where the first directory of what we write lies
MOST_NUMBERS = 4096  # of one tag that are looked at

ORIENTATION = 0x0112
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
INCH, CENTIMETRE = 2, 3
EXIF, GPS, INTEROP = 0x8769, 0x8825, 0xA005  # point to directories of their own
WIDTHS, HEIGHTS = (0x0100, 0xA002), (0x0101, 0xA003)  # of the image, and as EXIF repeats it
THUMBNAIL_AT, THUMBNAIL_LENGTH = 0x0201, 0x0202

BYTE, SHORT, LONG, RATIONAL, UNDEFINED = 1, 3, 4, 5, 7
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
SIZES |= {16: 8, 17: 8, 18: 8}  # BigTIFF
CODES = {BYTE: "B", SHORT: "H", LONG: "I", 13: "I", 16: "Q", 18: "Q"}

# The tags of a TIFF's first directory that tell of the image, not of how the file is laid out.
DESCRIPTIVE = {
    *(0x010D, 0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298),
    *(0x4746, 0x4749),  # rating
    *range(0x9C9B, 0x9CA0),  # title, comment, author, keywords, subject, as Windows writes them
}

Order = Literal["<", ">"]  # of bytes, as struct calls it
ORDERS: dict[bytes, Order] = {b"II": "<", b"MM": ">"}

# A directory to be written: tag -> (type, count, value), or a directory below it.
Tree = dict[int, Union[tuple[int, int, bytes], "Tree"]]


@dataclass(frozen=True)
class Entry:
    type: int
    count: int
    at: int  # where its value lies

    @property
    def size(self) -> int:
        return SIZES[self.type] * self.count


@dataclass(frozen=True)
class Directory:
    """The tags in one place of `data`; values are cut out only when asked for."""

    data: bytes
    order: Order
    entries: Mapping[int, Entry]
    following_at: int  # where the place of the following directory is written
    following: int  # that place; 0: there is none

    def value(self, tag: int) -> bytes | None:
        entry = self.entries.get(tag)
        return self.data[entry.at : entry.at + entry.size] if entry else None

    def numbers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        entry = self.entries.get(tag)
        if entry is None or entry.type not in CODES:
            return default
        count = min(entry.count, MOST_NUMBERS)
        return struct.unpack_from(f"{self.order}{count}{CODES[entry.type]}", self.data, entry.at)

    def fraction(self, tag: int) -> float | None:
        entry = self.entries.get(tag)
        if entry is None or entry.type != RATIONAL:
            return None
        above, below = struct.unpack_from(f"{self.order}2I", self.data, entry.at)
        return above / below if below else None


def first_directory(data: bytes) -> Directory:
    """Of a TIFF, a BigTIFF, or EXIF. Raises ValueError."""
    order = ORDERS.get(data[:2])
    if order is None:
        raise ValueError("neither II nor MM at the start of the tags")
    try:
        if _is_big(data, order):
            return read_directory(data, struct.unpack_from(f"{order}Q", data, 8)[0], order)
        return read_directory(data, struct.unpack_from(f"{order}I", data, 4)[0], order)
    except struct.error as error:
        raise ValueError("the tags are cut off") from error


def read_directory(data: bytes, at: int, order: Order) -> Directory:
    """The directory in a place; entries that point beyond the data are left out.

    Raises struct.error.
    """
    count_code, place_code, length = ("Q", "Q", 20) if _is_big(data, order) else ("H", "I", 12)
    (count,) = struct.unpack_from(order + count_code, data, at)
    at += struct.calcsize(order + count_code)
    inline = struct.calcsize(order + place_code)
    following_at = at + count * length
    (following,) = struct.unpack_from(order + place_code, data, following_at)
    entries = {}
    for entry_at in range(at, following_at, length):
        tag, type, number = struct.unpack_from(f"{order}HH{place_code}", data, entry_at)
        size = SIZES.get(type, 0) * number
        value_at = entry_at + length - inline
        if size > inline:
            (value_at,) = struct.unpack_from(order + place_code, data, value_at)
        if 0 < size <= len(data) - value_at:
            entries[tag] = Entry(type, number, value_at)
    return Directory(data, order, entries, following_at, following)


def _is_big(data: bytes, order: Order) -> bool:
    return data[2:4] == struct.pack(f"{order}H", 43)


def _below(directory: Directory, tag: int) -> Directory | None:
    """The directory that a tag points to, where there is a whole one."""
    for place in directory.numbers(tag)[:1]:
        try:
            return read_directory(directory.data, place, directory.order)
        except struct.error:  # a part that is lost does not make the rest worthless
            return None
    return None


def orientation(directory: Directory) -> int:
    """1 to 8, as the tag counts; 1 (upright) where it says nothing sensible."""
    said = directory.numbers(ORIENTATION, (1,))[0]
    return said if 1 <= said <= 8 else 1


def resolution(directory: Directory) -> tuple[float, float] | None:
    """Dots per inch, (x, y); None where there is none, or no unit."""
    x, y = directory.fraction(X_RESOLUTION), directory.fraction(Y_RESOLUTION)
    unit = directory.numbers(RESOLUTION_UNIT, (INCH,))[0]
    if x is None or unit not in (INCH, CENTIMETRE):
        return None
    per_inch = 2.54 if unit == CENTIMETRE else 1.0
    return x * per_inch, (x if y is None else y) * per_inch


def upright(exif: bytes) -> bytes:
    """The same, saying that the image needs no turning, and without the small old image.

    Raises ValueError.
    """
    first = first_directory(exif)
    if _is_big(exif, first.order):
        raise ValueError("BigTIFF where EXIF should be")
    data = bytearray(exif)
    _overwrite(data, first, ORIENTATION, 1)
    if first.following:
        struct.pack_into(f"{first.order}I", data, first.following_at, 0)
        with suppress(struct.error):  # there was none, whatever was said
            _blot_out(data, read_directory(exif, first.following, first.order))
    return bytes(data)


def _blot_out(data: bytearray, thumbnail: Directory) -> None:
    """Cut the thumbnail off where it lies at the end, as it mostly does; else make it zeros."""
    start = thumbnail.numbers(THUMBNAIL_AT, (0,))[0]
    stop = start + thumbnail.numbers(THUMBNAIL_LENGTH, (0,))[0]
    if not FIRST < start < stop <= len(data):
        return
    if len(data) - stop <= 1:  # padded to an even length
        del data[start:]
    else:
        data[start:stop] = bytes(stop - start)


def resized(exif: bytes, height: int, width: int) -> bytes:
    """The same, telling the size of the image where it told one. Raises ValueError."""
    data = bytearray(exif)
    first = first_directory(exif)
    for directory in filter(None, (first, _below(first, EXIF))):
        for tags, size in ((WIDTHS, width), (HEIGHTS, height)):
            for tag in tags:
                _overwrite(data, directory, tag, size)
    return bytes(data)


def _overwrite(data: bytearray, directory: Directory, tag: int, number: int) -> None:
    """Put a number where a tag has one already, if it fits there."""
    entry = directory.entries.get(tag)
    if entry and entry.type in (SHORT, LONG) and number < 256 ** SIZES[entry.type]:
        struct.pack_into(directory.order + CODES[entry.type], data, entry.at, number)


def describing(data: bytes) -> tuple[Order, Tree]:
    """Byte order, and the tags that tell of the image, from EXIF or a TIFF. Raises ValueError."""
    first = first_directory(data)
    tree = _tree(first, (tag for tag in first.entries if tag in DESCRIPTIVE))
    for tag in (EXIF, GPS):
        if directory := _below(first, tag):
            below = tree[tag] = _tree(directory, directory.entries)
            if tag == EXIF and (interop := _below(directory, INTEROP)):
                below[INTEROP] = _tree(interop, interop.entries)
    return first.order, tree


def _tree(directory: Directory, tags: Iterable[int]) -> Tree:
    """Those of the tags that point to no further directory."""
    entries = {tag: directory.entries[tag] for tag in tags if tag not in (EXIF, GPS, INTEROP)}
    if sum(entry.size for entry in entries.values()) > len(directory.data):
        raise ValueError("the tags overlap")  # so that a small file could unfold to a huge one
    return {
        tag: (entry.type, entry.count, directory.value(tag) or b"")
        for tag, entry in entries.items()
    }


def of_tiff(data: bytes) -> bytes | None:
    """What a TIFF tells of its image, as EXIF; None if nothing. Raises ValueError."""
    order, tree = describing(data)
    return header(order) + pack(tree, FIRST, order) if tree else None


def with_resolution(exif: bytes | None, dpi: tuple[float, float]) -> bytes:
    """EXIF that tells the resolution too, unless it does already. Raises ValueError."""
    if exif is None:
        return header("<") + pack(resolution_tags(dpi, "<"), FIRST, "<")
    first = first_directory(exif)
    if X_RESOLUTION in first.entries:
        return exif
    # Nothing may move, so a longer first directory goes to the end, after the new values.
    even = exif + bytes(len(exif) % 2)
    values = pack(resolution_tags(dpi, first.order), len(even), first.order)
    (start,) = struct.unpack_from(f"{first.order}I", exif, 4)
    entries = [exif[at : at + 12] for at in range(start + 2, first.following_at, 12)]
    entries += [values[at : at + 12] for at in range(2, 2 + 3 * 12, 12)]
    entries.sort(key=lambda entry: struct.unpack_from(f"{first.order}H", entry))
    count = struct.pack(f"{first.order}H", len(entries))
    directory = count + b"".join(entries) + bytes(4)
    return header(first.order, len(even) + len(values)) + even[8:] + values + directory


def resolution_tags(dpi: tuple[float, float], order: Order) -> Tree:
    """dpi: (x, y)."""
    x, y = (struct.pack(f"{order}2I", round(value * 10_000), 10_000) for value in dpi)
    return {
        X_RESOLUTION: (RATIONAL, 1, x),
        Y_RESOLUTION: (RATIONAL, 1, y),
        RESOLUTION_UNIT: (SHORT, 1, struct.pack(f"{order}H", INCH)),
    }


def header(order: Order, first: int = FIRST) -> bytes:
    """The eight bytes before everything; first: the place of the first directory."""
    return (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, first)


def pack(tree: Tree, at: int, order: Order) -> bytes:
    """A directory and those below it, to lie in a place. Raises struct.error beyond 4 GB."""
    body_at = at + 2 + 12 * len(tree) + 4
    entries, body = struct.pack(f"{order}H", len(tree)), b""
    for tag in sorted(tree):
        node = tree[tag]
        place = struct.pack(f"{order}I", body_at + len(body))
        if isinstance(node, dict):
            type, count, field = LONG, 1, place
            body += pack(node, body_at + len(body), order)
        else:
            type, count, value = node
            field = value.ljust(4, b"\0") if len(value) <= 4 else place
            if len(value) > 4:
                body += value + b"\0" * (len(value) % 2)
        entries += struct.pack(f"{order}HHI", tag, type, count) + field
    return entries + bytes(4) + body
