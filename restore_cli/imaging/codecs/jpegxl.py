"""JPEG XL: pixels are coded by libjxl (imagecodecs), its boxes and header are parsed here."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

import imagecodecs
import numpy as np

from restore_cli.errors import UnreadableImage
from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.codecs import jxl_header
from restore_cli.imaging.codecs.boxes import beside, boxes
from restore_cli.imaging.codecs.exif import ORDERS, with_resolution
from restore_cli.imaging.codecs.metadata import incoming_metadata
from restore_cli.imaging.headers import refuse_giant
from restore_cli.imaging.image import Metadata
from restore_cli.imaging.quantize import Array, Decoded, Encodable, stored

LONGEST = 1 << 24  # bytes of compressed metadata, decompressed
FIRST = b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl \0\0\0\0jxl "
LEVEL = b"jxll"


def decode(data: bytes, storage: Storage = MEMORY) -> Decoded:
    """Decode the first frame. Raises UnreadableImage, ImageTooLarge, ValueError."""
    data = data[:]  # a mapped file becomes bytes
    header = jxl_header.read_header(jxl_header.codestream(data))
    refuse_giant(header.height, header.width)
    if header.is_float or header.depth > 16:
        raise UnreadableImage(
            f"a JPEG XL with {header.depth}-bit levels of light",
            hint="convert it to PNG or TIFF of 16 bits",
        )
    found = _metadata_boxes(data)
    exif = found.get(b"Exif", b"")
    if exif[:2] not in ORDERS:  # some encoders leave out the offset before it
        exif = exif[4 + int.from_bytes(exif[:4], "big") :]
    metadata, _, stale = incoming_metadata(
        Metadata(exif=exif, xmp=found.get(b"xml "), chunks=header.colours),
        orientation=1,  # libjxl applies that of the codestream, which alone counts
    )
    levels = imagecodecs.jpegxl_decode(data, index=0 if header.animated else None, numthreads=1)
    droppable = {
        "the other frames": header.animated,
        "its ICC profile": header.has_icc,
        "channels that are neither colour nor alpha": header.others,
        "its gain map": b"jhgm" in found,
        "its content credentials (C2PA)": b"jumb" in found,
    }
    return Decoded(
        stored(levels, storage),
        2**header.depth - 1,
        premultiplied=header.premultiplied,
        metadata=metadata,
        dropped=(
            *(part for part, is_present in droppable.items() if is_present),
            *(() if data.startswith(jxl_header.BARE) else beside(data)),
            *stale,
        ),
    )


def _metadata_boxes(data: bytes) -> dict[bytes, bytes]:
    """Return the first box of each kind, by its kind; empty if it holds no metadata."""
    found = dict[bytes, bytes]()
    for kind, body in () if data.startswith(jxl_header.BARE) else boxes(data):
        whole = bytes(body) if kind in (b"Exif", b"xml ", b"brob") else b""
        if kind == b"brob":  # compressed by Brotli, after the kind
            kind, whole = whole[:4], _decompressed(whole[4:])
        found.setdefault(kind, whole)
    return found


def _decompressed(packed: bytes) -> bytes:
    try:
        return bytes(imagecodecs.brotli_decode(packed, out=LONGEST))
    except imagecodecs.BrotliError:  # damaged or a bomb: the image is readable without it
        return b""


def encode(source: Encodable, file: BinaryIO) -> None:
    """Encode a JPEG XL in boxes, lossless by default."""
    levels, metadata = source.levels(), source.complete_metadata
    options: dict[str, Any] = {"lossless": True}
    if source.quality:
        options = {"lossless": False, "distance": _distance(source.quality)}
        if source.depth > 8:  # libjxl takes such levels for light, and encodes light
            levels = _linear_levels(levels, colours=len(source.image.pixels))
    squeezed = levels[..., 0] if levels.shape[2] == 1 else levels
    options |= {"effort": source.effort, "numthreads": 1}
    packed = bytes(imagecodecs.jpegxl_encode(squeezed, **options))
    # libjxl writes boxes itself where it states a level of the codestream, as for 16 bits.
    is_bare = packed.startswith(jxl_header.BARE)
    found = {jxl_header.CODESTREAM: packed} if is_bare else dict(boxes(packed))
    parts = [_box(LEVEL, found[LEVEL]) if LEVEL in found else b""]
    exif = metadata.exif
    if metadata.dpi:
        exif = with_resolution(exif, metadata.dpi)  # there is no other place for it
    parts += [_box(b"Exif", b"\0\0\0\0" + exif) if exif else b""]
    parts += [_box(b"xml ", metadata.xmp) if metadata.xmp else b""]
    pixels = jxl_header.stating_srgb(bytes(found[jxl_header.CODESTREAM]))
    file.writelines((FIRST, *parts, _box(jxl_header.CODESTREAM, pixels)))


def _linear_levels(levels: Array, *, colours: int) -> Array:
    """Return 16-bit levels of sRGB as levels of light; alpha stays."""
    x = np.arange(2**16) / 65535
    light = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    linear: Array = levels.copy()
    linear[..., :colours] = np.rint(light * 65535).astype(np.uint16)[levels[..., :colours]]
    return linear


def _distance(quality: int) -> float:
    """Return the distance of libjxl that stands for a quality of JPEG, as in cjxl."""
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return 53 / 3000 * quality**2 - 23 / 20 * quality + 25


def _box(kind: bytes, body: bytes | memoryview) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body
