"""Between whole levels, as files hold them, and float32 in [0, 1], as networks see them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore_cli.errors import ImageTooLarge
from restore_cli.imaging.image import Image, Metadata

Array = NDArray[Any]

MOST_PIXELS = 500_000_000  # of an image that is read: 6 GB as float32 RGB
STRIP = 1 << 18  # pixels that are turned into levels at a time


@dataclass(frozen=True)
class Decoded:
    """An image as it lies in a file."""

    levels: Array  # (H, W, C) unsigned; C = 1 (grey) or 3 (RGB), and one more for alpha
    largest: int = 255  # the level that means 1
    orientation: int = 1  # as EXIF counts it; still to be applied
    premultiplied: bool = False  # the colours, by alpha
    metadata: Metadata = field(default_factory=Metadata)
    left_out: tuple[str, ...] = ()  # what the file holds and this does not
    jpeg_quality: int | None = None  # 1 to 100, of a JPEG


def refuse_giant(height: int, width: int) -> None:
    """To be asked before memory is taken. Raises ImageTooLarge, ValueError."""
    if height < 1 or width < 1:
        raise ValueError(f"{width} x {height} pixels")
    if height * width > MOST_PIXELS:
        raise ImageTooLarge(
            f"{width} x {height} pixels, at most {MOST_PIXELS:,} are read",
            hint="cut it into parts",
        )


def to_image(stored: Decoded) -> Image:
    """Upright and in floats; beside the levels only the result takes memory."""
    height, width, channels = stored.levels.shape
    size = (width, height) if stored.orientation >= 5 else (height, width)
    values = np.empty((channels, *size), np.float32)
    np.divide(
        stored.levels.transpose(2, 0, 1),
        stored.largest,
        out=_lying_as_stored(values, stored.orientation),
        dtype=np.float32,
    )
    tensor = torch.from_numpy(values)
    colours = channels - (channels in (2, 4))
    pixels, alpha = tensor[:colours], tensor[colours:] if channels > colours else None
    if alpha is not None and stored.premultiplied:
        pixels.div_(alpha.clamp(min=1 / stored.largest)).clamp_(max=1)
    return Image(
        pixels,
        alpha,
        bit_depth=8 if stored.largest <= 255 else 16,
        metadata=stored.metadata,
        jpeg_quality=stored.jpeg_quality,
    )


def _lying_as_stored(upright: Array, orientation: int) -> Array:
    """A view of upright (C, H, W) with its pixels where the file has them, the eight EXIF ways."""
    if orientation in (2, 3, 6, 7):
        upright = upright[:, :, ::-1]
    if orientation in (3, 4, 7, 8):
        upright = upright[:, ::-1]
    return upright.swapaxes(1, 2) if orientation >= 5 else upright


def strips(image: Image, depth: int, *, on_white: bool = False) -> Iterator[Array]:
    """(h, W, C) of the nearest levels, from top to bottom; depth: 8 or 16 bit.

    on_white: without alpha, laid on white.
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
    """(H, W, C), all strips in one."""
    channels = image.pixels.shape[0] + (image.alpha is not None and not on_white)
    levels = np.empty((image.height, image.width, channels), np.uint8 if depth == 8 else np.uint16)
    top = 0
    for strip in strips(image, depth, on_white=on_white):
        levels[top : top + len(strip)] = strip
        top += len(strip)
    return levels
