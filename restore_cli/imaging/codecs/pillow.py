"""Formats that Pillow decodes, and JPEG and WebP, which it encodes."""

from __future__ import annotations

import ctypes
import io
import logging
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
from PIL import Image as Pillow
from PIL import ImageCms, TiffImagePlugin, _imaging

from restore_cli.errors import UnreadableImage
from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.codecs import bmp, gif
from restore_cli.imaging.codecs.exif import with_resolution
from restore_cli.imaging.codecs.jpeg import quality_of
from restore_cli.imaging.codecs.jpeg_scan import decode_scan
from restore_cli.imaging.codecs.metadata import (
    EXIF_PREFIX,
    Incoming,
    comment_of,
    comments_to_texts,
    incoming_metadata,
)
from restore_cli.imaging.codecs.segments import (
    BEHIND,
    COMMENT,
    IN_PHOTOSHOP,
    PHOTOSHOP,
    Beside,
    pack,
    read_beside,
)
from restore_cli.imaging.formats import STILLS
from restore_cli.imaging.headers import refuse_giant
from restore_cli.imaging.image import Metadata
from restore_cli.imaging.quantize import STORED_ROWS, Array, Decoded, Encodable

logger = logging.getLogger(__name__)

GREY_MODES = ("1", "L", "LA", "La")
COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "CMYK")

FINEST_JPEG = 65_535  # dots per inch
WEBP_FLAGS, WEBP_ALPHA = 20, 16  # offset of its flags, and one of them
UNITS = (1, 2)  # of JPEG's density, inch and centimetre; 0 is only a ratio

Convert = Callable[[Pillow.Image], Pillow.Image]

_process = threading.Lock()

with suppress(AttributeError, OSError):  # libtiff is not shared: on Windows
    # It would write to stderr, past Python; what it says is an exception as well.
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def decode(data: bytes, storage: Storage = MEMORY, *, libtiff: bool = False) -> Decoded:
    """Decode the first frame. Raises UnreadableImage, ImageTooLarge, and what Pillow raises.

    libtiff: decode uncompressed TIFF by libtiff, as Pillow does with others.
    """
    names = [still.pillow for still in STILLS if still.pillow]
    file = io.BytesIO(data) if isinstance(data, bytes) else data  # a mapped file is one already
    with pillow_limits(libtiff), Pillow.open(file, formats=names) as opened:
        refuse_giant(opened.height, opened.width)
        if opened.mode not in GREY_MODES + COLOUR_MODES:
            raise UnreadableImage(
                f"unsupported pixel type {opened.mode}",
                hint="convert it to grey or RGB of 8 or 16 bits",
            )
        metadata, orientation, named = _read_metadata(opened, data)
        animated = opened.format in ("GIF", "WEBP") and getattr(opened, "is_animated", False)
        dropped = [*(["the other frames"] if animated else []), *named]
        levels: Array | None = None
        convert: Convert = _unchanged
        if opened.format in ("JPEG", "MPO"):
            levels, lost = decode_scan(data, opened.mode, opened.height, opened.width, storage)
            dropped += lost
        if opened.mode == "CMYK":
            convert, used_profile = _from_cmyk(metadata.icc)
            if metadata.icc is not None and not used_profile:
                dropped.append("its ICC profile, which is damaged or not for CMYK")
            metadata = replace(metadata, icc=None)
        if levels is None or opened.mode == "CMYK":
            levels = _converted(opened, levels, convert, storage)
        return Decoded(
            levels,
            orientation=orientation,
            metadata=metadata,
            jpeg_quality=quality_of(getattr(opened, "quantization", {})),
            dropped=tuple(dropped),
        )


@contextmanager
def without_warnings() -> Iterator[None]:
    """Disable warnings about contents that are not standard, in the process, hence the lock."""
    with _process, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def pillow_limits(libtiff: bool = False) -> Iterator[None]:
    """Disable Pillow's pixel limit (ours replaces it) and its warnings about unusual tags."""
    with without_warnings():
        before = Pillow.MAX_IMAGE_PIXELS, TiffImagePlugin.READ_LIBTIFF
        Pillow.MAX_IMAGE_PIXELS, TiffImagePlugin.READ_LIBTIFF = None, libtiff
        try:
            yield
        finally:
            Pillow.MAX_IMAGE_PIXELS, TiffImagePlugin.READ_LIBTIFF = before


def _read_metadata(opened: Pillow.Image, data: bytes) -> Incoming:
    info = opened.info
    icc, dpi, beside = info.get("icc_profile"), info.get("dpi"), Beside((), b"", ())
    if opened.format in ("JPEG", "MPO"):
        beside = read_beside(data)
        if info.get("jfif_unit") not in UNITS:
            dpi = None  # Pillow copies it from EXIF, or invents it
    elif opened.format == "GIF":
        beside = gif.read_beside(data)
    elif opened.format == "BMP":
        icc, beside = bmp.profile_of(data), beside._replace(dropped=bmp.dropped_from(data))
    elif opened.format == "WEBP" and data[8 + struct.unpack_from("<I", data, 4)[0] :].strip(b"\0"):
        beside = beside._replace(dropped=(BEHIND,))
    incoming = incoming_metadata(
        Metadata(
            icc=icc,
            exif=info.get("exif"),
            xmp=info.get("xmp"),
            dpi=(float(dpi[0]), float(dpi[1])) if dpi else None,
            texts=comments_to_texts(beside.comments),
            photoshop=beside.photoshop,
        ),
        dropped=beside.dropped,
    )
    # Pillow applies the orientation of TIFF, and only of TIFF.
    return incoming._replace(orientation=1) if opened.format == "TIFF" else incoming


def _unchanged(strip: Pillow.Image) -> Pillow.Image:
    return strip


def _from_cmyk(icc: bytes | None) -> tuple[Convert, bool]:
    """Return the conversion by a profile, else by subtraction; also if the profile is used."""
    try:
        if icc is not None:
            transform = ImageCms.buildTransform(
                io.BytesIO(icc),
                ImageCms.createProfile("sRGB"),
                "CMYK",
                "RGB",
                ImageCms.Intent.RELATIVE_COLORIMETRIC,
                ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
            return transform.apply, True
    except (ImageCms.PyCMSError, OSError) as error:
        logger.info("CMYK profile: %s", error)
    return lambda strip: strip.convert("RGB"), False


def _converted(
    image: Pillow.Image,
    inks: Array | None,
    convert: Convert,
    storage: Storage,
) -> Array:
    """Convert the pixels of an image to levels; outside of memory strip by strip.

    inks: those of a CMYK image, inverted, as Adobe stores them, in place of its pixels.
    """
    if inks is None:
        image.load()
    step, result = image.height if storage is MEMORY else STORED_ROWS, None
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        if inks is not None:
            strip = Pillow.frombytes("CMYK", (image.width, bottom - top), ~inks[top:bottom])
        elif storage is MEMORY:
            strip = image
        else:
            strip = image.crop((0, top, image.width, bottom))
        levels = _levels(convert(strip))
        if storage is MEMORY:
            return levels
        if result is None:
            result = storage.new((image.height, *levels.shape[1:]), levels.dtype)
        result[top:bottom] = levels
        storage.release()
    assert result is not None  # no image is without rows
    return result


def _levels(image: Pillow.Image) -> Array:
    transparent = image.has_transparency_data
    if image.mode in GREY_MODES:
        mode = "LA" if transparent else "L"
    else:
        mode = "RGBA" if transparent else "RGB"
    levels = np.asarray(image if image.mode == mode else image.convert(mode))
    return levels[..., None] if levels.ndim == 2 else levels


def encode_jpeg(source: Encodable, file: BinaryIO) -> None:
    """Encode a JPEG of quality 95 by default, with full chroma."""
    image, metadata, options = pillow_image(source), source.complete_metadata, dict[str, Any]()
    if metadata.exif is not None:
        options["exif"] = EXIF_PREFIX + metadata.exif
    if metadata.xmp is not None:
        options["xmp"] = metadata.xmp
    if metadata.icc is not None:
        options["icc_profile"] = metadata.icc
    if metadata.dpi and all(1 <= round(value) <= FINEST_JPEG for value in metadata.dpi):
        options["dpi"] = metadata.dpi
    options["extra"] = b"".join(pack(COMMENT, comment_of(text)) for text in metadata.texts)
    options["extra"] += pack(PHOTOSHOP, metadata.photoshop or b"", IN_PHOTOSHOP)
    image.save(file, "JPEG", quality=source.quality or 95, subsampling=0, **options)


def encode_webp(source: Encodable, file: BinaryIO) -> None:
    """Encode a WebP, lossless by default."""
    image, metadata = pillow_image(source), source.complete_metadata
    exif = metadata.exif
    if metadata.dpi:
        exif = with_resolution(exif, metadata.dpi)  # WebP has no other place for it
    lossless = {"lossless": True, "exact": True}
    data = io.BytesIO()
    save(
        source,
        image,
        data,
        "WEBP",
        exif=exif or b"",
        xmp=metadata.xmp or b"",
        icc_profile=metadata.icc,
        method=source.effort,
        **({"quality": source.quality} if source.quality else lossless),
    )
    if source.more_frames and any(frame.shape[2] == 4 for frame in source.more_frames):
        # libwebp forgets the transparency around frames that it has cropped to opaque pixels.
        data.getbuffer()[WEBP_FLAGS] |= WEBP_ALPHA
    file.write(data.getbuffer())


def pillow_image(source: Encodable) -> Pillow.Image:
    """Return the first frame, 8 bits per channel."""
    return _from_levels(source.levels())


def _from_levels(levels: Array) -> Pillow.Image:
    return Pillow.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)


def save(
    source: Encodable, image: Pillow.Image, file: BinaryIO, format: str, **options: Any
) -> None:
    """Write the first frame by a plugin of Pillow, and the other frames with their timing."""
    if source.more_frames:
        images = [image, *map(_from_levels, source.more_frames)]
        mode = "RGBA" if any(each.has_transparency_data for each in images) else "RGB"
        image, *others = (each.convert(mode) for each in images)
        options |= {"save_all": True, "append_images": others, "loop": source.plays}
        options["duration"] = [round(value) for value in source.milliseconds]
    image.save(file, format, **options)
