"""PNG of 8 and 16 bits: chunks are parsed here, pixels are coded by libpng (imagecodecs)."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple

import imagecodecs
import numpy as np

from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.codecs import pillow
from restore_cli.imaging.codecs.metadata import Incoming, comment_of, incoming_metadata
from restore_cli.imaging.codecs.photoshop import with_iptc
from restore_cli.imaging.codecs.segments import BEHIND
from restore_cli.imaging.headers import refuse_giant
from restore_cli.imaging.image import Metadata, Text
from restore_cli.imaging.quantize import Array, Decoded, Encodable, joined, stored

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER_END = len(SIGNATURE) + 25
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type; without palettes
COLOUR_TYPES = {channels: kind for kind, channels in CHANNELS.items()}
ROWS_BYTES = 1 << 22  # of rows that are decoded at once
FOR_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
XMP = "XML:com.adobe.xmp"
# Hexadecimal text, written by ImageMagick before PNG had a chunk for EXIF.
OLD_XMP = "Raw profile type xmp"
OLD_EXIF = ("Raw profile type exif", "Raw profile type APP1")
OLD_PHOTOSHOP = ("Raw profile type 8bim", "Raw profile type iptc")
RECORD = "restore"  # keyword of the record of earlier versions
# Chunks about the colours and their lengths, in the order in which they are written.
ABOUT_COLOURS = {b"cICP": 4, b"mDCV": 24, b"mDCv": 24, b"cLLI": 8, b"cLLi": 8}
ABOUT_COLOURS |= {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1}
BESIDE_PIXELS = (b"IHDR", b"PLTE", b"sBIT", b"iCCP", b"eXIf", b"pHYs", *ABOUT_COLOURS)
LONGEST_KEYWORD = 79
MOST_CHUNKS = 500_000  # of 8 kB, as libpng writes them: 4 GB
LONGEST = 1 << 24  # bytes of a decompressed text, and of all texts; ICC profiles have a few MB
METRES_PER_INCH = 0.0254
IN_METRES = 1
AT_ONCE = 1 << 27  # bytes of filtered rows that are compressed at once
ZLIB = {1: 1, 6: 4, 12: 9}  # levels, by those of libdeflate
FILTERED = 1  # strategy of zlib


class Chunk(NamedTuple):
    kind: bytes
    body: memoryview
    whole: memoryview  # including length and checksum


def decode(data: bytes, storage: Storage = MEMORY) -> Decoded:
    """Decode a PNG. Raises ValueError, ImageTooLarge."""
    chunks = list(_chunks(data))
    if not chunks or chunks[0].kind != b"IHDR" or len(chunks[0].body) != 13:
        raise ValueError("it has no header")
    kinds = {chunk.kind for chunk in chunks}
    if b"IDAT" not in kinds:
        raise ValueError("it has no pixels")
    width, height = struct.unpack_from(">II", chunks[0].body)
    refuse_giant(height, width)
    metadata, orientation, named = _read_metadata(chunks)
    try:
        levels = _levels(chunks, storage)
    except (imagecodecs.PngError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError(str(error)) from error
    droppable = {
        "the other frames": b"fdAT" in kinds,
        "its content credentials (C2PA)": b"caBX" in kinds,
        BEHIND: _has_more(data, chunks),
        "its ICC profile, which is damaged": b"iCCP" in kinds and metadata.icc is None,
    }
    return Decoded(
        levels,
        np.iinfo(levels.dtype).max,
        orientation,
        metadata=metadata,
        dropped=(*(part for part, is_present in droppable.items() if is_present), *named),
    )


def _has_more(data: bytes, chunks: Sequence[Chunk]) -> bool:
    end = len(SIGNATURE) + sum(len(chunk.whole) for chunk in chunks)
    return chunks[-1].kind == b"IEND" and bool(data[end:].strip(b"\0"))


def _levels(chunks: Sequence[Chunk], storage: Storage) -> Array:
    """Decode the levels, (H, W, C). libpng gets no chunk in which it could decompress a bomb."""
    header = chunks[0].body
    width, height, depth, kind, *_, interlaced = struct.unpack(">2I5B", header)
    by_rows = depth >= 8 and kind in CHANNELS and not interlaced
    if storage is not MEMORY and by_rows and all(chunk.kind != b"tRNS" for chunk in chunks):
        levels = storage.new((height, width, CHANNELS[kind]), np.uint8 if depth == 8 else np.uint16)
        return joined(_strips(chunks, depth), levels, storage)
    plain = (chunk.whole for chunk in chunks if chunk.kind in FOR_PIXELS)
    levels = imagecodecs.png_decode(SIGNATURE + b"".join(plain))
    return stored(levels, storage)


def _strips(chunks: Sequence[Chunk], depth: int) -> Iterator[Array]:
    """Yield the levels in strips (h, W, C). libpng undoes the filters by the row above each strip.

    Raises ValueError where rows are missing.
    """
    width, height, _, kind = struct.unpack_from(">2I2B", chunks[0].body)
    length = 1 + width * CHANNELS[kind] * depth // 8
    most = max(1, ROWS_BYTES // length)
    packed = (chunk.body for chunk in chunks if chunk.kind == b"IDAT")
    above = b""
    for filtered in _in_pieces(packed, most * length, height * length):
        rows = len(above + filtered) // length
        header = struct.pack(">2I", width, rows) + bytes(chunks[0].body[8:])
        body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(above + filtered, 0))
        levels = imagecodecs.png_decode(SIGNATURE + body + _chunk(b"IEND", b""))
        strip = levels.reshape(rows, width, CHANNELS[kind])[bool(above) :]
        yield strip
        above = b"\0" + strip[-1].astype(strip.dtype.newbyteorder(">")).tobytes()


def _in_pieces(packed: Iterable[memoryview], size: int, total: int) -> Iterator[bytes]:
    """Decompress `total` bytes and yield them in pieces of `size`. Raises ValueError."""
    decompressor, waiting = zlib.decompressobj(), bytearray()
    for body in packed:
        rest: bytes | memoryview = body
        while total and (rest or decompressor.unconsumed_tail):
            waiting += decompressor.decompress(rest, size)
            rest = decompressor.unconsumed_tail
            while len(waiting) >= min(size, total) > 0:
                count = min(size, total)
                yield bytes(waiting[:count])
                del waiting[:count]
                total -= count
            if decompressor.eof:
                break
    if total:
        raise ValueError("rows are missing")


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
        if kind == b"IEND":
            return
        at = stop
    raise ValueError(f"more than {MOST_CHUNKS:,} chunks")


def _read_metadata(chunks: Sequence[Chunk]) -> Incoming:
    found = {chunk.kind: bytes(chunk.body) for chunk in chunks if chunk.kind in BESIDE_PIXELS}
    texts, dropped = _texts(chunks)
    by_keyword = {text.keyword: text.text for text in texts}

    def raw_profile(*keywords: str) -> bytes:
        present = (by_keyword[keyword] for keyword in keywords if keyword in by_keyword)
        return _from_hexadecimal(next(present, ""))

    special = (XMP, OLD_XMP, *OLD_EXIF, *OLD_PHOTOSHOP, RECORD)
    resources = raw_profile(*OLD_PHOTOSHOP)
    plain_iptc = resources if resources[:1] == b"\x1c" else b""
    return incoming_metadata(
        Metadata(
            icc=_decompress(found.get(b"iCCP", b"").partition(b"\0")[2][1:]),
            exif=found.get(b"eXIf") or raw_profile(*OLD_EXIF),
            xmp=by_keyword.get(XMP, "").encode("utf-8", "surrogateescape") or raw_profile(OLD_XMP),
            dpi=_resolution(found.get(b"pHYs")),
            texts=tuple(text for text in texts if text.keyword not in special),
            photoshop=with_iptc(b"" if plain_iptc else resources, plain_iptc),
            chunks=tuple(_about_colours(found)),
        ),
        dropped=dropped,
    )


def _about_colours(found: Mapping[bytes, bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the complete chunks about the colours."""
    for kind, length in ABOUT_COLOURS.items():
        body = found.get(kind, b"")
        if len(body) == length and (any(body) or kind != b"gAMA"):
            yield kind, body
    depth, significant = found[b"IHDR"][8], found.get(b"sBIT", b"")
    if significant and min(significant) < (8 if b"PLTE" in found else depth):
        yield b"sBIT", significant


def _texts(chunks: Sequence[Chunk]) -> tuple[list[Text], tuple[str, ...]]:
    """Return the texts, and the name of those that are damaged or too long."""
    texts, left, dropped = list[Text](), LONGEST, False
    for chunk in chunks:
        if chunk.kind not in (b"tEXt", b"zTXt", b"iTXt"):
            continue
        text = _text(chunk.kind, bytes(chunk.body)) if len(chunk.body) <= left else None
        length = len(text.text) if text else LONGEST
        if text is None or length > left:
            dropped = True
            continue
        texts.append(text)
        left -= length
    return texts, (("texts that are damaged or too long",) if dropped else ())


def _text(kind: bytes, body: bytes) -> Text | None:
    keyword, _, value = body.partition(b"\0")
    name, language, translated = keyword.decode("latin-1"), b"", b""
    encoding = "utf-8" if kind == b"iTXt" or name == XMP else "latin-1"
    if kind == b"zTXt":
        packed, value = True, value[1:]
    elif kind == b"iTXt":
        packed = value[:1] == b"\1"
        language, _, value = value[2:].partition(b"\0")
        translated, _, value = value.partition(b"\0")
    else:
        packed = False
    plain = _decompress(value) if packed else value
    if (packed and not plain) or not 1 <= len(name) <= LONGEST_KEYWORD:
        return None
    return Text(
        name,
        plain.decode(encoding, "surrogateescape"),
        language.decode("ascii", "replace"),
        translated.decode("utf-8", "replace"),
    )


def text_in(data: bytes, keyword: str) -> str | None:
    """Return the first text with a keyword."""
    texts = _texts(list(_chunks(data)))[0] if data.startswith(SIGNATURE) else []
    return next((text.text for text in texts if text.keyword == keyword), None)


def _decompress(packed: bytes) -> bytes:
    """Decompress a text; return b"" if it is damaged or a bomb."""
    decompressor = zlib.decompressobj()
    try:
        text = decompressor.decompress(packed, LONGEST)
    except zlib.error:
        return b""
    return text if decompressor.eof else b""


def _from_hexadecimal(text: str) -> bytes:
    """Decode a raw profile: an empty line, its kind, its length, then hexadecimal lines."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""


def _resolution(body: bytes | None) -> tuple[float, float] | None:
    if body is None or len(body) != 9:
        return None
    x, y, unit = struct.unpack(">IIB", body)
    return (x * METRES_PER_INCH, y * METRES_PER_INCH) if unit == IN_METRES else None


def encode(source: Encodable, file: BinaryIO) -> None:
    """Encode a PNG of 8 or 16 bits, strip by strip; an animation of 8 bits, through Pillow."""
    if source.more_frames:
        _encode_animation(source, file)
        return
    file.write(SIGNATURE)
    size = struct.pack(">2I", source.image.width, source.image.height)
    kind = bytes((source.depth, COLOUR_TYPES[source.channels], 0, 0, 0))
    file.write(_chunk(b"IHDR", size + kind))
    file.writelines(_colour_chunks(source))
    file.writelines(_metadata_chunks(source.metadata))
    for packed in _packed(source):
        if packed:
            file.write(_chunk(b"IDAT", packed))
    if source.late_xmp is not None:
        file.writelines(_metadata_chunks(Metadata(xmp=source.late_xmp())))
    file.write(_chunk(b"IEND", b""))


def _encode_animation(source: Encodable, file: BinaryIO) -> None:
    frames = io.BytesIO()
    pillow.save(source, pillow.pillow_image(source), frames, "PNG")
    data = frames.getbuffer()
    file.write(data[:HEADER_END])
    file.writelines(_colour_chunks(source))
    file.writelines(_metadata_chunks(source.complete_metadata))
    file.write(data[HEADER_END:])


def _packed(source: Encodable) -> Iterator[bytes]:
    """Yield the compressed rows: at once by libdeflate, of a giant strip by strip by zlib.

    libdeflate takes half the time of zlib for a smaller file.
    """
    row = 1 + source.image.width * source.channels * source.depth // 8
    if source.image.height * row <= AT_ONCE:
        filtered = b"".join(_filtered(source))
        yield bytes(imagecodecs.deflate_encode(filtered, source.effort, raw=False))
        return
    compressor = zlib.compressobj(
        ZLIB[source.effort], zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, FILTERED
    )
    yield from map(compressor.compress, _filtered(source))
    yield compressor.flush()


def _filtered(source: Encodable) -> Iterator[bytes]:
    """Yield the filtered rows of each strip. libpng chooses the filter by the row above."""
    above = None
    for strip in source.strips():
        rows = strip if above is None else np.concatenate([above, strip])
        above = strip[-1:].copy()
        uncompressed = bytes(imagecodecs.png_encode(rows, level=0))
        filtered = zlib.decompress(
            b"".join(chunk.body for chunk in _chunks(uncompressed) if chunk.kind == b"IDAT")
        )
        yield filtered[(len(rows) - len(strip)) * (len(filtered) // len(rows)) :]


def _colour_chunks(source: Encodable) -> Iterator[bytes]:
    """Yield the chunks about the colours; sBIT only if it fits the channels that are written."""
    for kind, body in source.metadata.chunks:
        if kind == b"sBIT":
            colours, alpha = len(source.image.pixels), source.image.alpha is not None
            significant = body[:colours] + (body[colours:] or bytes([source.depth])) * alpha
            if len(significant) != colours + alpha or not 0 < max(significant) <= source.depth:
                continue
            body = significant
        yield _chunk(kind, body)


def _metadata_chunks(metadata: Metadata) -> Iterator[bytes]:
    if metadata.icc:
        yield _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
    if metadata.dpi:
        x, y = (round(value / METRES_PER_INCH) for value in metadata.dpi)
        yield _chunk(b"pHYs", struct.pack(">IIB", x, y, IN_METRES))
    if metadata.exif:
        yield _chunk(b"eXIf", metadata.exif)
    if metadata.xmp:
        yield _chunk(b"iTXt", XMP.encode() + b"\0\0\0\0\0" + metadata.xmp)
    for text in metadata.texts:
        yield _text_chunk(text)


def _text_chunk(text: Text) -> bytes:
    """Encode a text as tEXt, which every program reads, if it can be one; else as iTXt."""
    keyword, plain = text.keyword.encode("latin-1"), text.text.replace("\0", "")
    try:
        plain.encode()
    except UnicodeEncodeError:  # read from bytes in another encoding than UTF-8
        plain = comment_of(text).decode("latin-1")
    if text.language or text.translated or not plain.isascii():
        names = b"\0".join((text.language.encode(), text.translated.encode(), plain.encode()))
        return _chunk(b"iTXt", keyword + b"\0\0\0" + names)
    return _chunk(b"tEXt", keyword + b"\0" + plain.encode())


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
