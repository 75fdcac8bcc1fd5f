"""TensorFlow checkpoints without TensorFlow: NAME.index says what NAME.data-00000-of-00001 holds.

The index is a LevelDB table: blocks of sorted keys, each stored as what differs from the key
before; a last block that points to them; a footer that points to that. Its values are protocol
buffers, one for each variable. The data file is the bare arrays.
Checksums inside are not looked at: crc32c of 15 MB in Python takes longer than all the rest.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from restore_cli.errors import WeightsCorrupt

if TYPE_CHECKING:
    from torch import Tensor

INDEX_SUFFIX = ".index"
DATA_SUFFIX = ".data-00000-of-00001"
FOOTER = 48  # bytes
MAGIC = bytes.fromhex("57fb808b247547db")
LONGEST_VARINT, LONGEST_KEY = 63, 1024  # bits, bytes
VARINT, BYTES = 0, 2  # wire types of protocol buffers
FIXED_SIZES = {1: 8, 5: 4}  # wire type -> bytes
FLOAT32 = 1  # of tensorflow.DataType
DTYPE, SHAPE, SHARD, OFFSET, SIZE = 1, 2, 3, 4, 5  # fields of BundleEntryProto

Message = dict[int, list[int | bytes]]  # field number -> its values


def index_of(path: Path) -> Path | None:
    """Return the index, if `path` is one or the name that it shares with its data; else None."""
    if path.suffix == INDEX_SUFFIX:
        return path
    index = path.with_name(path.name + INDEX_SUFFIX)
    return index if not os.path.exists(path) and os.path.exists(index) else None


def data_file(index: Path) -> Path:
    """Return the file that holds the arrays of an index."""
    return index.with_name(index.name.removesuffix(INDEX_SUFFIX) + DATA_SUFFIX)


def parse(table: bytes, data: bytes, name: str) -> dict[str, Tensor]:
    """Return the variables by name in TensorFlow's layout; `name` is for errors alone.

    Raises WeightsCorrupt for anything but float32 in a single data file.
    """
    try:
        messages = {key.decode(): _message(value) for key, value in _table(table)}
        del messages[""]  # the header
        if sum(_number(message, SIZE) for message in messages.values()) > len(data):
            raise ValueError("variables overlap, or the data file ends too early")
        return {key: _variable(message, data) for key, message in messages.items()}
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise WeightsCorrupt(
            f"{name}: damaged, or no TensorFlow checkpoint of float32 in one data file",
            hint="download both of its files again",
        ) from error


def _table(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a LevelDB table in order."""
    if table[-len(MAGIC) :] != MAGIC:
        raise ValueError("not a LevelDB table")
    footer = table[-FOOTER:]
    _, at = _handle(footer, 0)  # of the block of filters, which nobody needs
    blocks, _ = _handle(footer, at)
    left = len(table)  # bytes: blocks that overlap would have more
    for _, value in _block(table[blocks]):
        block = table[_handle(value, 0)[0]]
        left -= len(block)
        if left < 0:
            raise ValueError("blocks overlap")
        yield from _block(block)


def _handle(data: bytes, at: int) -> tuple[slice, int]:
    """Return (offset, size) of a block in the table, and the position behind it."""
    start, at = _varint(data, at)
    size, at = _varint(data, at)
    return slice(start, start + size), at


def _block(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    restarts = int.from_bytes(block[-4:], "little")  # places to begin a search at
    end = len(block) - 4 * (restarts + 1)
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        new, at = _varint(block, at)
        size, at = _varint(block, at)
        key = key[:shared] + block[at : at + new]
        if len(key) > LONGEST_KEY:
            raise ValueError("a name without an end")
        yield key, block[at + new : at + new + size]
        at += new + size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Seven bits a byte, the lowest first; and where it ended."""
    value = shift = 0
    while data[at] & 0x80:
        if shift > LONGEST_VARINT:
            raise ValueError("a number without an end")
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1


def _message(data: bytes) -> Message:
    """A protocol buffer as it is, its inner messages as bytes."""
    fields: Message = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value: int | bytes
        if tag & 7 == VARINT:
            value, at = _varint(data, at)
        elif tag & 7 == BYTES:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            size = FIXED_SIZES[tag & 7]
            value, at = data[at : at + size], at + size
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _inner(message: Message, field: int) -> list[Message]:
    """The messages inside a message."""
    values = message.get(field, [])
    return [_message(value) for value in values if isinstance(value, bytes)]


def _number(message: Message, field: int) -> int:
    """The value of a field that is left out where it is 0."""
    value = message.get(field, [0])[0]
    if not isinstance(value, int):
        raise TypeError(f"field {field} is no number")
    return value


def _variable(message: Message, data: bytes) -> Tensor:
    import torch

    (shape,) = _inner(message, SHAPE)
    sides = [_number(side, 1) for side in _inner(shape, 2)]
    if _number(message, DTYPE) != FLOAT32 or _number(message, SHARD) != 0:
        raise ValueError("not float32, or in another data file")
    offset = _number(message, OFFSET)
    values = data[offset : offset + _number(message, SIZE)]
    if len(values) != 4 * math.prod(sides):
        raise ValueError("the data file ends too early")
    return torch.frombuffer(bytearray(values), dtype=torch.float32).reshape(sides)
