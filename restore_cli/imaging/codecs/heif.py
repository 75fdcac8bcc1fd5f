"""HEIC through pillow-heif (extra `heif`), with up to 16 bits."""

from __future__ import annotations

import io

import numpy as np

from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.codecs.avif import dropped_items
from restore_cli.imaging.codecs.boxes import hdr_of, properties
from restore_cli.imaging.codecs.metadata import incoming_metadata
from restore_cli.imaging.headers import refuse_giant
from restore_cli.imaging.image import Metadata
from restore_cli.imaging.quantize import Decoded, stored


def decode(data: bytes, storage: Storage = MEMORY) -> Decoded:
    """Decode the primary image. Raises ImageTooLarge, ValueError, and what pillow-heif raises."""
    import pillow_heif

    data = data[:]  # a mapped file becomes bytes
    stated = properties(data)
    if stated is None:
        raise ValueError("it states no size")
    refuse_giant(stated.height, stated.width)
    opened = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    refuse_giant(opened.size[1], opened.size[0])
    info = opened.info
    icc = info.get("icc_profile")
    chunks = stated.colours if icc is None or hdr_of(dict(stated.colours)) else ()
    metadata, _, stale = incoming_metadata(
        Metadata(icc=icc, exif=info.get("exif"), xmp=info.get("xmp"), chunks=chunks),
        orientation=1,  # libheif has applied rotation and mirroring, which alone count
    )
    levels = np.array(opened)  # a copy: up to pillow-heif 1.4 the array outlives its memory
    depth = info["bit_depth"]
    return Decoded(
        stored(levels, storage),
        255 if depth <= 8 else (2**depth - 1) << (16 - depth),
        metadata=metadata,
        premultiplied=bool(getattr(opened, "premultiplied_alpha", False)),
        dropped=(
            *(["the other images"] if len(opened) > 1 else []),
            *dropped_items(data),
            *stale,
        ),
    )
