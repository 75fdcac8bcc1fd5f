"""Conversion between `Image` and the kinds that Python programs hold: PIL images, arrays, tensors.

Integers are scaled by their type: uint8 by 255, uint16 by 65535. Other integers are refused, and
so are floats outside [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor

from restore_cli.errors import UnreadableImage, UsageError
from restore_cli.imaging.image import Image
from restore_cli.imaging.quantize import quantize

Array = NDArray[Any]
Kind = TypeVar("Kind", Image, Tensor, Array, Pillow.Image)

ROUNDING = 1e-3  # distance from [0, 1] that rounding explains; float16 has steps of it near 1
LARGEST: Mapping[str, int] = MappingProxyType({"uint8": 255, "uint16": 65535})
ARRAY_CHANNELS = (1, 3, 4)  # grey, RGB, RGB with alpha
PILLOW_MODES = ("L", "LA", "RGB", "RGBA", "I;16")


def to_image(image: Kind) -> tuple[Image, Callable[[Image], Kind]]:
    """Return `image` as an Image, and the function that converts an Image back to its kind.

    Tensors are (C, H, W) with C 1 or 3; arrays (H, W) or (H, W, C) with C 1, 3 or 4.
    Raises UsageError.
    """
    if isinstance(image, Image):
        return image, lambda result: result
    if isinstance(image, Tensor):
        return _from_tensor(image), lambda result: _to_tensor(result, image)
    if isinstance(image, np.ndarray):
        return _from_array(image), lambda result: _to_array(result, image)
    if isinstance(image, Pillow.Image):
        return _from_pillow(image), lambda result: _to_pillow(result, image)
    raise UsageError(
        f"not an image: {type(image).__name__}",
        hint="a path, a PIL image, a NumPy array (H, W, C) or a tensor (C, H, W)",
    )


def _from_tensor(tensor: Tensor) -> Image:
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_meta:
        raise UsageError("image is a sparse, nested or meta tensor, wanted a dense one with values")
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3) or not tensor.numel():
        raise UsageError(
            f"image has shape {tuple(tensor.shape)}, wanted (1 or 3, H, W)",
            hint="channels come first in a tensor and last in a NumPy array; "
            "Image(pixels, alpha) holds alpha",
        )
    return Image(_unit(tensor.detach().cpu(), str(tensor.dtype).removeprefix("torch.")))


def _to_tensor(result: Image, like: Tensor) -> Tensor:
    pixels = result.pixels
    largest = LARGEST.get(str(like.dtype).removeprefix("torch."))
    if largest is not None:
        pixels = pixels.mul(largest).round_().to(torch.int32)  # uint16 has few operations
    return pixels.to(like.device, like.dtype, copy=True)  # no longer an inference tensor


def _from_array(array: Array) -> Image:
    plain = np.asarray(array)  # of a subclass, such as np.matrix
    levels = plain[..., None] if plain.ndim == 2 else plain
    if levels.ndim != 3 or levels.shape[2] not in ARRAY_CHANNELS or not levels.size:
        raise UsageError(
            f"image has shape {array.shape}, wanted (H, W) or (H, W, C) with C 1, 3 or 4",
            hint="channels come last in a NumPy array and first in a tensor",
        )
    name = array.dtype.name
    if name not in LARGEST and array.dtype.kind != "f":
        raise _wrong_type(name)
    # A copy in a type that torch computes with, in the byte order of the machine.
    dtype = np.int32 if name in LARGEST else np.float32
    values = _unit(torch.from_numpy(np.array(levels.transpose(2, 0, 1), dtype, order="C")), name)
    alpha = values[3:] if len(values) == 4 else None
    return Image(values[:3], alpha, bit_depth=16 if name == "uint16" else 8)


def _to_array(result: Image, like: Array) -> Array:
    if like.dtype.kind == "u":
        array = quantize(result, 8 * like.dtype.itemsize)
    else:
        parts = [result.pixels] if result.alpha is None else [result.pixels, result.alpha]
        array = torch.cat(parts).permute(1, 2, 0).contiguous().numpy()
    return array.reshape(array.shape[: like.ndim]).astype(like.dtype, copy=False)


def _from_pillow(image: Pillow.Image) -> Image:
    if image.mode not in PILLOW_MODES or "transparency" in image.info:
        key = " and a transparent colour" if "transparency" in image.info else ""
        raise UsageError(
            f"PIL image has mode {image.mode}{key}, wanted one of {', '.join(PILLOW_MODES)}",
            hint=f'convert it: image.convert("{_similar_mode(image)}")'
            if image.mode != "F"
            else "pass its array, divided by its largest possible value",
        )
    try:
        array = np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:  # a file that is only read now
        raise UnreadableImage(f"PIL image cannot be read: {error}") from error
    if image.mode != "LA":
        return _from_array(array)
    grey, alpha = _from_array(array[..., :1]), _from_array(array[..., 1:])
    return Image(grey.pixels, alpha.pixels)


def _similar_mode(image: Pillow.Image) -> str:
    """Return the mode of PILLOW_MODES that keeps most of an image."""
    if image.mode.startswith("I"):
        return "I;16"
    return "RGBA" if image.has_transparency_data else "RGB"


def _to_pillow(result: Image, like: Pillow.Image) -> Pillow.Image:
    levels = quantize(result, 16 if like.mode == "I;16" else 8)
    image = Pillow.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)
    image.info = dict(like.info)  # ICC profile, EXIF, resolution
    return image


def _unit(values: Tensor, type_name: str) -> Tensor:
    """Return the values of an image of that type as float32 in [0, 1]. Raises UsageError."""
    if type_name in LARGEST:
        return values.float() / LARGEST[type_name]
    if not values.is_floating_point() or values.element_size() == 1:
        raise _wrong_type(type_name)
    if not values.isfinite().all():
        raise UsageError("image has NaN or infinite values, wanted 0 to 1")
    low, high = (bound.item() for bound in values.aminmax())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise UsageError(
            f"image has values from {low:g} to {high:g}, wanted 0 to 1",
            hint="divide it by its largest possible value, or pass uint8 or uint16",
        )
    return values.float().clamp(0, 1)


def _wrong_type(name: str) -> UsageError:
    return UsageError(
        f"image has type {name}, wanted uint8, uint16 or floats in [0, 1]",
        hint="convert it to the type that its values are scaled for",
    )
