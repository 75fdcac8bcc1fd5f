"""Pictures as files hold them: integers (H, W, C), alpha last; to and from planes of floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from restore_cli.imaging.image import Image, Metadata

Samples = npt.NDArray[np.unsignedinteger[Any]]
"""(H, W, C) uint8 or uint16; C is 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha."""


def upright(samples: Samples, orientation: int) -> Samples:
    """A view of `samples` turned as EXIF `orientation` (1 to 8) asks for viewing."""
    if orientation in (5, 6, 7, 8):  # rows of the file are columns of the picture
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


def to_image(samples: Samples, metadata: Metadata) -> Image:
    """The picture that `samples` are, as float32 planes in [0, 1]."""
    height, width, channels = samples.shape
    planes = np.empty((channels, height, width), np.float32)
    maximum = np.iinfo(samples.dtype).max
    np.divide(samples.transpose(2, 0, 1), maximum, out=planes, dtype=np.float32)
    tensor = torch.from_numpy(planes)
    colours = 3 if channels > 2 else 1
    return Image(
        pixels=tensor[:colours],
        alpha=tensor[colours:] if channels > colours else None,
        bit_depth=samples.dtype.itemsize * 8,
        metadata=metadata,
    )


def to_samples(image: Image, bit_depth: int) -> Samples:
    """The picture rounded to integers of `bit_depth` bits; values outside [0, 1] are clipped."""
    dtype = np.uint16 if bit_depth == 16 else np.uint8
    maximum = np.iinfo(dtype).max
    planes = [*image.pixels, *(image.alpha if image.alpha is not None else ())]
    samples = np.empty((image.height, image.width, len(planes)), dtype)
    for channel, plane in enumerate(planes):  # one plane at a time: little memory
        scaled = plane.detach().clamp(0, 1).mul_(maximum).add_(0.5)
        samples[:, :, channel] = scaled.cpu().numpy()  # the cast rounds down
    return samples


def flattened(image: Image) -> Image:
    """The picture laid over white, for formats that hold no transparency."""
    if image.alpha is None:
        return image
    pixels = image.pixels * image.alpha + (1 - image.alpha)
    return Image(pixels, None, image.bit_depth, image.metadata)
