"""Conversion between integer levels, as in files, and float32 in [0, 1], as in networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore_cli.imaging.image import Image, Metadata

Array = NDArray[Any]

STRIP = 1 << 18  # pixels converted to levels at a time


@dataclass(frozen=True)
class Decoded:
    """An image as stored in a file."""

    levels: Array  # (H, W, C) unsigned; C = 1 (grey) or 3 (RGB), plus 1 for alpha
    largest: int = 255  # level that stands for 1
    orientation: int = 1  # EXIF orientation, 1 to 8; not yet applied
    premultiplied: bool = False  # colours are multiplied by alpha
    metadata: Metadata = field(default_factory=Metadata)
    dropped: tuple[str, ...] = ()  # contents of the file that are not kept
    jpeg_quality: int | None = None  # 1 to 100; None: not a JPEG


@dataclass(frozen=True)
class Encodable:
    """An image on its way to a file: what the format of the file can hold of it."""

    image: Image
    depth: int  # 8 or 16 bits per channel
    on_white: bool  # composite on white instead of writing alpha
    metadata: Metadata
    quality: int | None  # 1 to 100; None: the default of the format

    def strips(self) -> Iterator[Array]:
        """Yield the levels in strips (h, W, C) from top to bottom."""
        return strips(self.image, self.depth, on_white=self.on_white)

    def levels(self) -> Array:
        """Return all levels, (H, W, C)."""
        return quantize(self.image, self.depth, on_white=self.on_white)


def to_image(decoded: Decoded) -> Image:
    """Convert to float and apply the orientation; only the result needs memory."""
    height, width, channels = decoded.levels.shape
    size = (width, height) if decoded.orientation >= 5 else (height, width)
    values = np.empty((channels, *size), np.float32)
    np.divide(
        decoded.levels.transpose(2, 0, 1),
        decoded.largest,
        out=_view_as_stored(values, decoded.orientation),
        dtype=np.float32,
    )
    tensor = torch.from_numpy(values)
    colours = channels - (channels in (2, 4))
    pixels, alpha = tensor[:colours], tensor[colours:] if channels > colours else None
    if alpha is not None and decoded.premultiplied:
        pixels.div_(alpha.clamp(min=1 / decoded.largest)).clamp_(max=1)
    return Image(
        pixels,
        alpha,
        bit_depth=8 if decoded.largest <= 255 else 16,
        metadata=decoded.metadata,
        jpeg_quality=decoded.jpeg_quality,
        dropped=decoded.dropped,
    )


def _view_as_stored(upright: Array, orientation: int) -> Array:
    """Return a view of `upright` (C, H, W) in the pixel order of a file with this orientation."""
    if orientation in (2, 3, 6, 7):
        upright = upright[:, :, ::-1]
    if orientation in (3, 4, 7, 8):
        upright = upright[:, ::-1]
    return upright.swapaxes(1, 2) if orientation >= 5 else upright


def strips(image: Image, depth: int, *, on_white: bool = False) -> Iterator[Array]:
    """Yield the nearest levels of `depth` (8 or 16) bits in strips (h, W, C), top to bottom.

    on_white: composite on white, without alpha.
    """
    step = max(1, STRIP // image.width)
    for top in range(0, image.height, step):
        values = image.pixels[:, top : top + step]
        if image.alpha is not None:
            alpha = image.alpha[:, top : top + step]
            values = values * alpha + (1 - alpha) if on_white else torch.cat([values, alpha])
        levels = values.clamp(0, 1).mul_(2**depth - 1).round_().permute(1, 2, 0)
        yield np.ascontiguousarray(levels.numpy(), np.uint8 if depth == 8 else np.uint16)


def quantize(image: Image, depth: int, *, on_white: bool = False) -> Array:
    """Return the levels of `strips` in one array (H, W, C)."""
    channels = image.pixels.shape[0] + (image.alpha is not None and not on_white)
    levels = np.empty((image.height, image.width, channels), np.uint8 if depth == 8 else np.uint16)
    top = 0
    for strip in strips(image, depth, on_white=on_white):
        levels[top : top + len(strip)] = strip
        top += len(strip)
    return levels
