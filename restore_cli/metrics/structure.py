"""SSIM and multi-scale SSIM as their authors' MATLAB code computes them.

Gaussian window 11x11 of sigma 1.5, population moments, only windows that lie inside the image,
each channel by itself. Checked against scikit-image (SSIM) and, where it is exact (sides that are
multiples of 16), pytorch-msssim.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from restore_cli.errors import ImageTooSmall
from restore_cli.metrics.pixel import comparable

WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, sec. 3.2
MS_SSIM_SIDE = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1) + 1  # 161: the last scale has 11 px
STRIP = 64  # rows that are filtered at once: the intermediate maps stay in the cache


def ssim(x: Tensor, y: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Structural similarity of each image pair, mean over channels, 1 = identical.

    x, y: (..., C, H, W) of the same shape, values in [0, data_range], sides >= 11; the result has
    the leading dimensions. Wang et al. 2004. Computed in the given precision, at least float32.
    Raises ImageTooSmall.
    """
    x, y = comparable(x, y)
    _refuse_small(x, WINDOW, "SSIM")
    similarity, _ = _window_means(x, y, data_range)
    return similarity.mean(-1)


def ms_ssim(x: Tensor, y: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Multi-scale SSIM of each image pair, mean over channels, 1 = identical.

    x, y: (..., C, H, W) of the same shape, values in [0, data_range], sides > 160; the result has
    the leading dimensions. Wang, Simoncelli, Bovik 2003, eq. 7, five scales; the pyramid mirrors an
    odd last row or column. Negative terms count as 0. Raises ImageTooSmall.
    """
    x, y = comparable(x, y)
    _refuse_small(x, MS_SSIM_SIDE, "MS-SSIM")
    terms = []
    for _ in SCALE_WEIGHTS[1:]:
        _, contrast = _window_means(x, y, data_range)
        terms.append(contrast)
        x, y = _halve(x), _halve(y)
    similarity, _ = _window_means(x, y, data_range)  # luminance counts at the last scale only
    terms.append(similarity)
    exponents = x.new_tensor(SCALE_WEIGHTS)
    return (torch.stack(terms, -1).clamp(min=0) ** exponents).prod(-1).mean(-1)


def _refuse_small(x: Tensor, side: int, metric: str) -> None:
    height, width = x.shape[-2:]
    if min(height, width) < side:
        raise ImageTooSmall(
            f"{metric} needs both sides to be at least {side} px, this image is {width}x{height}"
        )


def _window_means(x: Tensor, y: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """Means over all windows of SSIM and of its contrast-structure factor, each (..., C)."""
    rows = x.shape[-2] - (WINDOW - 1)
    total = x.new_zeros(2, *x.shape[:-2])
    for top in range(0, rows, STRIP):
        strip = slice(top, min(top + STRIP, rows) + WINDOW - 1)
        total = total + _strip_sums(x[..., strip, :], y[..., strip, :], data_range)
    similarity, contrast = total / (rows * (x.shape[-1] - (WINDOW - 1)))
    return similarity, contrast


def _strip_sums(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """Sums of SSIM and of its contrast-structure factor over all windows, (2, ..., C)."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    # The variances are needed only as their sum, so four maps are filtered instead of five.
    mean_x, mean_y, squares, products = _blur(torch.stack([x, y, x * x + y * y, x * y]))
    mean_product = mean_x * mean_y
    mean_squares = mean_x * mean_x + mean_y * mean_y
    contrast = (2 * (products - mean_product) + c2) / (squares - mean_squares + c2)
    luminance = (2 * mean_product + c1) / (mean_squares + c1)
    return torch.stack([luminance * contrast, contrast]).sum(dim=(-2, -1))


def _blur(maps: Tensor) -> Tensor:
    """Each map (..., H, W) with the Gaussian window, valid part (..., H - 10, W - 10)."""
    offsets = torch.arange(WINDOW, dtype=maps.dtype, device=maps.device) - WINDOW // 2
    window = torch.exp(-offsets.square() / (2 * SIGMA**2))
    window = window / window.sum()
    for axis in (-2, -1):
        length = maps.shape[axis] - (WINDOW - 1)
        # Eleven shifted sums: in float64 on the CPU several times faster than conv2d.
        maps = sum(
            (maps.narrow(axis, shift, length) * window[shift] for shift in range(1, WINDOW)),
            start=maps.narrow(axis, 0, length) * window[0],
        )
    return maps


def _halve(x: Tensor) -> Tensor:
    """2x2 means, every second one; an odd last row or column is mirrored first."""
    height, width = x.shape[-2:]
    planes = F.pad(x.flatten(0, -3)[None], (0, width % 2, 0, height % 2), mode="replicate")
    return F.avg_pool2d(planes, 2)[0].unflatten(0, x.shape[:-2])
