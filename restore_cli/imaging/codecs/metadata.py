"""Metadata of an image, from the file it is read from to the file it is written to."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import replace

from restore_cli.imaging.codecs.exif import (
    ORIENTATION,
    descriptive_tags,
    first_directory,
    read_orientation,
    read_resolution,
    reset_orientation,
    with_size,
)
from restore_cli.imaging.codecs.xmp import with_record, without_record
from restore_cli.imaging.formats import Encoding
from restore_cli.imaging.image import Image, Metadata

logger = logging.getLogger(__name__)

Resolution = tuple[float, float]

EXIF_PREFIX = b"Exif\0\0"  # in JPEG, and sometimes elsewhere
FINEST = 400_000  # dots per inch that every format can state
ORIENTATION_IN_XMP = re.compile(rb'(tiff:Orientation(?:="|>))([1-8])')
GREY_PROFILE = b"GRAY"


def incoming_metadata(
    *,
    icc: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
    dpi: Resolution | None = None,
    orientation: int | None = None,
) -> tuple[Metadata, int]:
    """Return the metadata of the upright image, and the orientation that is still to be applied.

    EXIF that cannot be parsed is dropped. dpi and orientation: as stated outside EXIF, if at all.
    """
    exif = (exif or b"").removeprefix(EXIF_PREFIX)
    directory = None
    try:
        if exif:
            directory = first_directory(exif)
            exif = reset_orientation(exif)
            descriptive_tags(exif)  # no format may fail on it when it is written
    except ValueError as error:
        logger.info("EXIF dropped: %s", error)
        exif = b""
    if directory is not None and orientation is None and ORIENTATION in directory.entries:
        orientation = read_orientation(directory)
    if directory is not None and not _is_plausible(dpi):
        dpi = read_resolution(directory)
    if orientation is None and xmp and (found := ORIENTATION_IN_XMP.search(xmp)):
        orientation = int(found[2])
    orientation = orientation or 1
    if dpi and orientation >= 5:
        dpi = (dpi[1], dpi[0])
    metadata = Metadata(
        icc=icc or None,
        exif=exif or None,
        xmp=ORIENTATION_IN_XMP.sub(rb"\g<1>1", xmp) if xmp else None,
        dpi=dpi if _is_plausible(dpi) else None,
    )
    return metadata, orientation


def _is_plausible(dpi: Resolution | None) -> bool:
    return dpi is not None and all(math.isfinite(value) and 0 < value < FINEST for value in dpi)


def outgoing_metadata(image: Image, encoding: Encoding) -> Metadata:
    """Return the metadata to write with `image`: as much as a file in this encoding can hold.

    EXIF states the size of the image. The record of another image, from which this one was made,
    is removed; the image's own record never displaces the user's XMP.
    """
    metadata = replace(image.metadata, xmp=without_record(image.metadata.xmp))
    if metadata.record is not None:
        packet = with_record(metadata.xmp, metadata.record)
        if packet is not None and _fits(packet, encoding.largest_xmp):
            metadata = replace(metadata, xmp=packet)
        else:
            logger.info("record dropped: no room for it in the XMP")
    if metadata.exif is not None:
        sized = with_size(metadata.exif, image.height, image.width)
        metadata = replace(metadata, exif=sized)
    if metadata.icc is not None and metadata.icc[16:20] == GREY_PROFILE and len(image.pixels) == 3:
        logger.warning("ICC profile dropped: it is for grey images, and this one has colours")
        metadata = replace(metadata, icc=None)
    return Metadata(
        exif=_fitting("EXIF", metadata.exif, encoding, encoding.largest_exif),
        xmp=_fitting("XMP", metadata.xmp, encoding, encoding.largest_xmp),
        icc=_fitting("ICC profile", metadata.icc, encoding, encoding.largest_icc),
        dpi=metadata.dpi,
        texts=metadata.texts,
    )


def _fitting(name: str, value: bytes | None, encoding: Encoding, limit: int | None) -> bytes | None:
    if value is None or _fits(value, limit):
        return value
    logger.warning(
        "%s dropped: %d kB, but %s holds at most %d kB",
        name,
        len(value) // 1000,
        encoding.format.upper(),
        (limit or 0) // 1000,
    )
    return None


def _fits(value: bytes, limit: int | None) -> bool:
    return limit is None or len(value) <= limit
