"""TIFF, 8 and 16 bit: grey and RGB are read by tifffile, rarer kinds by Pillow; written here."""

from __future__ import annotations

import io
import math
import struct
from dataclasses import replace
from itertools import accumulate

import imagecodecs
import numpy as np
import tifffile

from restore_cli.errors import OutputError, UnreadableImage
from restore_cli.imaging.codecs import exif as tags
from restore_cli.imaging.codecs import pillow as eight_bit
from restore_cli.imaging.codecs.exif import LONG, SHORT, UNDEFINED, Directory, Order, Tree
from restore_cli.imaging.codecs.metadata import carried
from restore_cli.imaging.image import Image, Metadata
from restore_cli.imaging.quantize import Array, Decoded, refuse_giant, strips

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_PLACES, SAMPLES, STRIP_ROWS, STRIP_LENGTHS, PLANAR = 273, 277, 278, 279, 284
PREDICTOR, EXTRA_SAMPLES, SAMPLE_FORMAT = 317, 338, 339
XMP, ICC = 700, 34675

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CIELAB = 0, 1, 2, 8  # PHOTOMETRIC
RAW, LZW, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA, ZSTD = 1, 5, 8, 32946, 32773, 34925, 50000
WITHOUT_LOSS = (RAW, LZW, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA, ZSTD)  # COMPRESSION
INTERLEAVED, SEPARATE = 1, 2  # PLANAR
PREMULTIPLIED, ALPHA = 1, 2  # EXTRA_SAMPLES; 0 does not say what they are
UNSIGNED, SIGNED, FLOATING = 1, 2, 3  # SAMPLE_FORMAT
DIFFERENCES = 2  # PREDICTOR


def decode(data: bytes) -> Decoded:
    """The first page. Raises UnreadableImage, ImageTooLarge, ValueError."""
    page = tags.first_directory(data)
    refuse_giant(_number(page, HEIGHT, 0), _number(page, WIDTH, 0))
    _refuse_unusual(page)
    metadata, orientation = _read_metadata(page)
    left_out = ["the other pages"] if page.following else []
    bits = max(page.numbers(BITS, (1,)))
    if not _is_plain(page):
        left_out += ["what 16 bit tell beyond 8"] if bits > 8 else []
        stored = eight_bit.decode(data)
        return replace(
            stored,
            metadata=replace(metadata, icc=stored.metadata.icc),  # none after CMYK
            left_out=(*left_out, *stored.left_out),
        )
    samples = _samples(data, page)
    channels, premultiplied = _colours_and_alpha(page, samples.shape[2])
    if len(channels) < samples.shape[2]:
        left_out += ["channels that are neither colour nor alpha"]
        samples = samples[..., channels]
    if _number(page, PHOTOMETRIC, BLACK_IS_ZERO) == WHITE_IS_ZERO:
        samples = np.concatenate([2**bits - 1 - samples[..., :1], samples[..., 1:]], axis=2)
    return Decoded(samples, 2**bits - 1, orientation, premultiplied, metadata, tuple(left_out))


def _number(page: Directory, tag: int, default: int) -> int:
    return page.numbers(tag, (default,))[0]


def _refuse_unusual(page: Directory) -> None:
    bits = max(page.numbers(BITS, (1,)))
    kind = max(page.numbers(SAMPLE_FORMAT, (UNSIGNED,)))
    if _number(page, PHOTOMETRIC, BLACK_IS_ZERO) == CIELAB:
        found = "CIELAB colours"
    elif kind in (SIGNED, FLOATING) or bits > 16:
        found = f"{bits}-bit {'floating-point' if kind == FLOATING else 'integer'} levels"
    else:
        return
    raise UnreadableImage(
        f"a TIFF with {found}", hint="convert it to grey or RGB of 8 or 16 bit first"
    )


def _is_plain(page: Directory) -> bool:
    """Grey or RGB of at least 8 bit, without JPEG or its like inside."""
    bits = page.numbers(BITS, (1,))
    return (
        _number(page, PHOTOMETRIC, BLACK_IS_ZERO) in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB)
        and min(bits) == max(bits) >= 8
        and _number(page, COMPRESSION, RAW) in WITHOUT_LOSS
    )


def _read_metadata(page: Directory) -> tuple[Metadata, int]:
    try:
        exif = tags.of_tiff(page.data)
    except ValueError:  # damaged descriptions do not make the image worthless
        exif = None
    return carried(
        icc=page.value(ICC),
        exif=exif,
        xmp=page.value(XMP),
        dpi=tags.resolution(page),
        orientation=tags.orientation(page),
    )


def _samples(data: bytes, page: Directory) -> Array:
    """(H, W, samples) as stored. Raises ValueError."""
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            first = file.pages.first
            _refuse_holes(first.dataoffsets, first.databytecounts, len(data))
            if math.prod(first.chunked) != len(first.dataoffsets):
                raise ValueError("parts of the image are missing")
            samples: Array = first.asarray(maxworkers=1)
    except MemoryError:
        raise
    except Exception as error:  # tifffile and its codecs answer to damage with nearly anything
        raise ValueError(str(error)) from error
    if samples.ndim == 2:
        samples = samples[..., None]
    if _number(page, PLANAR, INTERLEAVED) == SEPARATE and _number(page, SAMPLES, 1) > 1:
        samples = np.moveaxis(samples, 0, -1)
    if samples.ndim != 3:
        raise UnreadableImage("a TIFF of more than two dimensions", hint="save one plane of it")
    return samples


def _refuse_holes(places: tuple[int, ...], lengths: tuple[int, ...], end: int) -> None:
    """tifffile would take what is missing for black."""
    for place, length in zip(places, lengths, strict=True):
        if place == 0 or length == 0 or place + length > end:
            raise ValueError("parts of the image are missing")


def _colours_and_alpha(page: Directory, samples: int) -> tuple[list[int], bool]:
    """Which samples are the colours and the alpha, if any, and whether it is multiplied in."""
    colours = 3 if _number(page, PHOTOMETRIC, BLACK_IS_ZERO) == RGB else 1
    if samples < colours:
        raise ValueError(f"{samples} channels, {colours} wanted")
    # One sample too many, of which nothing is said, is alpha: so do all programs.
    extras = page.numbers(EXTRA_SAMPLES, (ALPHA,) if samples == colours + 1 else ())
    for channel, kind in enumerate(extras, start=colours):
        if kind in (PREMULTIPLIED, ALPHA) and channel < samples:
            return [*range(colours), channel], kind == PREMULTIPLIED
    return [*range(colours)], False


def encode(image: Image, depth: int, metadata: Metadata) -> bytes:
    """Deflated differences in strips; the byte order is that of the EXIF. Raises OutputError."""
    order, tree = tags.describing(metadata.exif) if metadata.exif else ("<", {})
    packed, rows = [], 0
    for strip in strips(image, depth):
        packed.append(_deflated_differences(strip, order))
        rows = rows or len(strip)
    lengths = [len(part) for part in packed]
    places = list(accumulate(lengths, initial=tags.FIRST))
    end = places.pop()
    even = end + end % 2
    try:
        tree |= _layout(image, depth, rows, places, lengths, order)
        tree |= _metadata_tags(metadata, order)
        parts = (tags.header(order, even), *packed, bytes(even - end), tags.pack(tree, even, order))
    except struct.error as error:
        raise OutputError(
            "a TIFF cannot be larger than 4 GB", hint="write PNG, or cut the image into parts"
        ) from error
    return b"".join(parts)


def _deflated_differences(strip: Array, order: Order) -> bytes:
    """From each pixel to the next in its row, as the predictor of TIFF has it."""
    differences = strip.copy()
    differences[:, 1:] -= strip[:, :-1]  # modulo 2**depth
    in_order = differences.astype(strip.dtype.newbyteorder(order), copy=False)
    return bytes(imagecodecs.deflate_encode(in_order.tobytes(), 6))  # three times zlib's speed


def _layout(
    image: Image, depth: int, rows: int, places: list[int], lengths: list[int], order: Order
) -> Tree:
    colours, alpha = image.pixels.shape[0], image.alpha is not None

    def shorts(*values: int) -> tuple[int, int, bytes]:
        return SHORT, len(values), struct.pack(f"{order}{len(values)}H", *values)

    def longs(*values: int) -> tuple[int, int, bytes]:
        return LONG, len(values), struct.pack(f"{order}{len(values)}I", *values)

    return {
        WIDTH: longs(image.width),
        HEIGHT: longs(image.height),
        BITS: shorts(*[depth] * (colours + alpha)),
        COMPRESSION: shorts(DEFLATE),
        PHOTOMETRIC: shorts(RGB if colours == 3 else BLACK_IS_ZERO),
        STRIP_PLACES: longs(*places),
        SAMPLES: shorts(colours + alpha),
        STRIP_ROWS: longs(rows),
        STRIP_LENGTHS: longs(*lengths),
        PLANAR: shorts(INTERLEAVED),
        PREDICTOR: shorts(DIFFERENCES),
        **({EXTRA_SAMPLES: shorts(ALPHA)} if alpha else {}),
    }


def _metadata_tags(metadata: Metadata, order: Order) -> Tree:
    tree = tags.resolution_tags(metadata.dpi, order) if metadata.dpi else {}
    if metadata.icc:
        tree[ICC] = (UNDEFINED, len(metadata.icc), metadata.icc)
    if metadata.xmp:
        tree[XMP] = (tags.BYTE, len(metadata.xmp), metadata.xmp)
    return tree
