"""JPEG, WebP, BMP, GIF, 8-bit PNM and rare kinds of TIFF: what Pillow reads and writes well."""

from __future__ import annotations

import io
import logging
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from PIL import Image as Pillow
from PIL import ImageCms

from restore_cli.errors import OutputError, UnreadableImage
from restore_cli.imaging.codecs import exif as tags
from restore_cli.imaging.codecs.jpeg import quality_of
from restore_cli.imaging.codecs.metadata import carried
from restore_cli.imaging.image import Metadata
from restore_cli.imaging.quantize import Array, Decoded, refuse_giant

logger = logging.getLogger(__name__)

FORMATS = ("JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
GREY_MODES = ("1", "L", "LA", "La")
COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "CMYK")

EXIF_PREFIX = b"Exif\0\0"
LONGEST_SIDE = {"jpeg": 65_500, "webp": 16_383}
FINEST_JPEG = 65_535  # dots per inch
ONE_SEGMENT = 65_533 - 29  # bytes that JPEG holds of EXIF, and of XMP after its name
ALL_SEGMENTS = 255 * (65_533 - 14)  # that it holds of an ICC profile
SCAN, END = 0xDA, b"\xff\xd9"  # markers in a JPEG
NOTHING = 128  # the level of pixels that a JPEG does not have
MORE = b"\x5a" * 256  # some data of a scan
WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))
UNITS = (1, 2)  # of JPEG's density, inch and centimetre; 0 is only a ratio

_pillow = threading.Lock()


def decode(data: bytes) -> Decoded:
    """The first frame. Raises UnreadableImage, ImageTooLarge, and whatever Pillow raises."""
    with _own_limits(), Pillow.open(io.BytesIO(data), formats=FORMATS) as opened:
        refuse_giant(opened.height, opened.width)
        if opened.mode not in GREY_MODES + COLOUR_MODES:
            raise UnreadableImage(
                f"pixels of the kind {opened.mode}",
                hint="convert it to grey or RGB of 8 or 16 bit first",
            )
        if opened.format in ("JPEG", "MPO") and not _has_end(data):
            raise ValueError("its end is missing")
        metadata, orientation = _read_metadata(opened)
        animated = opened.format in ("GIF", "WEBP") and getattr(opened, "is_animated", False)
        left_out = ["the other frames"] if animated else []
        image: Pillow.Image = opened
        if opened.mode == "CMYK":
            image, fits = _cmyk_to_srgb(opened, metadata.icc)
            metadata = replace(metadata, icc=None)
            left_out += [] if fits else ["its ICC profile, which is not for CMYK or damaged"]
        levels = _levels(image)
        if opened.format in ("JPEG", "MPO") and _ends_in_nothing(levels) and _wants_more(data):
            raise ValueError("its end is missing")
        return Decoded(
            levels,
            orientation=orientation,
            metadata=metadata,
            jpeg_quality=quality_of(getattr(opened, "quantization", {})),
            left_out=tuple(left_out),
        )


@contextmanager
def _own_limits() -> Iterator[None]:
    """Pillow without its limit of pixels, ours is another, and without its warnings: a strange tag
    is no news. Both are settings of the whole process, so one thread at a time may change them.
    """
    with _pillow, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, Pillow.MAX_IMAGE_PIXELS = Pillow.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Pillow.MAX_IMAGE_PIXELS = before


def _has_end(jpeg: bytes) -> bool:
    """Whether the first scan is followed by an end: Pillow reads on into anything else."""
    scan = _first_scan(jpeg)
    return scan is None or jpeg.find(END, scan) >= 0  # without one it is not for us to tell


def _first_scan(jpeg: bytes) -> int | None:
    """The place of its marker."""
    at = 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        if marker == SCAN:
            return at
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + struct.unpack_from(">H", jpeg, at + 2)[0]
    return None


def _ends_in_nothing(levels: Array) -> bool:
    """Whether the last pixel has the grey that stands for blocks that never came."""
    return bool((levels[-1, -1] == NOTHING).all())


def _wants_more(jpeg: bytes) -> bool:
    """Whether more data before the end would change the image: so a part of it is missing.

    A whole image with that grey in its corner does not care for what follows its last block.
    """
    scan = _first_scan(jpeg)
    if scan is None:
        return False
    end = jpeg.find(END, scan)
    longer = jpeg[:end] + MORE + jpeg[end:]
    with Pillow.open(io.BytesIO(jpeg)) as given, Pillow.open(io.BytesIO(longer)) as other:
        return not np.array_equal(np.asarray(given), np.asarray(other))


def _read_metadata(opened: Pillow.Image) -> tuple[Metadata, int]:
    info = opened.info
    dpi = info.get("dpi")
    if opened.format in ("JPEG", "MPO") and info.get("jfif_unit") not in UNITS:
        dpi = None  # Pillow has taken it from EXIF, or made it up
    metadata, orientation = carried(
        icc=info.get("icc_profile"),
        exif=info.get("exif"),
        xmp=info.get("xmp"),
        dpi=(float(dpi[0]), float(dpi[1])) if dpi else None,
    )
    # Pillow turns TIFF upright, and only TIFF.
    return metadata, 1 if opened.format == "TIFF" else orientation


def _cmyk_to_srgb(image: Pillow.Image, icc: bytes | None) -> tuple[Pillow.Image, bool]:
    """Through the embedded profile, and whether that could be done; without one, by subtraction."""
    if icc is None:
        return image.convert("RGB"), True
    try:
        converted = ImageCms.profileToProfile(
            image,
            io.BytesIO(icc),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError) as error:
        image.load()  # if it is the image that is damaged, this says so
        logger.info("CMYK profile: %s", error)
        return image.convert("RGB"), False
    assert converted is not None  # only inPlace gives none
    return converted, True


def _levels(image: Pillow.Image) -> Array:
    transparent = image.has_transparency_data
    if image.mode in GREY_MODES:
        mode = "LA" if transparent else "L"
    else:
        mode = "RGBA" if transparent else "RGB"
    levels = np.asarray(image if image.mode == mode else image.convert(mode))
    return levels[..., None] if levels.ndim == 2 else levels


def encode(
    levels: Array, metadata: Metadata, format: Literal["jpeg", "webp"], quality: int | None
) -> bytes:
    """levels: (H, W, C) uint8. Raises OutputError."""
    height, width, channels = levels.shape
    most = LONGEST_SIDE[format]
    if max(height, width) > most:
        raise OutputError(
            f"{width} x {height} pixels, but {format} holds at most {most:,} a side",
            hint="write PNG or TIFF",
        )
    if format == "jpeg":
        options = {"quality": quality or 95, "subsampling": 0} | _jpeg_metadata(metadata)
    else:
        options = {"quality": quality} if quality else {"lossless": True, "exact": True}
        options |= _webp_metadata(metadata)
    buffer = io.BytesIO()
    image = Pillow.fromarray(levels[..., 0] if channels == 1 else levels)
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _jpeg_metadata(metadata: Metadata) -> dict[str, Any]:
    options: dict[str, Any] = {}
    given = {"exif": metadata.exif, "xmp": metadata.xmp, "icc_profile": metadata.icc}
    for name, value in given.items():
        if value is None:
            continue
        most = ALL_SEGMENTS if name == "icc_profile" else ONE_SEGMENT
        if len(value) > most:
            what, size = name.split("_")[0].upper(), len(value) // 1000
            logger.warning("%s left out: %d kB, and JPEG holds %d", what, size, most // 1000)
            continue
        options[name] = EXIF_PREFIX + value if name == "exif" else value
    if metadata.dpi and all(1 <= round(value) <= FINEST_JPEG for value in metadata.dpi):
        options["dpi"] = metadata.dpi
    return options


def _webp_metadata(metadata: Metadata) -> dict[str, Any]:
    exif = metadata.exif
    if metadata.dpi:
        exif = tags.with_resolution(exif, metadata.dpi)  # WebP has no other place for it
    return {"exif": exif or b"", "xmp": metadata.xmp or b"", "icc_profile": metadata.icc}
