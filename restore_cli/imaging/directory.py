"""Directories of tagged values, as TIFF files and EXIF blocks hold them.

TIFF 6.0, section 2; BigTIFF is read too. Byte orders are written as in `struct`: "<" or ">".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
_FORMATS = MappingProxyType(  # of the types that hold plain numbers
    {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q", 18: "Q"}
)
_SIZES = MappingProxyType(
    {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
    | {16: 8, 17: 8, 18: 8}
)
_ORDERS = MappingProxyType({b"II": "<", b"MM": ">"})


@dataclass(frozen=True)
class Header:
    """How a TIFF structure is written and where its first directory starts."""

    order: str
    big: bool  # BigTIFF: 64-bit offsets
    first: int


@dataclass(frozen=True)
class Field:
    """The value of one tag: its type and its bytes in the byte order of the file."""

    type: int
    data: bytes | memoryview  # a view of the file where it was read: nothing is copied
    entry: int = -1  # where its entry stands in that file

    @property
    def count(self) -> int:
        return len(self.data) // _SIZES[self.type]


@dataclass(frozen=True)
class Directory:
    """One directory. `following` is the offset of the next one, 0 for none, read at `link`."""

    order: str
    fields: Mapping[int, Field]
    following: int
    link: int

    def numbers(self, tag: int, default: tuple[float, ...] = ()) -> tuple[float, ...]:
        """All numbers of a tag, rationals divided; `default` where it is absent or of no use."""
        field = self.fields.get(tag)
        if field is None or not field.count:
            return default
        if field.type in (RATIONAL, 10):
            parts = struct.unpack(
                f"{self.order}{2 * field.count}{'I' if field.type == RATIONAL else 'i'}", field.data
            )
            pairs = zip(parts[::2], parts[1::2], strict=True)
            return tuple(above / below if below else 0.0 for above, below in pairs)
        if field.type not in _FORMATS:
            return default
        return struct.unpack(f"{self.order}{field.count}{_FORMATS[field.type]}", field.data)

    def integers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """All numbers of a tag as integers."""
        return tuple(int(number) for number in self.numbers(tag, default))

    def integer(self, tag: int, default: int) -> int:
        """The first number of a tag."""
        return self.integers(tag, (default,))[0]


def read_header(data: bytes) -> Header:
    """The header of a TIFF structure. Raises ValueError where there is none."""
    order = _ORDERS.get(bytes(data[:2]))
    if order is None or len(data) < 8:
        raise ValueError("no TIFF header")
    version, first = struct.unpack_from(order + "HI", data, 2)
    if version == 42:
        return Header(order, False, first)
    if version == 43 and len(data) >= 16:
        return Header(order, True, struct.unpack_from(order + "Q", data, 8)[0])
    raise ValueError(f"TIFF version {version}, not 42 or 43")


def read_directory(data: bytes, header: Header, offset: int) -> Directory:
    """The directory at `offset`. Values that lie outside the data or have no known type are left
    out, as every reader does. Raises ValueError where the table itself is cut.
    """
    count_format, entry_format, offset_format = (
        ("Q", "HHQ8s", "Q") if header.big else ("H", "HHI4s", "I")
    )
    entry_size = struct.calcsize("<" + entry_format)
    table = offset + struct.calcsize("<" + count_format)
    view = memoryview(data)
    fields: dict[int, Field] = {}
    try:
        (count,) = struct.unpack_from(header.order + count_format, data, offset)
        link = table + count * entry_size
        (following,) = struct.unpack_from(header.order + offset_format, data, link)
        for entry in range(table, link, entry_size):
            tag, type_, number, value = struct.unpack_from(header.order + entry_format, data, entry)
            size = number * _SIZES.get(type_, 0)
            found: bytes | memoryview = value[:size]
            if size > len(value):
                (start,) = struct.unpack(header.order + offset_format, value)
                found = view[start : start + size]
            if size and len(found) == size:
                fields.setdefault(tag, Field(type_, found, entry))
    except (struct.error, OverflowError) as error:
        raise ValueError(f"directory at {offset} is cut") from error
    return Directory(header.order, MappingProxyType(fields), following, link)


def numbers(order: str, type_: int, *values: int) -> Field:
    """A field of integers."""
    return Field(type_, struct.pack(f"{order}{len(values)}{_FORMATS[type_]}", *values))


@dataclass(frozen=True)
class Tree:
    """A directory to be written, and the directories that some of its tags point to."""

    fields: Mapping[int, Field]
    children: Mapping[int, Tree] = MappingProxyType({})


def pack(tree: Tree, order: str, position: int) -> bytes:
    """The bytes of a directory that starts at the even offset `position`, then its long values,
    then its children. No directory follows it.
    """
    pointers = {tag: numbers(order, LONG, 0) for tag in tree.children}
    end = position + len(_pack_table({**tree.fields, **pointers}, order, position))
    below = b""
    for tag, child in tree.children.items():
        pointers[tag] = numbers(order, LONG, end + len(below))
        below += pack(child, order, end + len(below))
    return _pack_table({**tree.fields, **pointers}, order, position) + below


def _pack_table(fields: Mapping[int, Field], order: str, position: int) -> bytes:
    entries, values = [], bytearray()
    start = position + 2 + 12 * len(fields) + 4
    for tag, field in sorted(fields.items()):
        inline = bytes(field.data).ljust(4, b"\0")
        if len(field.data) > 4:
            inline = struct.pack(order + "I", start + len(values))
            values += field.data
            values += bytes(len(values) % 2)  # values start at even offsets
        entries.append(struct.pack(order + "HHI4s", tag, field.type, field.count, inline))
    return b"".join(
        [struct.pack(order + "H", len(entries)), *entries, struct.pack(order + "I", 0), values]
    )
