"""AVIF through Pillow, and imagecodecs for pixels of more than 8 bits."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from PIL import Image as Pillow

from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.codecs.boxes import beside, hdr_of, inside, properties
from restore_cli.imaging.codecs.exif import with_resolution
from restore_cli.imaging.codecs.metadata import incoming_metadata
from restore_cli.imaging.codecs.pillow import pillow_image, pillow_limits
from restore_cli.imaging.headers import refuse_giant
from restore_cli.imaging.image import Metadata
from restore_cli.imaging.quantize import Decoded, Encodable, stored

QUALITY = 90
SPEED = 6  # of 0 to 10


def decode(data: bytes, storage: Storage = MEMORY) -> Decoded:
    """Decode the first frame. Raises ImageTooLarge, ValueError, and what the libraries raise."""
    data = data[:]  # a mapped file becomes bytes
    stated = properties(data)
    if stated is None:
        raise ValueError("it states no size")
    refuse_giant(stated.height, stated.width)
    with pillow_limits(), Pillow.open(io.BytesIO(data), formats=["AVIF"]) as opened:
        info, depth, frames = opened.info, 8, getattr(opened, "n_frames", 1)
        if stated.depth == 8 or frames > 1:  # sequences are not for imagecodecs
            levels = np.asarray(opened)
        else:
            depth, levels = stated.depth, imagecodecs.avif_decode(data, numthreads=1)
    icc = info.get("icc_profile")
    chunks = stated.colours if icc is None or hdr_of(dict(stated.colours)) else ()
    metadata, orientation, stale = incoming_metadata(
        # Pillow states the rotation and mirroring of the file as the orientation of its EXIF.
        Metadata(icc=icc, exif=info.get("exif"), xmp=info.get("xmp"), chunks=chunks)
    )
    dropped = ["the other frames"] if frames > 1 else []
    dropped += ["its bits beyond 8"] if depth < stated.depth else []
    return Decoded(
        stored(levels, storage),
        2**depth - 1,
        orientation,
        metadata=metadata,
        dropped=(*dropped, *dropped_items(data), *stale),
    )


def dropped_items(data: bytes) -> list[str]:
    """Name what a HEIF file holds beside its main image."""
    kinds = b"".join(inside(data, b"meta", b"iprp", b"ipco", b"auxC"))
    items = b"".join(inside(data, b"meta", b"iinf"))
    names = {
        "its gain map": b"gainmap" in kinds or b"tmap" in items,
        "its depth map": b":depth" in kinds or b"auxid:2\0" in kinds,
    }
    return [*(name for name, is_present in names.items() if is_present), *beside(data)]


def encode(source: Encodable, file: BinaryIO) -> None:
    """Encode an AVIF of quality 90 by default, with full chroma."""
    image, metadata, options = pillow_image(source), source.complete_metadata, dict[str, Any]()
    exif = metadata.exif
    if metadata.dpi:
        exif = with_resolution(exif, metadata.dpi)  # there is no other place for it
    if exif:
        options["exif"] = exif
    if metadata.xmp:
        options["xmp"] = metadata.xmp
    image.save(
        file,
        "AVIF",
        quality=source.quality or QUALITY,
        subsampling="4:0:0" if len(source.image.pixels) == 1 else "4:4:4",
        speed=SPEED,
        icc_profile=metadata.icc,
        **options,
    )
