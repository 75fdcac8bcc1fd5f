"""PNG of 8 and 16 bits: chunks are parsed here, pixels are coded by libpng (imagecodecs)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import imagecodecs
import numpy as np

from restore_cli.imaging.codecs.metadata import incoming_metadata
from restore_cli.imaging.image import Metadata
from restore_cli.imaging.quantize import Decoded, Encodable, refuse_giant

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER_END = len(SIGNATURE) + 25
FOR_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
XMP = b"XML:com.adobe.xmp"
# Hexadecimal text, written by ImageMagick before PNG had a chunk for EXIF.
OLD_XMP, OLD_EXIF = b"Raw profile type xmp", (b"Raw profile type exif", b"Raw profile type APP1")
MOST_CHUNKS = 500_000  # of 8 kB, as libpng writes them: 4 GB
LONGEST = 1 << 24  # bytes of decompressed text; ICC profiles have a few MB
METRES_PER_INCH = 0.0254
IN_METRES = 1
# zlib settings: photographs get as small as with its defaults in two thirds of the time.
LEVEL, FILTERED = 4, 1


class Chunk(NamedTuple):
    kind: bytes
    body: memoryview
    whole: memoryview  # including length and checksum


def decode(data: bytes) -> Decoded:
    """Decode a PNG. Raises ValueError, ImageTooLarge."""
    chunks = list(_chunks(data))
    if not chunks or chunks[0].kind != b"IHDR" or len(chunks[0].body) != 13:
        raise ValueError("it has no header")
    kinds = {chunk.kind for chunk in chunks}
    if b"IDAT" not in kinds:
        raise ValueError("it has no pixels")
    width, height = struct.unpack_from(">II", chunks[0].body)
    refuse_giant(height, width)
    metadata, orientation = _read_metadata(chunks)
    # libpng gets no other chunks, so that it cannot decompress a bomb in them.
    plain = SIGNATURE + b"".join(chunk.whole for chunk in chunks if chunk.kind in FOR_PIXELS)
    try:
        levels = imagecodecs.png_decode(plain)
    except (imagecodecs.PngError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    droppable = {
        "the other frames": b"acTL" in kinds,
        "its ICC profile, which is damaged": b"iCCP" in kinds and metadata.icc is None,
    }
    return Decoded(
        levels[..., None] if levels.ndim == 2 else levels,
        np.iinfo(levels.dtype).max,
        orientation,
        metadata=metadata,
        dropped=tuple(part for part, is_present in droppable.items() if is_present),
    )


def _chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the complete chunks. Raises ValueError."""
    view, at = memoryview(data), len(SIGNATURE)
    for _ in range(MOST_CHUNKS):
        if at + 12 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        stop = at + 12 + length
        if stop > len(data):
            return
        yield Chunk(kind, view[at + 8 : stop - 4], view[at:stop])
        at = stop
    raise ValueError(f"more than {MOST_CHUNKS:,} chunks")


def _read_metadata(chunks: Sequence[Chunk]) -> tuple[Metadata, int]:
    found = {
        chunk.kind: chunk.body for chunk in chunks if chunk.kind in (b"eXIf", b"iCCP", b"pHYs")
    }
    texts = dict(filter(None, map(_text, chunks)))
    old = [_from_hexadecimal(texts[keyword]) for keyword in OLD_EXIF if keyword in texts]
    return incoming_metadata(
        icc=_decompress(_after_zeros(bytes(found.get(b"iCCP", b"")), 1)[1:]),
        exif=bytes(found[b"eXIf"]) if b"eXIf" in found else next(iter(old), None),
        xmp=texts.get(XMP) or _from_hexadecimal(texts.get(OLD_XMP, b"")),
        dpi=_resolution(found.get(b"pHYs")),
    )


def _text(chunk: Chunk) -> tuple[bytes, bytes] | None:
    """Return keyword and text of a chunk that holds XMP or EXIF."""
    if chunk.kind not in (b"tEXt", b"zTXt", b"iTXt"):
        return None
    keyword = bytes(chunk.body[:80]).split(b"\0")[0]
    if keyword not in (XMP, OLD_XMP, *OLD_EXIF):
        return None
    value = bytes(chunk.body[len(keyword) + 1 :])
    if chunk.kind == b"tEXt":
        return keyword, value
    if chunk.kind == b"zTXt":
        return keyword, _decompress(value[1:])
    text = _after_zeros(value[2:], 2)  # after language and translated keyword
    return keyword, _decompress(text) if value[:1] == b"\1" else text


def text_in(data: bytes, keyword: str) -> str | None:
    """Return a text as `encode` writes it: uncompressed, without language."""
    if not data.startswith(SIGNATURE):
        return None
    start = keyword.encode("latin-1") + b"\0\0\0\0\0"
    for chunk in _chunks(data):
        if chunk.kind == b"iTXt" and chunk.body[: len(start)] == start:
            return bytes(chunk.body[len(start) :]).decode("utf-8", "replace")
    return None


def _after_zeros(body: bytes, count: int) -> bytes:
    return body.split(b"\0", count)[-1]


def _decompress(packed: bytes) -> bytes:
    """Decompress a text; return b"" if it is damaged or a bomb."""
    decompressor = zlib.decompressobj()
    try:
        text = decompressor.decompress(packed, LONGEST)
    except zlib.error:
        return b""
    return text if decompressor.eof else b""


def _from_hexadecimal(text: bytes) -> bytes:
    """Decode a raw profile: an empty line, its kind, its length, then hexadecimal lines."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


def _resolution(body: memoryview | None) -> tuple[float, float] | None:
    if body is None or len(body) != 9:
        return None
    x, y, unit = struct.unpack(">IIB", body)
    return (x * METRES_PER_INCH, y * METRES_PER_INCH) if unit == IN_METRES else None


def encode(source: Encodable) -> bytes:
    """Encode a PNG of 8 or 16 bits."""
    pixels = memoryview(imagecodecs.png_encode(source.levels(), level=LEVEL, strategy=FILTERED))
    chunks = _metadata_chunks(source.metadata)
    return b"".join((pixels[:HEADER_END], *chunks, pixels[HEADER_END:]))


def _metadata_chunks(metadata: Metadata) -> Iterator[bytes]:
    if metadata.icc:
        yield _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
    if metadata.dpi:
        x, y = (round(value / METRES_PER_INCH) for value in metadata.dpi)
        yield _chunk(b"pHYs", struct.pack(">IIB", x, y, IN_METRES))
    if metadata.exif:
        yield _chunk(b"eXIf", metadata.exif)
    if metadata.xmp:
        yield _chunk(b"iTXt", XMP + b"\0\0\0\0\0" + metadata.xmp)
    for keyword, text in metadata.texts:
        yield _chunk(b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode())


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
