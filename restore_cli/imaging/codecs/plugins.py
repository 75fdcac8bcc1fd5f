"""Textures and older formats of 8 bits, by the Pillow plugin of imageio."""

from __future__ import annotations

import imageio.v3 as iio
import numpy as np

from restore_cli.errors import UnreadableImage
from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.codecs.pillow import pillow_limits
from restore_cli.imaging.headers import refuse_giant
from restore_cli.imaging.quantize import Decoded, stored

SGI_16 = b"\x01\xda\0\x02", b"\x01\xda\x01\x02"  # 16 bits, which Pillow reduces to 8


def decode(data: bytes, storage: Storage = MEMORY) -> Decoded:
    """Decode the first image. Raises UnreadableImage, ImageTooLarge, and what imageio raises."""
    data = data[:]  # a mapped file becomes bytes
    with pillow_limits(), iio.imopen(data, "r", plugin="pillow") as file:
        stated = file.properties(index=0)
        refuse_giant(*stated.shape[:2])
        if stated.dtype not in (np.uint8, np.bool_):
            raise UnreadableImage(
                f"unsupported pixel type {stated.dtype}", hint="export it as PNG or TIFF"
            )
        levels = file.read(index=0)
    if levels.dtype == np.bool_:
        levels = levels.astype(np.uint8) * 255
    return Decoded(
        stored(levels, storage),
        dropped=("its bits beyond 8",) if data.startswith(SGI_16) else (),
    )
