"""Metadata of an image, from the file it is read from to the file it is written to."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from restore_cli.errors import OutputError
from restore_cli.imaging.codecs import icc, photoshop, xmp
from restore_cli.imaging.codecs.boxes import hdr_of
from restore_cli.imaging.codecs.exif import (
    DESCRIPTION,
    ORIENTATION,
    descriptive_tags,
    first_directory,
    for_upright,
    read_orientation,
    read_resolution,
    suits_depth,
    with_size,
    without_description,
    without_transfer_function,
)
from restore_cli.imaging.formats import Encoding, refuse_hdr
from restore_cli.imaging.image import Image, Metadata, Text

logger = logging.getLogger(__name__)

Resolution = tuple[float, float]

EXIF_PREFIX = b"Exif\0\0"  # in JPEG, and sometimes elsewhere
FINEST = 400_000  # dots per inch that every format can state
ORIENTATION_IN_XMP = re.compile(rb'(tiff:Orientation(?:="|>))([1-8])')
GREY_PROFILE = b"GRAY"
# Descriptions that programs read as the layout of all planes of a file, as tifffile tells them.
LAYOUTS = {
    "its ImageJ description": re.compile(rb"(?:ImageJ|SCIFIO)="),
    "its description of shapes": re.compile(rb"\{.*\"shape\":|shape=\(", re.DOTALL),
    "its OME-XML description": re.compile(rb"(?:.*OME>\s*$)", re.DOTALL),
    "its microscope description": re.compile(
        rb"Aperio |<MetaData>|state\.|SIMPLE |\[.{1,32}\],|.*(?:</scn>|</DataObject>)\s*$"
        rb"|.*scanimage\.SI",
        re.DOTALL,
    ),
}
BROKEN_EXIF = "its EXIF, which is damaged"
LONGEST_NAMES = 80  # characters of all keywords in a message
CHUNKS = {  # of a PNG, whose loss is worth a word
    b"sBIT": "its number of significant bits",
    b"mDCV": "its mastering display",
    b"mDCv": "its mastering display",
    b"cLLI": "its light levels",
    b"cLLi": "its light levels",
}


class Incoming(NamedTuple):
    """Metadata of the upright image."""

    metadata: Metadata
    orientation: int  # still to be applied
    dropped: tuple[str, ...]  # contents that are not kept


def incoming_metadata(
    metadata: Metadata, *, orientation: int | None = None, dropped: tuple[str, ...] = ()
) -> Incoming:
    """Return the metadata of the upright image from those that a file states.

    EXIF that cannot be parsed is dropped, and named. orientation: as stated outside EXIF and XMP,
    if at all.
    """
    exif, dpi, packet = metadata.exif or b"", metadata.dpi, metadata.xmp or None
    exif = exif.removeprefix(EXIF_PREFIX)
    directory, layout = None, None
    try:
        if exif:
            directory = first_directory(exif)
            layout = _layout_in(directory.value(DESCRIPTION))
            exif = for_upright(without_description(exif) if layout else exif)
            descriptive_tags(exif)  # no format may fail on it when it is written
    except ValueError as error:
        logger.info("EXIF dropped: %s", error)
        exif, dropped = b"", (*dropped, BROKEN_EXIF)
    if directory is not None and orientation is None and ORIENTATION in directory.entries:
        orientation = read_orientation(directory)
    if directory is not None and not _is_plausible(dpi):
        dpi = read_resolution(directory)
    if orientation is None and packet and (found := ORIENTATION_IN_XMP.search(packet)):
        orientation = int(found[2])
    orientation = orientation or 1
    if dpi and orientation >= 5:
        dpi = (dpi[1], dpi[0])
    stale = list[str]()
    if packet is not None:
        packet, stale = xmp.without_stale(packet, upright=orientation == 1)
    resources = metadata.photoshop or b""
    kept = photoshop.descriptive_resources(resources, upright=orientation == 1)
    turned = "its clipping paths"
    if turned in photoshop.named(resources) and turned not in photoshop.named(kept):
        stale.append(turned)
    upright = replace(
        metadata,
        icc=metadata.icc or None,
        exif=exif or None,
        xmp=ORIENTATION_IN_XMP.sub(rb"\g<1>1", packet) if packet else None,
        dpi=dpi if _is_plausible(dpi) else None,
        photoshop=kept or None,
    )
    return Incoming(upright, orientation, (*dropped, *([layout] if layout else []), *stale))


def _layout_in(description: bytes | None) -> str | None:
    text = (description or b"").strip(b"\0")
    return next((name for name, layout in LAYOUTS.items() if layout.match(text)), None)


def _is_plausible(dpi: Resolution | None) -> bool:
    return dpi is not None and all(math.isfinite(value) and 0 < value < FINEST for value in dpi)


def comments_to_texts(comments: tuple[bytes, ...]) -> tuple[Text, ...]:
    """Return comments as texts that `comment_of` turns into the same bytes again."""
    texts = (each.decode("utf-8", "surrogateescape").rstrip("\0") for each in comments)
    return tuple(Text("Comment", text) for text in texts if text)


def comment_of(text: Text) -> bytes:
    """Return the bytes of a comment, UTF-8 unless it was read in another encoding."""
    return text.text.encode("utf-8", "surrogateescape")


def refuse_unstated_colours(image: Image, encoding: Encoding) -> None:
    """Raise OutputError if a file in this encoding cannot state colours in PQ or HLG."""
    refuse_hdr(encoding.format, hdr_of(dict(image.metadata.chunks)), name=str(image.source or ""))
    native = image.metadata.native
    if encoding.values == "own" and (native is None or native.format != encoding.format):
        raise OutputError(
            f"{image.source or 'the image'} cannot become {encoding.format.upper()}, which is "
            "written only from a source of that format",
            hint="write PNG or TIFF",
        )


def outgoing_metadata(image: Image, encoding: Encoding) -> tuple[Metadata, list[str]]:
    """Return the metadata to write with `image`, and names of those that the encoding cannot hold.

    EXIF and XMP state the size of the image. The record of another image, from which this one was
    made, is removed; the image's own record never displaces the user's XMP. Raises OutputError.
    """
    refuse_unstated_colours(image, encoding)
    metadata, native = image.metadata, image.metadata.native
    lost = list[str]()
    if native is not None and native.format != encoding.format:
        lost.append(f"its header ({native.format.upper()})")
        if metadata.light and metadata.light.peak > 1 and encoding.values == "levels":
            lost.append("values above white (1)")
    exif = metadata.exif
    if exif is not None:
        exif = with_size(exif, image.height, image.width)
        if not suits_depth(exif, min(image.bit_depth, encoding.depth)):
            exif = without_transfer_function(exif)
            lost.append("its transfer function")
    profile = metadata.icc
    if native is not None and native.format == encoding.format:
        profile = None  # the header states the colours
    elif profile is not None and profile[16:20] == GREY_PROFILE and len(image.pixels) == 3:
        lost.append("its ICC profile, which is for grey images")
        profile = None

    def fitting(name: str, value: bytes | None, limit: int | None) -> bytes | None:
        if value is None or _fits(value, limit):
            return value
        size = f" ({len(value) // 1000} of at most {limit // 1000} kB)" if limit else ""
        lost.append(f"its {name}{size}")
        return None

    written = Metadata(
        exif=fitting("EXIF", exif, encoding.largest_exif),
        xmp=fitting("XMP", _outgoing_xmp(image, encoding), encoding.largest_xmp),
        icc=fitting("ICC profile", profile, encoding.largest_icc),
        dpi=metadata.dpi,
        texts=tuple(text for text in metadata.texts if _holds(encoding, text)),
        photoshop=metadata.photoshop if encoding.photoshop else None,
        chunks=metadata.chunks if encoding.chunks else (),
        native=native,
    )
    if metadata.photoshop and not encoding.photoshop:
        lost += photoshop.named(metadata.photoshop)
    lost += _unheld_texts(metadata.texts, encoding)
    if not encoding.chunks:
        chunks = dict(metadata.chunks)
        lost += dict.fromkeys(CHUNKS[kind] for kind in chunks if kind in CHUNKS)
        if b"cICP" in chunks or written.icc is None:
            grey = encoding.grey and len(image.pixels) == 1
            try:
                written = replace(written, icc=icc.profile_of(chunks, grey=grey) or written.icc)
            except ValueError:
                lost.append("the colours that it states (cICP, gAMA, cHRM)")
    return written, lost


def _outgoing_xmp(image: Image, encoding: Encoding) -> bytes | None:
    """Return the XMP with the size of the image, and with its record if there is room for it."""
    packet = xmp.without_record(image.metadata.xmp)
    if packet is not None:
        packet = xmp.with_size(packet, image.height, image.width, encoding.format)
    if image.metadata.record is None:
        return packet
    recorded = xmp.with_record(packet, image.metadata.record)
    if recorded is not None and _fits(recorded, encoding.largest_xmp):
        return recorded
    logger.info("record dropped: no room for it in the XMP")
    return packet


def _holds(encoding: Encoding, text: Text) -> bool:
    return encoding.keywords is None or (
        text.keyword in encoding.keywords and _fits(comment_of(text), encoding.largest_text)
    )


def _unheld_texts(texts: tuple[Text, ...], encoding: Encoding) -> Iterator[str]:
    """Name the texts that the encoding cannot hold."""
    unheld = [text.keyword for text in texts if not _holds(encoding, text)]
    keywords = list(dict.fromkeys(unheld))
    if "Comment" in keywords:
        keywords.remove("Comment")
        yield "its comment"
    if keywords:
        names = "".join(char if char.isprintable() else "?" for char in ", ".join(keywords))
        more = "..." if len(names) > LONGEST_NAMES else ""
        yield f"its texts ({names[:LONGEST_NAMES]}{more})"


def _fits(value: bytes, limit: int | None) -> bool:
    return limit is None or len(value) <= limit
