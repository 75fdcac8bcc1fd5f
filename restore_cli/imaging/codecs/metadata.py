"""What an image carries beside its pixels, from the file it was in to the next."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import replace

from restore_cli.imaging.codecs import exif as tags
from restore_cli.imaging.codecs import xmp as packets
from restore_cli.imaging.image import Image, Metadata

logger = logging.getLogger(__name__)

Resolution = tuple[float, float]

EXIF_PREFIX = b"Exif\0\0"  # in JPEG, and sometimes elsewhere
FINEST = 400_000  # dots per inch that every format can tell
ORIENTATION_IN_XMP = re.compile(rb'(tiff:Orientation(?:="|>))([1-8])')
GREY_PROFILE = b"GRAY"


def carried(
    *,
    icc: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
    dpi: Resolution | None = None,
    orientation: int | None = None,
) -> tuple[Metadata, int]:
    """What is kept of it, telling of an upright image, and the orientation still to be applied.

    EXIF that cannot be understood is left out. dpi and orientation: if the format tells them
    outside EXIF.
    """
    exif = (exif or b"").removeprefix(EXIF_PREFIX)
    directory = None
    try:
        if exif:
            directory = tags.first_directory(exif)
            exif = tags.upright(exif)
            tags.describing(exif)  # so that no format will stumble over it when it is written
    except ValueError as error:
        logger.info("EXIF left out: %s", error)
        exif = b""
    if directory is not None and orientation is None and tags.ORIENTATION in directory.entries:
        orientation = tags.orientation(directory)
    if directory is not None and not _sensible(dpi):
        dpi = tags.resolution(directory)
    if orientation is None and xmp and (said := ORIENTATION_IN_XMP.search(xmp)):
        orientation = int(said[2])
    orientation = orientation or 1
    if dpi and orientation >= 5:
        dpi = (dpi[1], dpi[0])
    metadata = Metadata(
        icc=icc or None,
        exif=exif or None,
        xmp=ORIENTATION_IN_XMP.sub(rb"\g<1>1", xmp) if xmp else None,
        dpi=dpi if _sensible(dpi) else None,
    )
    return metadata, orientation


def _sensible(dpi: Resolution | None) -> bool:
    return dpi is not None and all(math.isfinite(value) and 0 < value < FINEST for value in dpi)


def leaving(image: Image, longest_xmp: int | None = None) -> Metadata:
    """What goes out with an image: EXIF that tells its size, and a profile that fits it.

    The record of another image, from which this one was made, does not go out.
    longest_xmp: bytes that the format holds; a record never costs the user's own XMP its place.
    """
    metadata = replace(image.metadata, xmp=packets.without_record(image.metadata.xmp))
    if metadata.record is not None:
        packet = packets.with_record(metadata.xmp, metadata.record)
        if packet is not None and len(packet) <= (longest_xmp or len(packet)):
            metadata = replace(metadata, xmp=packet)
        else:
            logger.info("the record of how it was made is left out: no room in its XMP")
    if metadata.exif is not None:
        sized = tags.resized(metadata.exif, image.height, image.width)
        metadata = replace(metadata, exif=sized)
    if metadata.icc is not None and metadata.icc[16:20] == GREY_PROFILE and len(image.pixels) == 3:
        logger.warning("ICC profile left out: it is for grey, and the image has colours now")
        metadata = replace(metadata, icc=None)
    return metadata
