"""Kind and size of an image file from its first bytes, before any pixel is decoded.

No codec is loaded here: plans read the headers of all their sources.
"""

from __future__ import annotations

import mmap
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, cast

from restore_cli.errors import ImageTooLarge, InputError, UnreadableImage
from restore_cli.imaging.codecs import bmp, boxes, exr_header, jxl_header
from restore_cli.imaging.codecs.pages import image_page, pages_of
from restore_cli.imaging.codecs.radiance_header import read_radiance
from restore_cli.imaging.codecs.segments import markers
from restore_cli.imaging.formats import (
    STILLS,
    StillFormat,
    refuse_without_extra,
    still_named,
    still_of,
)
from restore_cli.imaging.kinds import HEAD, RAW, RAW_SUFFIXES, other_kind

MOST_PIXELS = 500_000_000  # largest image that is read: 6 GB as float32 RGB
CHEAP = 1 << 24  # pixels that may be decoded before it is known whether the file holds them

IN_FRONT = 1 << 20  # bytes of a file in boxes that are searched for its size

# Most pixels, or bytes of pixels, that one byte of a file can hold.
DEFLATED, LZW, RUNS, SCANNED = 1032, 2731, 64, 1024
RGBE_RUNS = 16  # pixels: a run of 127 in two bytes, four runs for the channels
JPEG = 3 * SCANNED  # of three channels
WEBP_BYTES = 12  # bytes a pixel: two canvases and a frame
BLOCKS = 640  # of VP8: the modes of a block of 256 take 3.4 bits
JPEG_SIZES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8))  # markers SOF, Huffman-coded
JPEG_ARITHMETIC = (*range(0xC9, 0xCC), *range(0xCD, 0xD0))
PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)  # all coefficients are held, in 16 bits
PNM = re.compile(rb"P([1-6])" + rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})" * 2)
PNM_BITS = {b"1": 8, b"2": 16, b"3": 48, b"4": 1, b"5": 8, b"6": 24}
FITS_BLOCK = 2880  # bytes; the first cards state the size
FITS_NUMBER = re.compile(rb"(BITPIX|NAXIS\d?) *= *(-?\d{1,9})\b")
PNG_SIGNATURE, CICP = b"\x89PNG\r\n\x1a\n", 4  # and bytes of the chunk
MOST_CHUNKS = 1000  # that are looked at
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
PALETTE = 3  # colour type
TIFF_JPEG = (6, 7)
TIFF_RATIOS = {1: 1, 5: LZW, 6: JPEG, 7: JPEG, 8: DEFLATED, 32946: DEFLATED, 32773: RUNS}


class Size(NamedTuple):
    """Stored size of an image, and the largest number of bytes of a decoded pixel."""

    height: int
    width: int
    pixel_bytes: int


@dataclass(frozen=True)
class Header:
    """Format and stored size of an image.

    smallest_file: bytes of the shortest file of that size. pixel_bytes: see Size. hdr: PQ or HLG,
    the transfer of its colours. colours: channels of the pixels, at least. decoder_bytes: memory of
    the decoder for each pixel, at least, even if the pixels are stored elsewhere row by row.
    """

    still: StillFormat
    height: int
    width: int
    smallest_file: float = 0
    pixel_bytes: int = 4
    hdr: str | None = None
    colours: int = 1
    decoder_bytes: int = 0

    @property
    def size(self) -> Size:
        return Size(self.height, self.width, self.pixel_bytes)


def is_regular(path: Path) -> bool:
    """Return True for a file, False for a pipe, a socket or a device. Raises OSError."""
    return stat.S_ISREG(path.stat().st_mode)


def read_header(path: Path) -> Header | None:
    """Return the header of an image file; None for other and for damaged files.

    Raises UnreadableImage for a kind of file that is not read, or not without an extra, and for a
    file that is too short for its size, ImageTooLarge.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return inspect(cast(bytes, view), name=str(path))
    except (OSError, ValueError):  # decoding reports it
        return None


def inspect(data: bytes, *, name: str) -> Header | None:
    """Return the header of an image in memory; name, raised: as `read_header`."""
    try:
        if still := still_in(data, name):
            refuse_without_extra(still)
            return _checked(_measured(still, data), len(data))
    except InputError as error:
        raise type(error)(f"{name}: {error.message}", hint=error.hint) from error
    except (struct.error, ValueError, LookupError):  # damaged: decoding says how
        pass
    return None


def still_in(data: bytes, name: str) -> StillFormat | None:
    """Return the format of an image in memory, None if its first bytes do not tell.

    Raises UnreadableImage for a kind of file that is not read.
    """
    head = data[:HEAD]
    kind, still = other_kind(head), still_of(head)
    if kind is RAW or (still is not None and still.name == "TIFF" and _is_raw(data, name)):
        return still_named("RAW")
    if kind is not None:
        raise kind.refusal()
    return still or next((row for row in STILLS if row.end and data[-18:] == row.end), None)


def _is_raw(tiff: bytes, name: str) -> bool:
    with suppress(ValueError, struct.error):  # damaged: decoding says how
        if any(page.is_raw for page in pages_of(tiff)):
            return True
    return Path(name).suffix.lower() in RAW_SUFFIXES


def _checked(header: Header | None, size: int) -> Header | None:
    """Return the header if its size is possible. Raises ImageTooLarge, UnreadableImage."""
    if header is None:
        return None
    refuse_giant(header.height, header.width)
    if header.height * header.width > CHEAP and size < header.smallest_file:
        raise UnreadableImage(
            f"truncated: {size:,} bytes cannot hold {header.width} x {header.height} pixels",
            hint="get the file again",
        )
    return header


def refuse_giant(height: int, width: int) -> None:
    """Check a size before memory is allocated for it. Raises ImageTooLarge, ValueError."""
    if height < 1 or width < 1:
        raise ValueError(f"{width} x {height} pixels")
    if height * width > MOST_PIXELS:
        raise ImageTooLarge(
            f"{width} x {height} pixels; the limit is {MOST_PIXELS:,}",
            hint="split it into parts",
        )


def _measured(still: StillFormat, data: bytes) -> Header | None:
    """Return the header of a format of `STILLS`. Raises UnreadableImage, ValueError, ..."""
    match still.name:
        case "PNG":
            return _png(still, data)
        case "JPEG":
            return _jpeg(still, data)
        case "WebP":
            return _webp(still, data)
        case "TIFF":
            return _tiff(still, data)
        case "BMP":
            return _bmp(still, data)
        case "GIF":
            width, height = struct.unpack_from("<HH", data, 6)
            return Header(still, height, width, width * height / LZW, decoder_bytes=1)
        case "AVIF" | "HEIC":
            found = boxes.properties(data[:IN_FRONT])
            if found is None:
                return None
            hdr = boxes.hdr_of(dict(found.colours))
            return Header(still, found.height, found.width, pixel_bytes=8, hdr=hdr, decoder_bytes=4)
        case "JPEG XL":
            stated = jxl_header.read_header(jxl_header.codestream(data[:IN_FRONT]))
            hdr = boxes.hdr_of(dict(stated.colours))
            return Header(
                still, stated.height, stated.width, pixel_bytes=8, hdr=hdr, decoder_bytes=1
            )
        case "OpenEXR":
            part = exr_header.read_parts(data)[0]
            part.colours()  # refused where there are none
            return Header(still, part.height, part.width, part.least, pixel_bytes=16)
        case "Radiance HDR":
            radiance = read_radiance(data)
            pixels = radiance.height * radiance.width
            return Header(
                still, radiance.height, radiance.width, pixels / RGBE_RUNS, pixel_bytes=12
            )
        case "FITS":
            return _fits(still, data)
        case "RAW" | "DICOM" | "Targa, QOI, DDS, SGI, PCX":
            return None  # the libraries tell
        case _:
            return _pnm(still, data)


def _png(still: StillFormat, data: bytes) -> Header:
    width, height, depth, kind, *_, interlaced = struct.unpack_from(">II5B", data, 16)
    row = (width * depth * PNG_CHANNELS[kind] + 7) // 8
    by_rows = depth >= 8 and kind != PALETTE and not interlaced
    colours = 3 if kind in (2, PALETTE, 6) else 1
    return Header(
        still,
        height,
        width,
        smallest_file=row * height / DEFLATED,
        pixel_bytes=(4 if kind == PALETTE else PNG_CHANNELS[kind]) * (2 if depth == 16 else 1),
        hdr=boxes.hdr_of(dict(_stated_colours(data))),
        colours=colours,
        decoder_bytes=0 if by_rows else colours,
    )


def _stated_colours(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunk cICP of a PNG, if it stands before the pixels."""
    at = len(PNG_SIGNATURE)
    for _ in range(MOST_CHUNKS):
        length, kind = struct.unpack_from(">I4s", png, at)
        if kind in (b"IDAT", b"IEND"):
            return
        if kind == b"cICP" and length == CICP:
            yield kind, png[at + 8 : at + 8 + length]
        at += 12 + length


def _jpeg(still: StillFormat, data: bytes) -> Header | None:
    for marker, at in markers(data):
        if marker in JPEG_SIZES + JPEG_ARITHMETIC:
            height, width, components = struct.unpack_from(">HHB", data, at + 5)
            header = Header(
                still,
                height,
                width,
                smallest_file=width * height / SCANNED if marker in JPEG_SIZES else 0,
                colours=1 if components == 1 else 3,
                decoder_bytes=2 if marker in PROGRESSIVE else 0,
            )
            return header if height else None  # 0: stated later
    return None


def _webp(still: StillFormat, data: bytes) -> Header | None:
    header = _webp_size(still, data)
    return header and replace(header, colours=3, decoder_bytes=WEBP_BYTES)


def _webp_size(still: StillFormat, data: bytes) -> Header | None:
    match data[8:16]:
        case b"WEBPVP8X":
            low, high, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
            return Header(still, (low_height | high_height << 16) + 1, (low | high << 16) + 1)
        case b"WEBPVP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            return Header(still, (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1)
        case b"WEBPVP8 ":
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
            return Header(still, height, width, width * height / BLOCKS)
    return None


def _tiff(still: StillFormat, data: bytes) -> Header:
    tags = image_page(pages_of(data)).tags
    height, width = tags.numbers(257, (0,))[0], tags.numbers(256, (0,))[0]
    bits, samples = max(tags.numbers(258, (1,))), tags.numbers(277, (1,))[0]
    compression = tags.numbers(259, (1,))[0]
    ratio = TIFF_RATIOS.get(compression)
    by_parts = compression not in TIFF_JPEG and bits >= 8
    return Header(
        still,
        height,
        width,
        smallest_file=0 if ratio is None else height * width * bits * samples / 8 / ratio,
        pixel_bytes=samples * -(-bits // 8),
        colours=3 if tags.numbers(262, (1,))[0] == 2 else 1,
        decoder_bytes=0 if by_parts else 1,
    )


def _bmp(still: StillFormat, data: bytes) -> Header:
    layout = bmp.read_layout(data)
    height, width, in_colour = layout.height, layout.width, layout.bits > 8
    by_runs = layout.compression in bmp.RUN_LENGTH
    return Header(
        still,
        height,
        width,
        smallest_file=0 if by_runs else width * height * layout.bits / 8,
        colours=3 if in_colour else 1,
        decoder_bytes=4 if in_colour else 1,
    )


def _fits(still: StillFormat, data: bytes) -> Header | None:
    cards = (data[at : at + 80] for at in range(0, FITS_BLOCK, 80))
    numbers = {found[1]: int(found[2]) for card in cards if (found := FITS_NUMBER.match(card))}
    if numbers[b"NAXIS"] < 2 or b"NAXIS2" not in numbers:
        return None  # in an extension: astropy tells
    width, height = numbers[b"NAXIS1"], numbers[b"NAXIS2"]
    return Header(
        still, height, width, height * width * abs(numbers[b"BITPIX"]) / 8, pixel_bytes=16
    )


def _pnm(still: StillFormat, data: bytes) -> Header | None:
    found = PNM.match(data[:HEAD])
    if found is None:
        return None
    width, height = int(found[2]), int(found[3])
    return Header(
        still,
        height,
        width,
        smallest_file=width * height * PNM_BITS[found[1]] / 8,
        pixel_bytes=6,
        colours=3 if found[1] in (b"3", b"6") else 1,
        decoder_bytes=1,
    )
