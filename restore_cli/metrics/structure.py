"""SSIM and multi-scale SSIM, equal to the MATLAB code of their authors.

Gaussian window 11x11 of sigma 1.5, population moments, only windows inside the image, each channel
separately. Checked against scikit-image (SSIM) and, where it is exact (sides that are
multiples of 16), pytorch-msssim.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from restore_cli.errors import ImageTooSmall
from restore_cli.metrics.pixel import comparable

WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, sec. 3.2
MS_SSIM_SIDE = ((WINDOW - 1) << (len(SCALE_WEIGHTS) - 1)) + 1  # 161: the last scale has 11 px
STRIP = 16  # rows of windows computed at once, so that their maps fit into the cache


def ssim(x: Tensor, y: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Return the structural similarity of each image pair, mean over channels, 1 = identical.

    x, y: (..., C, H, W) of the same shape, values in [0, data_range], sides >= 11; the result has
    the leading dimensions. Wang et al. 2004. Computed in the given precision, at least float32.
    Raises ImageTooSmall.
    """
    x, y = comparable(x, y)
    _refuse_small(x, WINDOW, "SSIM")
    similarity, _ = _window_means(x, y, data_range)
    return similarity.mean(-1)


def ms_ssim(x: Tensor, y: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Return the multi-scale SSIM of each image pair, mean over channels, 1 = identical.

    x, y: (..., C, H, W) of the same shape, values in [0, data_range], sides > 160; the result has
    the leading dimensions. Wang, Simoncelli, Bovik 2003, eq. 7, five scales; the pyramid mirrors an
    odd last row or column. Negative terms count as 0. Raises ImageTooSmall.
    """
    return ssim_and_ms_ssim(x, y, data_range=data_range)[1]


def ssim_and_ms_ssim(x: Tensor, y: Tensor, *, data_range: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return (ssim, ms_ssim) in the time of the second, whose first scale gives the first."""
    x, y = comparable(x, y)
    _refuse_small(x, MS_SSIM_SIDE, "MS-SSIM")
    single, terms = _scale_terms(x, y, len(SCALE_WEIGHTS), data_range)
    return single.mean(-1), _weighted(terms, SCALE_WEIGHTS, least=0.0)


def multi_scale(
    x: Tensor, y: Tensor, weights: Sequence[float], *, data_range: float = 1.0, least: float = 0.0
) -> Tensor:
    """Return `ms_ssim` over len(weights) scales, for training crops too small for all five.

    least: lower bound of the terms; above 0 the gradient stays finite. Raises ImageTooSmall.
    """
    x, y = comparable(x, y)
    _refuse_small(x, smallest_side(len(weights)), f"MS-SSIM over {len(weights)} scales")
    return _weighted(_scale_terms(x, y, len(weights), data_range)[1], weights, least)


def fitting_scales(height: int, width: int) -> tuple[float, ...]:
    """Return the weights, sum 1, of as many scales as fit into an image, at least one."""
    count = len(SCALE_WEIGHTS)
    while count > 1 and smallest_side(count) > min(height, width):
        count -= 1
    kept = SCALE_WEIGHTS[:count]
    return tuple(weight / sum(kept) for weight in kept)


def smallest_side(scales: int) -> int:
    """Return the side, in pixels, at which a window fits into the last of so many scales."""
    return ((WINDOW - 1) << (scales - 1)) + 1


def _scale_terms(x: Tensor, y: Tensor, scales: int, data_range: float) -> tuple[Tensor, Tensor]:
    """Return SSIM of the first scale, (..., C), and the factors of MS-SSIM, (..., C, scales)."""
    similarity, contrast = _window_means(x, y, data_range)
    single, terms = similarity, [contrast]
    for _ in range(scales - 1):
        x, y = _halve(x), _halve(y)
        similarity, contrast = _window_means(x, y, data_range)
        terms.append(contrast)
    terms[-1] = similarity  # includes luminance at the last scale only
    return single, torch.stack(terms, -1)


def _weighted(terms: Tensor, weights: Sequence[float], least: float) -> Tensor:
    return (terms.clamp(min=least) ** terms.new_tensor(weights)).prod(-1).mean(-1)


def _refuse_small(x: Tensor, side: int, metric: str) -> None:
    height, width = x.shape[-2:]
    if min(height, width) < side:
        raise ImageTooSmall(
            f"{metric} needs both sides to be at least {side} px, this image is {width}x{height}"
        )


def _window_means(x: Tensor, y: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """Return means over all windows of SSIM and its contrast-structure factor, each (..., C)."""
    rows, columns = x.shape[-2] - WINDOW + 1, x.shape[-1] - WINDOW + 1
    sums = []
    for top in range(0, rows, STRIP):
        strip = slice(top, min(top + STRIP, rows) + WINDOW - 1)
        sums.append(_window_sums(x[..., strip, :], y[..., strip, :], data_range))
    similarity, contrast = torch.stack(sums).sum(0) / (rows * columns)
    return similarity, contrast


def _window_sums(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """Return sums over all windows of SSIM and its contrast-structure factor, (2, ..., C)."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    # Only the sum of the variances is needed, so four maps are filtered instead of five.
    mean_x, mean_y, squares, products = _blur(torch.stack([x, y, x * x + y * y, x * y]))
    mean_products = mean_x * mean_y
    mean_squares = mean_x * mean_x + mean_y * mean_y
    contrast = (2 * (products - mean_products) + c2) / (squares - mean_squares + c2)
    luminance = (2 * mean_products + c1) / (mean_squares + c1)
    return torch.stack([luminance * contrast, contrast]).sum(dim=(-2, -1))


def _blur(maps: Tensor) -> Tensor:
    """Filter each map (..., H, W) by the Gaussian window, valid part (..., H - 10, W - 10)."""
    bell = [math.exp(-((k - WINDOW // 2) ** 2) / (2 * SIGMA**2)) for k in range(WINDOW)]
    window = [weight / sum(bell) for weight in bell]
    for axis in (-2, -1):
        length = maps.shape[axis] - WINDOW + 1
        # Shifted sums are about twice as fast as conv2d in float64 on the CPU.
        blurred = maps.narrow(axis, 0, length) * window[0]
        for shift in range(1, WINDOW):
            blurred.add_(maps.narrow(axis, shift, length), alpha=window[shift])
        maps = blurred
    return maps


def _halve(x: Tensor) -> Tensor:
    """Downsample by 2x2 means; an odd last row or column is mirrored first."""
    height, width = x.shape[-2:]
    planes = F.pad(x.flatten(0, -3)[None], (0, width % 2, 0, height % 2), mode="replicate")
    halved = F.avg_pool2d(planes, 2)
    return halved.reshape(*x.shape[:-2], *halved.shape[-2:])
