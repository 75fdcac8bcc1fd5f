"""Luma and chroma as in super-resolution papers, and rounding to 8-bit levels.

ITU-R BT.601, studio range, with the constants of MATLAB's rgb2ycbcr: for RGB in [0, 1] luma is in
[16, 235] / 255 and chroma in [16, 240] / 255. The full-range YCbCr of JPEG differs: PSNR of its
luma is 1.32 dB lower.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from restore_cli.imaging.ycbcr import OFFSET, RGB_TO_YCBCR

Matrix = tuple[tuple[float, ...], ...]


# JPEG (JFIF), for networks trained on it; rows and columns as above, values in [0, 1].
FULL_RANGE = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)
FULL_RANGE_OFFSET = (0.0, 128 / 255, 128 / 255)


def rgb_to_ycbcr(rgb: Tensor) -> Tensor:
    """Convert RGB (..., 3, H, W) in [0, 1] to YCbCr (..., 3, H, W), levels / 255, not rounded.

    Grey (..., 1, H, W) counts as three equal channels.
    """
    return torch.cat(
        [(mix(rgb, row) + offset) / 255 for row, offset in zip(RGB_TO_YCBCR, OFFSET, strict=True)],
        dim=-3,
    )


def ycbcr_to_rgb(ycbcr: Tensor) -> Tensor:
    """Invert `rgb_to_ycbcr`, (..., 3, H, W), not clamped."""
    return _mixed(255 * ycbcr, OFFSET, _inverse(RGB_TO_YCBCR))


def rgb_to_full_range(rgb: Tensor) -> Tensor:
    """Convert RGB to JPEG's YCbCr, (..., 3, H, W) in [0, 1]; grey counts as three channels."""
    return torch.cat(
        [mix(rgb, row) + offset for row, offset in zip(FULL_RANGE, FULL_RANGE_OFFSET, strict=True)],
        dim=-3,
    )


def full_range_to_rgb(ycbcr: Tensor) -> Tensor:
    """Invert `rgb_to_full_range`, (..., 3, H, W), not clamped."""
    return _mixed(ycbcr, FULL_RANGE_OFFSET, _inverse(FULL_RANGE))


def luma(rgb: Tensor) -> Tensor:
    """Return Y of `rgb_to_ycbcr` alone: (..., 3 or 1, H, W) -> (..., 1, H, W)."""
    return (mix(rgb, RGB_TO_YCBCR[0]) + OFFSET[0]) / 255


def luma_to_grey(y: Tensor) -> Tensor:
    """Return the grey level of luma `y`: 16 / 255 -> 0, 235 / 255 -> 1; not clamped."""
    return (y * 255 - OFFSET[0]) / sum(RGB_TO_YCBCR[0])


def quantize(x: Tensor) -> Tensor:
    """Clamp `x` to [0, 1] and round to the nearest level k / 255, half upwards."""
    return x.clamp(0, 1).mul_(255).add_(0.5).floor_().div_(255)


@cache
def _inverse(matrix: Matrix) -> Matrix:
    rows: list[list[float]] = torch.tensor(matrix, dtype=torch.float64).inverse().tolist()
    return tuple(map(tuple, rows))


def mix(pixels: Tensor, weights: Sequence[float]) -> Tensor:
    """Return the weighted sum of three channels, or of grey as three, (..., 1, H, W).

    A matmul might use TF32, and weights in a tensor would be copied to the device.
    """
    wide = pixels.expand(*pixels.shape[:-3], 3, -1, -1)
    first, second, third = (wide.narrow(-3, channel, 1) for channel in range(3))
    return (first * weights[0]).add_(second, alpha=weights[1]).add_(third, alpha=weights[2])


def _mixed(planes: Tensor, offsets: Sequence[float], rows: Sequence[Sequence[float]]) -> Tensor:
    """Return the weighted sums of planes from which offsets were subtracted."""
    levels = torch.cat(
        [planes.narrow(-3, channel, 1) - offset for channel, offset in enumerate(offsets)], dim=-3
    )
    return torch.cat([mix(levels, row) for row in rows], dim=-3)
