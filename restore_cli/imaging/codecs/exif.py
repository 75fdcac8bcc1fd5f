"""EXIF as bytes, in the layout of TIFF tags: directories of 12-byte entries.

Orientation and size change with the image, and tags that describe another file or another pixel
grid are taken out. Everything else, the maker notes of the camera included, stays in its place,
byte for byte.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Union

FIRST = 8  # offset of the first directory that is written
MOST_NUMBERS = 4096  # that are read of one tag

ORIENTATION = 0x0112
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
INCH, CENTIMETRE = 2, 3
EXIF, GPS, INTEROP = 0x8769, 0x8825, 0xA005  # point to further directories
WIDTHS, HEIGHTS = (
    (0x0100, 0xA002),
    (0x0101, 0xA003),
)  # in the image's directory and EXIF's
THUMBNAIL_AT, THUMBNAIL_LENGTH = 0x0201, 0x0202
DESCRIPTION = 0x010E
TRANSFER_FUNCTION = 0x012D
SUBJECT = frozenset((0x9214, 0xA214))  # area and location in pixels
# Tags of the image's directory that tell how the pixels of a file are stored, or repeat metadata.
STORAGE = frozenset(
    (
        *(0x00FE, 0x00FF, 0x0102, 0x0103, 0x0106, 0x0111, 0x0115, 0x0116, 0x0117, 0x011C, 0x013D),
        *(0x0140, 0x0142, 0x0143, 0x0144, 0x0145, 0x014A, 0x014C, 0x0152, 0x0153, 0x0201, 0x0202),
        *(0x02BC, 0x83BB, 0x8649, 0x8773),  # XMP, IPTC, Photoshop, ICC
    )
)

BYTE, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 3, 4, 5, 7, 16
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
SIZES |= {16: 8, 17: 8, 18: 8}  # BigTIFF
CODES = {BYTE: "B", SHORT: "H", LONG: "I", 13: "I", 16: "Q", 18: "Q"}

# Tags of a TIFF's first directory that describe the image, not the layout of the file.
DESCRIPTIVE = {
    *(0x010D, 0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298),
    *(TRANSFER_FUNCTION, 0x013E, 0x013F),  # and the chromaticities of white and primaries
    *(0x4746, 0x4749),  # rating
    *range(0x9C9B, 0x9CA0),  # title, comment, author, keywords, subject, as Windows writes them
}

Order = Literal["<", ">"]  # byte order, as in the struct module
ORDERS: dict[bytes, Order] = {b"II": "<", b"MM": ">"}

# A directory to write: tag -> (type, count, value), or a directory below it.
Tree = dict[int, Union[tuple[int, int, bytes], "Tree"]]


@dataclass(frozen=True)
class Entry:
    """One tag of a directory."""

    type: int
    count: int
    at: int  # offset of the value

    @property
    def size(self) -> int:
        return SIZES[self.type] * self.count


@dataclass(frozen=True)
class Directory:
    """The tags at one offset of `data`; values are read on demand."""

    data: bytes
    order: Order
    start: int
    entries: Mapping[int, Entry]
    following_at: int  # offset of the field `following`
    following: int  # offset of the following directory; 0: none

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
    """Return the first directory of a TIFF, a BigTIFF, or EXIF. Raises ValueError."""
    order = ORDERS.get(data[:2])
    if order is None:
        raise ValueError("neither II nor MM at the start of the tags")
    try:
        if is_big(data, order):
            return read_directory(data, struct.unpack_from(f"{order}Q", data, 8)[0], order)
        return read_directory(data, struct.unpack_from(f"{order}I", data, 4)[0], order)
    except struct.error as error:
        raise ValueError("the tags are cut off") from error


def read_directory(data: bytes, at: int, order: Order) -> Directory:
    """Return the directory at an offset; entries that point beyond the data are dropped.

    Raises struct.error.
    """
    start = at
    count_code, place_code, length = ("Q", "Q", 20) if is_big(data, order) else ("H", "I", 12)
    if at > len(data):
        raise struct.error("a directory beyond the data")  # far beyond, it would be OverflowError
    (count,) = struct.unpack_from(order + count_code, data, at)
    at += struct.calcsize(order + count_code)
    inline = struct.calcsize(order + place_code)
    following_at = at + count * length
    if following_at > len(data):
        raise struct.error("a directory beyond the data")
    (following,) = struct.unpack_from(order + place_code, data, following_at)
    entries = {}
    for entry_at in range(at, following_at, length):
        tag, type, number = struct.unpack_from(f"{order}HH{place_code}", data, entry_at)
        size = SIZES.get(type, 0) * number
        value_at = entry_at + length - inline
        if size > inline:
            (value_at,) = struct.unpack_from(order + place_code, data, value_at)
        if 0 < size <= len(data) - value_at and tag not in entries:
            entries[tag] = Entry(type, number, value_at)
    return Directory(data, order, start, entries, following_at, following)


def is_big(data: bytes, order: Order) -> bool:
    return data[2:4] == struct.pack(f"{order}H", 43)


def is_whole(directory: Directory) -> bool:
    """Return False if a directory to which another one points cannot be read."""
    return all(_below(directory, tag) for tag in (EXIF, GPS) if tag in directory.entries)


def _below(directory: Directory, tag: int) -> Directory | None:
    """Return the directory that a tag points to, if it is complete."""
    for place in directory.numbers(tag)[:1]:
        try:
            return read_directory(directory.data, place, directory.order)
        except struct.error:  # the rest is still useful
            return None
    return None


def read_orientation(directory: Directory) -> int:
    """Return the orientation, 1 to 8; 1 (upright) if it is absent or invalid."""
    found = directory.numbers(ORIENTATION, (1,))[0]
    return found if 1 <= found <= 8 else 1


def read_resolution(directory: Directory) -> tuple[float, float] | None:
    """Return the dots per inch, (x, y); None without resolution or unit."""
    x, y = directory.fraction(X_RESOLUTION), directory.fraction(Y_RESOLUTION)
    unit = directory.numbers(RESOLUTION_UNIT, (INCH,))[0]
    if x is None or unit not in (INCH, CENTIMETRE):
        return None
    per_inch = 2.54 if unit == CENTIMETRE else 1.0
    return x * per_inch, (x if y is None else y) * per_inch


def for_upright(exif: bytes) -> bytes:
    """Return EXIF with orientation 1, and without thumbnail and storage of the file it is from.

    Raises ValueError.
    """
    first = first_directory(exif)
    if is_big(exif, first.order):
        raise ValueError("BigTIFF where EXIF should be")
    data = bytearray(exif)
    _overwrite(data, first, ORIENTATION, 1)
    if first.following:
        struct.pack_into(f"{first.order}I", data, first.following_at, 0)
        with suppress(struct.error):  # the stated directory does not exist
            _remove_thumbnail(data, read_directory(exif, first.following, first.order))
    _remove_tags(data, first, STORAGE)
    if read_orientation(first) > 1 and (shot := _below(first, EXIF)):
        _remove_tags(data, shot, SUBJECT)
    return bytes(data)


def without_description(exif: bytes) -> bytes:
    """Return EXIF without the description of the image. Raises ValueError."""
    data, first = bytearray(exif), first_directory(exif)
    if entry := first.entries.get(DESCRIPTION):
        data[entry.at : entry.at + entry.size] = bytes(entry.size)
    _remove_tags(data, first, frozenset((DESCRIPTION,)))
    return bytes(data)


def without_transfer_function(exif: bytes) -> bytes:
    """Return descriptive tags alone, without the transfer function. Raises ValueError."""
    order, tree = descriptive_tags(exif)
    tree.pop(TRANSFER_FUNCTION, None)
    return tiff_header(order) + pack_directory(tree, FIRST, order)


def suits_depth(exif: bytes, depth: int) -> bool:
    """Return False for a transfer function of other levels than those of `depth` bits.

    Raises ValueError.
    """
    entry = first_directory(exif).entries.get(TRANSFER_FUNCTION)
    return entry is None or entry.count in (1 << depth, 3 << depth)


def _remove_tags(data: bytearray, directory: Directory, tags: frozenset[int]) -> None:
    """Remove tags from a directory; no value moves, except those inside the directory."""
    code, stop = f"{directory.order}H", directory.following_at
    entries = [bytes(data[at : at + 12]) for at in range(directory.start + 2, stop, 12)]
    kept = [entry for entry in entries if struct.unpack_from(code, entry)[0] not in tags]
    rest = struct.pack(code, len(kept)) + b"".join(kept) + bytes(data[stop : stop + 4])
    data[directory.start : stop + 4] = rest.ljust(stop + 4 - directory.start, b"\0")


def _remove_thumbnail(data: bytearray, thumbnail: Directory) -> None:
    """Remove the thumbnail if it lies at the end, as usual; else overwrite it with zeros."""
    start = thumbnail.numbers(THUMBNAIL_AT, (0,))[0]
    stop = start + thumbnail.numbers(THUMBNAIL_LENGTH, (0,))[0]
    if not FIRST < start < stop <= len(data):
        return
    if len(data) - stop <= 1:  # padded to an even length
        del data[start:]
    else:
        data[start:stop] = bytes(stop - start)


def with_size(exif: bytes, height: int, width: int) -> bytes:
    """Return EXIF with this size wherever it states a size. Raises ValueError.

    A subject area in pixels of another size is removed.
    """
    data = bytearray(exif)
    first = first_directory(exif)
    shot = _below(first, EXIF)
    for directory in filter(None, (first, shot)):
        for tags, size in ((WIDTHS, width), (HEIGHTS, height)):
            for tag in tags:
                _overwrite(data, directory, tag, size)
    if shot and bytes(data) != exif:
        _remove_tags(data, shot, SUBJECT)
    return bytes(data)


def _overwrite(data: bytearray, directory: Directory, tag: int, number: int) -> None:
    """Replace the number of an existing tag, if the new one fits."""
    entry = directory.entries.get(tag)
    if entry and entry.type in (SHORT, LONG) and number < 256 ** SIZES[entry.type]:
        struct.pack_into(directory.order + CODES[entry.type], data, entry.at, number)


def descriptive_tags(data: bytes) -> tuple[Order, Tree]:
    """Return byte order and tags that describe the image, of EXIF or a TIFF. Raises ValueError."""
    first = first_directory(data)
    tree = _tree(first, (tag for tag in first.entries if tag in DESCRIPTIVE))
    for tag in (EXIF, GPS):
        if directory := _below(first, tag):
            below = tree[tag] = _tree(directory, directory.entries)
            if tag == EXIF and (interop := _below(directory, INTEROP)):
                below[INTEROP] = _tree(interop, interop.entries)
    return first.order, tree


def _tree(directory: Directory, tags: Iterable[int]) -> Tree:
    """Return those of the tags that do not point to a directory."""
    entries = {tag: directory.entries[tag] for tag in tags if tag not in (EXIF, GPS, INTEROP)}
    if sum(entry.size for entry in entries.values()) > len(directory.data):
        raise ValueError("the tags overlap")  # copied one by one, they could grow to a huge file
    return {
        tag: (entry.type, entry.count, directory.value(tag) or b"")
        for tag, entry in entries.items()
    }


def exif_of_tiff(data: bytes) -> bytes | None:
    """Return the descriptive tags of a TIFF as EXIF, None without any. Raises ValueError."""
    order, tree = descriptive_tags(data)
    return tiff_header(order) + pack_directory(tree, FIRST, order) if tree else None


def with_resolution(exif: bytes | None, dpi: tuple[float, float]) -> bytes:
    """Return EXIF that states a resolution, its own or else `dpi`. Raises ValueError."""
    if exif is None:
        return tiff_header("<") + pack_directory(resolution_tags(dpi, "<"), FIRST, "<")
    first = first_directory(exif)
    if X_RESOLUTION in first.entries:
        return exif
    # No value may move: the longer first directory goes to the end, after the new values.
    even = exif + bytes(len(exif) % 2)
    values = pack_directory(resolution_tags(dpi, first.order), len(even), first.order)
    (start,) = struct.unpack_from(f"{first.order}I", exif, 4)
    entries = [exif[at : at + 12] for at in range(start + 2, first.following_at, 12)]
    entries += [values[at : at + 12] for at in range(2, 2 + 3 * 12, 12)]
    entries.sort(key=lambda entry: struct.unpack_from(f"{first.order}H", entry))
    count = struct.pack(f"{first.order}H", len(entries))
    directory = count + b"".join(entries) + bytes(4)
    return tiff_header(first.order, len(even) + len(values)) + even[8:] + values + directory


def resolution_tags(dpi: tuple[float, float], order: Order) -> Tree:
    """Return the tags of a resolution (x, y) in dots per inch."""
    x, y = (struct.pack(f"{order}2I", round(value * 10_000), 10_000) for value in dpi)
    return {
        X_RESOLUTION: (RATIONAL, 1, x),
        Y_RESOLUTION: (RATIONAL, 1, y),
        RESOLUTION_UNIT: (SHORT, 1, struct.pack(f"{order}H", INCH)),
    }


def tiff_header(order: Order, first: int = FIRST, *, big: bool = False) -> bytes:
    """Return the start, 8 bytes, or 16 of a BigTIFF; first: offset of the first directory."""
    mark = b"II" if order == "<" else b"MM"
    if big:
        return mark + struct.pack(f"{order}3HQ", 43, 8, 0, first)
    return mark + struct.pack(f"{order}HI", 42, first)


def pack_directory(tree: Tree, at: int, order: Order, *, big: bool = False) -> bytes:
    """Encode a directory, with those below it, for an offset; big: of a BigTIFF.

    Raises struct.error beyond 4 GB, unless it is big.
    """
    count_code, place_code = ("Q", "Q") if big else ("H", "I")
    inline = struct.calcsize(place_code)
    entries, body = struct.pack(order + count_code, len(tree)), b""
    body_at = at + len(entries) + (4 + 2 * inline) * len(tree) + inline
    for tag in sorted(tree):
        node = tree[tag]
        place = struct.pack(order + place_code, body_at + len(body))
        if isinstance(node, dict):
            type, count, field = (LONG8 if big else LONG), 1, place
            body += pack_directory(node, body_at + len(body), order, big=big)
        else:
            type, count, value = node
            field = value.ljust(inline, b"\0") if len(value) <= inline else place
            if len(value) > inline:
                body += value + b"\0" * (len(value) % 2)
        entries += struct.pack(f"{order}HH{place_code}", tag, type, count) + field
    return entries + bytes(inline) + body
