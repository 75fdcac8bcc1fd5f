"""Stills on disk: PNG, JPEG, WebP and TIFF both ways; BMP, GIF and PNM as sources only.

What an image brings along (alpha, 16 bit, ICC profile, EXIF, XMP, resolution) leaves with it, as
far as the format of the target can hold it. JPEG holds no alpha: it is laid on white. JPEG and
WebP hold 8 bit.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from PIL import UnidentifiedImageError

from restore_cli.errors import (
    ImageTooLarge,
    InputError,
    OutputCollision,
    OutputError,
    OutputExists,
    UnreadableImage,
)
from restore_cli.imaging.codecs import metadata, png, pnm, tiff
from restore_cli.imaging.codecs import pillow as eight_bit
from restore_cli.imaging.formats import Format, format_of
from restore_cli.imaging.image import Image
from restore_cli.imaging.quantize import MOST_PIXELS, Decoded, quantize, to_image
from restore_cli.imaging.video.containers import is_video

logger = logging.getLogger(__name__)

DEEP_FORMATS = ("png", "tiff")
LARGEST_FILE = MOST_PIXELS * 8 + (1 << 28)  # bytes: RGBA of 16 bit, not packed, and its metadata


def read(source: Path) -> Image:
    """The image in a file, upright. Raises UnreadableImage, ImageTooLarge."""
    return replace(decode(contents(source), name=str(source)), source=source)


def contents(source: Path) -> bytes:
    """The bytes of a file that may be an image. Raises UnreadableImage, ImageTooLarge."""
    try:
        size = source.stat().st_size
        if size > LARGEST_FILE:
            raise ImageTooLarge(f"{source}: {size:,} bytes are more than any image that is read")
        return source.read_bytes()
    except OSError as error:
        raise UnreadableImage(
            f"{source}: {error.strerror or error}", hint="check the path and its permissions"
        ) from error


def decode(data: bytes, *, name: str) -> Image:
    """The image in `data`; its contents count, not the suffix of `name`.

    Raises UnreadableImage, ImageTooLarge.
    """
    if not data:
        raise UnreadableImage(f"{name}: the file is empty")
    try:
        with _quiet_decoders():
            stored = _stored(data)
    except InputError as error:
        raise type(error)(f"{name}: {error.message}", hint=error.hint) from error
    except MemoryError as error:
        raise ImageTooLarge(
            f"{name}: too large for the memory", hint="cut it into parts"
        ) from error
    except UnidentifiedImageError as error:
        if is_video(data):
            raise UnreadableImage(
                f"{name}: a video, not an image",
                hint="videos are read from a file that is called so, for example clip.mp4",
            ) from error
        raise UnreadableImage(
            f"{name}: not an image that can be read",
            hint="PNG, JPEG, WebP, TIFF, BMP, GIF and PNM can",
        ) from error
    except Exception as error:  # the decoders answer to damage with nearly any exception
        reason = "".join(letter if letter.isprintable() else " " for letter in str(error)[:200])
        raise UnreadableImage(
            f"{name}: damaged or truncated ({reason})", hint="get the file again"
        ) from error
    for part in stored.left_out:
        logger.warning("%s: read without %s", name, part)
    return to_image(stored)


@contextmanager
def _quiet_decoders() -> Iterator[None]:
    """They log whatever is strange. Without any handler it would land on stderr; who has set up
    logging still gets it.
    """
    nowhere = logging.NullHandler()
    loggers = [logging.getLogger(name) for name in ("PIL", "tifffile", "imagecodecs")]
    for each in loggers:
        each.addHandler(nowhere)
    try:
        yield
    finally:
        for each in loggers:
            each.removeHandler(nowhere)


def _stored(data: bytes) -> Decoded:
    if data.startswith(png.SIGNATURE):
        return png.decode(data)
    if data.startswith(tiff.SIGNATURES):
        return tiff.decode(data)
    if pnm.is_deep(data):
        return pnm.decode(data)
    return eight_bit.decode(data)


def encode(image: Image, *, format: Format, quality: int | None = None) -> bytes:
    """The image as a file. quality: 1-100 for JPEG (95) and WebP (lossless if not given).

    Raises OutputError.
    """
    depth = image.bit_depth if format in DEEP_FORMATS else 8
    carried = metadata.leaving(image, eight_bit.ONE_SEGMENT if format == "jpeg" else None)
    if format == "tiff":
        return tiff.encode(image, depth, carried)
    levels = quantize(image, depth, on_white=format == "jpeg")
    if format == "png":
        return png.encode(levels, carried)
    return eight_bit.encode(levels, carried, format, quality)


def write(
    image: Image, target: Path, *, quality: int | None = None, overwrite: bool = False
) -> None:
    """Write the image whole or not at all; the suffix says how. Missing folders are made.

    The file that the image was read from is never replaced.
    Raises UsageError, OutputExists, OutputCollision, OutputError.
    """
    data = encode(image, format=format_of(target), quality=quality)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".restore-{secrets.token_hex(8)}.part")
        try:
            with part.open("xb") as file:
                file.write(data)
            _refuse_source(image, target)
            put_in_place(part, target, overwrite)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{target}: {error.strerror or error}", hint="choose another place with -o"
        ) from error


def _refuse_source(image: Image, target: Path) -> None:
    """Whichever link or spelling leads to it."""
    source = image.source
    if source and source.exists() and target.exists() and os.path.samefile(source, target):
        raise OutputCollision(f"{target} is the source", hint="choose another place with -o")


def put_in_place(part: Path, target: Path, overwrite: bool) -> None:
    """Give a finished file its name. Raises OutputExists, OSError."""
    if overwrite:
        part.replace(target)
        return
    try:
        os.link(part, target)  # unlike a rename, it never replaces what came in the meantime
    except FileExistsError as error:
        raise OutputExists(f"{target} exists", hint="add --overwrite or --skip-existing") from error
    except OSError:  # a file system without links
        if os.path.lexists(target):
            raise OutputExists(
                f"{target} exists", hint="add --overwrite or --skip-existing"
            ) from None
        part.rename(target)
