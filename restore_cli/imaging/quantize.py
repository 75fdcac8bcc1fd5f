"""Conversion between integer levels, as in files, and float32 in [0, 1], as in networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.curves import Curve, LightCurve
from restore_cli.imaging.image import BandedImage, Image, Metadata

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Array = NDArray[Any]

STRIP = 1 << 18  # pixels converted to levels at a time
STORED_ROWS = 256  # moved to a storage at a time
LEVELS = {8: np.uint8, 16: np.uint16}  # by depth


@dataclass(frozen=True)
class Decoded:
    """An image as stored in a file."""

    # (H, W, C) unsigned, C = 1 (grey) or 3 (RGB), plus 1 for alpha; with metadata.native the values
    # before its curve, and alpha in [0, 1].
    levels: Array
    largest: int = 255  # level that stands for 1
    orientation: int = 1  # EXIF orientation, 1 to 8; not yet applied
    premultiplied: bool = False  # colours are multiplied by alpha
    metadata: Metadata = field(default_factory=Metadata)
    dropped: tuple[str, ...] = ()  # contents of the file that are not kept
    jpeg_quality: int | None = None  # 1 to 100; None: not a JPEG


@dataclass(frozen=True)
class Encodable:
    """An image on its way to a file: what the format of the file can hold of it."""

    image: Image  # of the size and with the channels of the bands together
    bands: Iterable[Image]  # from top to bottom, read once
    depth: int  # 8 or 16 bits per channel
    on_white: bool  # composite on white instead of writing alpha
    metadata: Metadata
    quality: int | None  # 1 to 100; None: the default of the format
    effort: int  # of the encoder, one of Encoding.efforts
    storage: Storage = MEMORY  # of all levels, where the encoder wants them at once
    # Return the XMP where it is known only after the last band, else None.
    late_xmp: Callable[[], bytes | None] | None = None
    more_frames: tuple[Array, ...] = ()  # of an animation, 8 bits
    milliseconds: tuple[float, ...] = ()  # of each frame, the first included
    plays: int = 0  # of an animation; 0: without end

    @property
    def channels(self) -> int:
        return self.image.pixels.shape[0] + (self.image.alpha is not None and not self.on_white)

    @property
    def complete_metadata(self) -> Metadata:
        """The metadata once all strips have been taken."""
        return replace(self.metadata, xmp=self.late_xmp()) if self.late_xmp else self.metadata

    def strips(self) -> Iterator[Array]:
        """Yield the levels in strips (h, W, C) of equal height, but for the last."""
        return strips(self.bands, self.depth, on_white=self.on_white)

    def values(self, curve: Curve) -> Array:
        """Return all values, (H, W, C), before the curve that made pixels of them; last alpha."""
        from restore_cli.imaging.transfer import CPU

        result: Array | None = None
        bottom = 0
        for band in self.bands:
            band = band.to(CPU)
            step = max(1, STRIP // band.width)
            for start in range(0, band.height, step):
                rows = slice(start, start + step)
                part = curve.from_unit(np.asarray(band.pixels[:, rows])).transpose(1, 2, 0)
                if band.alpha is not None:
                    alpha = np.asarray(band.alpha[:, rows]).transpose(1, 2, 0)
                    if self.on_white:
                        part = part * alpha + (1 - alpha)
                    else:
                        part = np.concatenate([part, alpha.astype(part.dtype)], axis=-1)
                if result is None:
                    shape = (self.image.height, self.image.width, self.channels)
                    result = self.storage.new(shape, part.dtype)
                top, bottom = bottom, bottom + len(part)
                result[top:bottom] = part
                self.storage.release()
        assert result is not None
        return result

    def levels(self) -> Array:
        """Return all levels, (H, W, C)."""
        shape = (self.image.height, self.image.width, self.channels)
        return joined(self.strips(), self.storage.new(shape, LEVELS[self.depth]), self.storage)


def light_of_file(source: Encodable) -> Array:
    """Return the light of an image, (H, W, C) float32; levels are taken for sRGB."""
    return source.values(source.image.metadata.light or LightCurve())


def to_image(decoded: Decoded, device: torch.device | None = None) -> Image:
    """Convert to float and apply the orientation; only the result needs memory.

    The image holds arrays. device: of the image, where it is CUDA and has room for its levels.
    """
    channels = decoded.levels.shape[2]
    colours = channels - (channels in (2, 4))
    values: Any = None
    if device is not None and device.type == "cuda" and decoded.metadata.native is None:
        values = _uploaded(decoded, device)
    if values is None:
        values = _values(decoded, colours)
    pixels, alpha = values[:colours], values[colours:] if channels > colours else None
    if alpha is not None and decoded.premultiplied:
        pixels /= alpha.clip(1 / decoded.largest, None)
        pixels = pixels.clip(None, 1)
    return Image(
        pixels,
        alpha,
        bit_depth=8 if decoded.largest <= 255 else 16,
        metadata=decoded.metadata,
        jpeg_quality=decoded.jpeg_quality,
        dropped=decoded.dropped,
    )


def _uploaded(decoded: Decoded, device: torch.device) -> Tensor | None:
    """Return the levels, (C, H, W) in [0, 1], upright, on a device; None where it has no room."""
    from restore_cli.imaging.transfer import can_upload, uploaded

    if not can_upload(decoded.levels, device):
        return None
    return uploaded(_upright(decoded.levels, decoded.orientation), decoded.largest, device)


def _values(decoded: Decoded, colours: int) -> Array:
    """Return the levels, (C, H, W) in [0, 1], upright."""
    height, width, channels = decoded.levels.shape
    size = (width, height) if decoded.orientation >= 5 else (height, width)
    values = np.empty((channels, *size), np.float32)
    stored_order = decoded.levels.transpose(2, 0, 1)
    out = _view_as_stored(values, decoded.orientation)
    native = decoded.metadata.native
    if native is None:
        np.divide(stored_order, decoded.largest, out=out, dtype=np.float32)
    else:
        out[:colours] = native.curve.to_unit(stored_order[:colours])
        out[colours:] = stored_order[colours:]
    return values


def banded_image(decoded: Decoded, storage: Storage) -> BandedImage:
    """Return an image that converts rows of the levels when they are needed."""
    levels = _upright(decoded.levels, decoded.orientation)
    upright = replace(decoded, orientation=1)
    height, width = levels.shape[:2]

    def read(top: int, bottom: int) -> Image:
        rows = to_image(replace(upright, levels=levels[top:bottom])).as_tensors()
        storage.release()
        return rows

    return read(0, 1).without_pixels(height, width).banded(read, storage.release)


def stored(levels: Array, storage: Storage) -> Array:
    """Return levels (H, W, C), or (H, W) of grey, as (H, W, C) in a storage."""
    if levels.ndim == 2:
        levels = levels[..., None]
    if storage is MEMORY:
        return levels
    result = storage.new(levels.shape, levels.dtype.newbyteorder("="))
    for top in range(0, len(levels), STORED_ROWS):
        result[top : top + STORED_ROWS] = levels[top : top + STORED_ROWS]
        storage.release()
    return result


def _upright(levels: Array, orientation: int) -> Array:
    """Return a view of levels (H, W, C) as they are to be seen."""
    if orientation >= 5:
        levels = levels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        levels = levels[::-1]
    return levels[:, ::-1] if orientation in (2, 3, 6, 7) else levels


def _view_as_stored(upright: Array, orientation: int) -> Array:
    """Return a view of `upright` (C, H, W) in the pixel order of a file with this orientation."""
    if orientation in (2, 3, 6, 7):
        upright = upright[:, :, ::-1]
    if orientation in (3, 4, 7, 8):
        upright = upright[:, ::-1]
    return upright.swapaxes(1, 2) if orientation >= 5 else upright


def strips(bands: Iterable[Image], depth: int, *, on_white: bool = False) -> Iterator[Array]:
    """Yield the nearest levels of `depth` (8 or 16) bits in strips (h, W, C), top to bottom.

    All strips but the last have the same height, wherever one band ends and the next begins.
    on_white: composite on white, without alpha.
    """
    parts: list[Array] = []  # of the next strip
    missing = 0
    for band in bands:
        step = max(1, STRIP // band.width)
        on_cpu = isinstance(band.pixels, np.ndarray) or band.device.type == "cpu"
        whole = None if on_cpu else _levels(band, slice(None), depth, on_white)
        top = 0
        while top < band.height:
            missing = missing or step
            rows = slice(top, top + missing)
            part = _levels(band, rows, depth, on_white) if whole is None else whole[rows]
            parts.append(part)
            top += len(parts[-1])
            missing -= len(parts[-1])
            if not missing:
                yield _stacked(parts)
                parts = []
    if parts:
        yield _stacked(parts)


def _levels(image: Image, rows: slice, depth: int, on_white: bool) -> Array:
    if isinstance(image.pixels, np.ndarray):
        return _levels_of_arrays(image, rows, depth, on_white)
    import torch

    from restore_cli.imaging.transfer import beside, downloaded

    with beside(image.device, "download"):
        values = image.pixels[:, rows]
        if image.alpha is not None:
            alpha = image.alpha[:, rows]
            values = values * alpha + (1 - alpha) if on_white else torch.cat([values, alpha])
        levels = values.clamp(0, 1).mul_(2**depth - 1).round_().permute(1, 2, 0)
        return downloaded(levels, depth)


def _levels_of_arrays(image: Image, rows: slice, depth: int, on_white: bool) -> Array:
    values = np.asarray(image.pixels[:, rows])
    if image.alpha is not None:
        alpha = np.asarray(image.alpha[:, rows])
        values = values * alpha + (1 - alpha) if on_white else np.concatenate([values, alpha])
    levels = np.clip(values, 0, 1)
    levels *= 2**depth - 1
    np.rint(levels, out=levels)
    return np.ascontiguousarray(levels.transpose(1, 2, 0), LEVELS[depth])


def _stacked(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def joined(strips: Iterable[Array], levels: Array, storage: Storage = MEMORY) -> Array:
    """Fill `levels` (H, W, C), of a storage, with strips from top to bottom and return it."""
    top = 0
    for strip in strips:
        levels[top : top + len(strip)] = strip
        top += len(strip)
        storage.release()
    return levels


def quantize(image: Image, depth: int, *, on_white: bool = False) -> Array:
    """Return the levels of `strips` in one array (H, W, C)."""
    channels = image.pixels.shape[0] + (image.alpha is not None and not on_white)
    levels = np.empty((image.height, image.width, channels), LEVELS[depth])
    return joined(strips((image,), depth, on_white=on_white), levels)
