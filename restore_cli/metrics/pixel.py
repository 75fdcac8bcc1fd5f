"""Metrics of pixel differences."""

from __future__ import annotations

import torch
from torch import Tensor

from restore_cli.errors import InputError


def psnr(x: Tensor, y: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Return the peak signal-to-noise ratio of each image pair in dB, inf for identical images.

    x, y: (..., C, H, W) of the same shape, values in [0, data_range], not clamped here; the result
    has the leading dimensions. One mean over channels and pixels, then the logarithm.
    Computed in the given precision, at least float32. Raises InputError.
    """
    x, y = comparable(x, y)
    mean_square = (x - y).square().mean(dim=(-3, -2, -1))
    return 10 * torch.log10(data_range**2 / mean_square)


def comparable(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return both at one precision, at least float32. Raises InputError where the shapes differ."""
    if x.shape != y.shape or x.dim() < 3:
        raise InputError(
            f"shapes {tuple(x.shape)} and {tuple(y.shape)} cannot be compared, "
            "two equal shapes (..., C, H, W) are needed"
        )
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    return x.to(dtype), y.to(dtype)
