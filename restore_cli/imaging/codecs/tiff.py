"""TIFF of 8 and 16 bits: tifffile decodes grey and RGB, libtiff by Pillow the rarer kinds and JPEG;
encoded here.
"""

from __future__ import annotations

import io
import math
import struct
from dataclasses import replace
from itertools import accumulate
from typing import BinaryIO

import imagecodecs
import numpy as np
import tifffile
from PIL import UnidentifiedImageError

from restore_cli.errors import UnreadableImage
from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.codecs import pillow
from restore_cli.imaging.codecs.exif import (
    BYTE,
    DESCRIPTIVE,
    EXIF,
    GPS,
    LONG,
    LONG8,
    SHORT,
    UNDEFINED,
    Directory,
    Order,
    Tree,
    descriptive_tags,
    exif_of_tiff,
    first_directory,
    is_whole,
    pack_directory,
    read_orientation,
    read_resolution,
    resolution_tags,
    tiff_header,
)
from restore_cli.imaging.codecs.metadata import BROKEN_EXIF, Incoming, incoming_metadata
from restore_cli.imaging.codecs.pages import image_page, pages_of, with_first_page
from restore_cli.imaging.codecs.photoshop import iptc_in, with_iptc
from restore_cli.imaging.headers import refuse_giant
from restore_cli.imaging.image import Metadata
from restore_cli.imaging.quantize import STORED_ROWS, Array, Decoded, Encodable, stored

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, STRIP_ROWS, STRIP_LENGTHS, PLANAR = 273, 277, 278, 279, 284
PREDICTOR, EXTRA_SAMPLES, SAMPLE_FORMAT = 317, 338, 339
XMP, IPTC, PHOTOSHOP, ICC, LAYERS = 700, 33723, 34377, 34675, 37724

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, YCBCR, CIELAB = 0, 1, 2, 6, 8  # PHOTOMETRIC
RAW, LZW, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA, ZSTD = 1, 5, 8, 32946, 32773, 34925, 50000
APERIO_JPEG2000, JPEG2000, LERC, PNG, JPEG_XR = 33005, 34712, 34887, 34933, 34934
WEBP, JPEG_XL, DNG_JPEG_XL = 50001, 50002, 52546
BY_TIFFFILE = {RAW, LZW, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA, ZSTD}  # COMPRESSION
BY_TIFFFILE |= {APERIO_JPEG2000, JPEG2000, LERC, PNG, JPEG_XR, WEBP, JPEG_XL, DNG_JPEG_XL}
INTERLEAVED, SEPARATE = 1, 2  # PLANAR
PREMULTIPLIED, ALPHA = 1, 2  # EXTRA_SAMPLES; 0: unspecified
UNSIGNED, SIGNED, FLOATING = 1, 2, 3  # SAMPLE_FORMAT
DIFFERENCES = 2  # PREDICTOR

PRIVATE = 32_768  # first of the tags of vendors
IMAGEJ = (50838, 50839)  # named with its description
# Vendors' tags that are kept, or say nothing of a decoded image, as those of printers.
HANDLED = {IPTC, PHOTOSHOP, ICC, LAYERS, EXIF, GPS, *IMAGEJ, *DESCRIPTIVE}
HANDLED |= {32995, 32996, 32997, 32998, 37439, 40965, 50255, 50341, 50674}
GEO_KEYS = 34735
GEOREFERENCE = {33550, 33922, 34264, GEO_KEYS, 34736, 34737, 42112, 42113}  # GeoTIFF and GDAL

DATA = 16  # offset of the first strip, after the longer of the two headers
BIG = (1 << 32) - (1 << 28)  # offset from which a directory may reach beyond 4 GB


def decode(data: bytes, storage: Storage = MEMORY) -> Decoded:
    """Decode the first full page. Raises UnreadableImage, ImageTooLarge, ValueError."""
    pages = pages_of(data)
    chosen = image_page(pages)
    data = with_first_page(data, chosen)
    page = first_directory(data)
    refuse_giant(_number(page, HEIGHT, 0), _number(page, WIDTH, 0))
    _refuse_unusual(page)
    metadata, orientation, stale = _read_metadata(page)
    others = [each for each in pages if each is not chosen and not each.is_reduced]
    dropped = ["its mask"] if any(each.is_mask for each in others) else []
    dropped += ["the other pages"] if any(not each.is_mask for each in others) else []
    dropped += ["its layers"] if LAYERS in page.entries else []
    private = {tag for tag in page.entries if tag >= PRIVATE} - HANDLED
    if GEO_KEYS in private:
        dropped, private = [*dropped, "its georeference"], private - GEOREFERENCE
    dropped += ["its private tags"] if private else []
    dropped += stale
    bits = max(page.numbers(BITS, (1,)))
    if not _is_plain(page):
        dropped += ["its bits beyond 8"] if bits > 8 else []
        decoded = _by_pillow(data, page, storage)
        return replace(
            decoded,
            metadata=replace(metadata, icc=decoded.metadata.icc),  # none after CMYK
            dropped=(*dropped, *decoded.dropped),
        )
    samples = _samples(data, page, storage)
    channels, premultiplied = _colours_and_alpha(page, samples.shape[2])
    if len(channels) < samples.shape[2]:
        dropped += ["channels that are neither colour nor alpha"]
        samples = samples[..., channels]
    if _number(page, PHOTOMETRIC, BLACK_IS_ZERO) == WHITE_IS_ZERO:
        for top in range(0, len(samples), STORED_ROWS):
            rows = samples[top : top + STORED_ROWS, :, 0]
            np.subtract(2**bits - 1, rows, out=rows)
            storage.release()
    return Decoded(samples, 2**bits - 1, orientation, premultiplied, metadata, tuple(dropped))


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
    raise _unusual(found)


def _unusual(found: str) -> UnreadableImage:
    return UnreadableImage(f"a TIFF with {found}", hint="convert it to grey or RGB of 8 or 16 bits")


def _by_pillow(data: bytes, page: Directory, storage: Storage) -> Decoded:
    """Decode other colours, fewer bits, JPEG and the compressions of fax."""
    try:
        # Pillow itself reads no uncompressed YCbCr with subsampling, before version 13 none at all.
        libtiff = _number(page, PHOTOMETRIC, BLACK_IS_ZERO) == YCBCR
        return pillow.decode(data, storage, libtiff=libtiff)
    except (UnidentifiedImageError, KeyError) as error:  # KeyError: of an unknown compression
        colours, compression = (
            kind(code).name if code in {*kind} else str(code)
            for kind, code in (
                (tifffile.PHOTOMETRIC, _number(page, PHOTOMETRIC, BLACK_IS_ZERO)),
                (tifffile.COMPRESSION, _number(page, COMPRESSION, RAW)),
            )
        )
        bits = ", ".join(str(each) for each in page.numbers(BITS, (1,)))
        raise _unusual(f"{colours} of {bits} bits, compression {compression}") from error


def _is_plain(page: Directory) -> bool:
    """Return True for grey or RGB of at least 8 bits, other than by JPEG."""
    bits = page.numbers(BITS, (1,))
    return (
        _number(page, PHOTOMETRIC, BLACK_IS_ZERO) in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB)
        and min(bits) == max(bits) >= 8
        and _number(page, COMPRESSION, RAW) in BY_TIFFFILE
    )


def _read_metadata(page: Directory) -> Incoming:
    try:
        exif, is_broken = exif_of_tiff(page.data), not is_whole(page)
    except ValueError:  # the image is readable without its description
        exif, is_broken = None, True
    return incoming_metadata(
        Metadata(
            icc=page.value(ICC),
            exif=exif,
            xmp=page.value(XMP),
            dpi=read_resolution(page),
            photoshop=with_iptc(page.value(PHOTOSHOP) or b"", page.value(IPTC) or b""),
        ),
        orientation=read_orientation(page),
        dropped=(BROKEN_EXIF,) if is_broken else (),
    )


def _samples(data: bytes, page: Directory, storage: Storage) -> Array:
    """Decode the samples as stored, (H, W, C). Raises UnreadableImage, ValueError."""
    try:
        with tifffile.TiffFile(io.BytesIO(data) if isinstance(data, bytes) else data) as file:
            first = file.pages.first
            _refuse_holes(first.dataoffsets, first.databytecounts, len(data))
            if math.prod(first.chunked) != len(first.dataoffsets):
                raise ValueError("parts of the image are missing")
            samples = _decoded(data, first, storage)
    except Exception as error:  # tifffile and its codecs raise almost any exception on damage
        raise ValueError(str(error)) from error
    if samples.ndim == 2:
        samples = samples[..., None]
    if _number(page, PLANAR, INTERLEAVED) == SEPARATE and _number(page, SAMPLES, 1) > 1:
        samples = np.moveaxis(samples, 0, -1)
    if samples.ndim != 3:
        raise UnreadableImage("a TIFF of more than two dimensions", hint="save one plane of it")
    return samples


def _decoded(data: bytes, page: tifffile.TiffPage, storage: Storage) -> Array:
    """Decode a page; in a storage strip by strip, or tile by tile."""
    kind = page.dtype
    if storage is MEMORY or len(page.shaped) != 5 or kind is None:
        return stored(page.asarray(maxworkers=1), storage)
    if page.is_final:
        stated = kind.newbyteorder(page.parent.byteorder)
        plain = np.frombuffer(data, stated, math.prod(page.shape), page.dataoffsets[0])
        return stored(plain.reshape(page.shape), storage)
    result: Array = storage.new(page.shaped, kind)
    for segment, (sample, depth, row, column, _), _ in page.segments(maxworkers=1):
        assert segment is not None  # no part is missing
        place: Array = result[sample, depth:, row:, column:][
            : segment.shape[0], : segment.shape[1], : segment.shape[2]
        ]
        place[:] = segment[: place.shape[0], : place.shape[1], : place.shape[2]]
        storage.release()
    return result.reshape(page.shape)


def _refuse_holes(offsets: tuple[int, ...], lengths: tuple[int, ...], end: int) -> None:
    """Check that all strips or tiles are present; tifffile reads missing ones as black."""
    for offset, length in zip(offsets, lengths, strict=True):
        if offset == 0 or length == 0 or offset + length > end:
            raise ValueError("parts of the image are missing")


def _colours_and_alpha(page: Directory, samples: int) -> tuple[list[int], bool]:
    """Return the indices of colour and alpha samples, and True if alpha is premultiplied."""
    colours = 3 if _number(page, PHOTOMETRIC, BLACK_IS_ZERO) == RGB else 1
    if samples < colours:
        raise ValueError(f"{samples} of {colours} channels")
    # A single extra sample without a type counts as alpha, as in other programs.
    extras = page.numbers(EXTRA_SAMPLES, (ALPHA,) if samples == colours + 1 else ())
    for channel, kind in enumerate(extras, start=colours):
        if kind in (PREMULTIPLIED, ALPHA) and channel < samples:
            return [*range(colours), channel], kind == PREMULTIPLIED
    return [*range(colours)], False


def encode(source: Encodable, file: BinaryIO) -> None:
    """Encode strips of deflated differences, in the byte order of the EXIF.

    A BigTIFF, if the file is longer than 4 GB.
    """
    metadata = source.metadata
    order, tree = descriptive_tags(metadata.exif) if metadata.exif else ("<", {})
    file.write(bytes(DATA))  # the header comes last
    lengths, rows = [], 0
    for strip in source.strips():
        packed = _deflated_differences(strip, order, source.effort)
        file.write(packed)
        lengths.append(len(packed))
        rows = rows or len(strip)
    offsets = list(accumulate(lengths, initial=DATA))
    end = offsets.pop()
    even = end + end % 2
    tree |= _metadata_tags(source.complete_metadata, order)
    big = even >= BIG
    tree |= _layout(source, rows, offsets, lengths, order, big)
    file.write(bytes(even - end) + pack_directory(tree, even, order, big=big))
    file.seek(0)
    file.write(tiff_header(order, even, big=big))


def _deflated_differences(strip: Array, order: Order, effort: int) -> bytes:
    """Compress the differences of neighbours in a row, TIFF's predictor 2."""
    differences = strip.copy()
    differences[:, 1:] -= strip[:, :-1]  # modulo 2**depth
    in_order = differences.astype(strip.dtype.newbyteorder(order), copy=False)
    return bytes(imagecodecs.deflate_encode(in_order.tobytes(), effort))  # three times zlib's speed


def _layout(
    source: Encodable, rows: int, offsets: list[int], lengths: list[int], order: Order, big: bool
) -> Tree:
    image = source.image
    colours, alpha = image.pixels.shape[0], image.alpha is not None
    place, code = (LONG8, "Q") if big else (LONG, "I")

    def shorts(*values: int) -> tuple[int, int, bytes]:
        return SHORT, len(values), struct.pack(f"{order}{len(values)}H", *values)

    def longs(*values: int) -> tuple[int, int, bytes]:
        return LONG, len(values), struct.pack(f"{order}{len(values)}I", *values)

    return {
        WIDTH: longs(image.width),
        HEIGHT: longs(image.height),
        BITS: shorts(*[source.depth] * (colours + alpha)),
        COMPRESSION: shorts(DEFLATE),
        PHOTOMETRIC: shorts(RGB if colours == 3 else BLACK_IS_ZERO),
        STRIP_OFFSETS: (place, len(offsets), struct.pack(f"{order}{len(offsets)}{code}", *offsets)),
        SAMPLES: shorts(colours + alpha),
        STRIP_ROWS: longs(rows),
        STRIP_LENGTHS: longs(*lengths),
        PLANAR: shorts(INTERLEAVED),
        PREDICTOR: shorts(DIFFERENCES),
        **({EXTRA_SAMPLES: shorts(ALPHA)} if alpha else {}),
    }


def _metadata_tags(metadata: Metadata, order: Order) -> Tree:
    tree = resolution_tags(metadata.dpi, order) if metadata.dpi else {}
    if metadata.icc:
        tree[ICC] = (UNDEFINED, len(metadata.icc), metadata.icc)
    if metadata.xmp:
        tree[XMP] = (BYTE, len(metadata.xmp), metadata.xmp)
    if metadata.photoshop:
        tree[PHOTOSHOP] = (BYTE, len(metadata.photoshop), metadata.photoshop)
        if iptc := iptc_in(metadata.photoshop):
            tree[IPTC] = (UNDEFINED, len(iptc), iptc)
    return tree
