"""NIQE: distance of the statistics of an image from those of undistorted photographs.

Mittal, Soundararajan, Bovik, "Making a 'Completely Blind' Image Quality Analyzer", IEEE Signal
Processing Letters 2013. Blocks of 96 x 96 pixels without overlap, as in the MATLAB code of the
authors. `niqe.safetensors` has their mean and covariance of 36 features of photographs, as BasicSR
1.4.2 (Apache-2.0) distributes them.

Own code, since no package on PyPI computes it with today's NumPy, offline and under a free licence.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from restore_cli.errors import ImageTooSmall
from restore_cli.imaging.colour import luma, quantize
from restore_cli.imaging.resize import resize_matlab

BLOCK = 96
SIDE = 2 * BLOCK  # smallest; the covariance takes several blocks
WINDOW, SIGMA = 7, 7 / 6  # sec. 2.1
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # sec. 2.3
MIRRORED = 8  # pixels at the border, which bicubic reduction to a half reaches
FLAT = 1e-6  # levels; less is rounding, whose sign would count in areas of one colour
SHAPES = (0.2, 10.0, 0.001)  # candidates of a shape parameter
PRISTINE = Path(__file__).with_suffix(".safetensors")


def niqe(x: Tensor) -> float | None:
    """Return the NIQE of an image, 0 = like undistorted photographs; None without any texture.

    x: (3 or 1, H, W) in [0, 1], sides >= 192. Computed of the luma of 8-bit levels in float64.
    Raises ImageTooSmall.
    """
    rows, columns = (side // BLOCK for side in x.shape[-2:])
    if min(rows, columns) * BLOCK < SIDE:
        raise ImageTooSmall(f"NIQE needs sides of at least {SIDE} px")
    y = quantize(luma(quantize(x.cpu().double())))[..., : rows * BLOCK, : columns * BLOCK]
    features = torch.cat([_features(y, BLOCK), _features(_halved(y), BLOCK // 2)], dim=1)
    textured = features.isfinite().all(dim=1)
    if textured.sum() < 2:
        return None
    mean, covariance = _pristine()
    away = mean - features.nanmean(dim=0)
    inverse = torch.linalg.pinv((covariance + features[textured].T.cov()) / 2, hermitian=True)
    return math.sqrt(float(away @ inverse @ away))  # eq. 10


@cache
def _pristine() -> tuple[Tensor, Tensor]:
    from safetensors.torch import load_file

    stored = load_file(PRISTINE)
    return stored["mean"], stored["covariance"]


def _halved(y: Tensor) -> Tensor:
    """Reduce (1, H, W) to half the sides as imresize of MATLAB does, with a mirrored border."""
    height, width = y.shape[-2:]
    for axis in (-2, -1):
        first, last = y.narrow(axis, 0, MIRRORED), y.narrow(axis, -MIRRORED, MIRRORED)
        y = torch.cat([first.flip(axis), y, last.flip(axis)], dim=axis)
    halved = resize_matlab(y, height // 2 + MIRRORED, width // 2 + MIRRORED)
    inside = slice(MIRRORED // 2, -MIRRORED // 2)
    return halved[..., inside, inside]


def _features(y: Tensor, size: int) -> Tensor:
    """Return 18 features of each block of luma (1, H, W), shape (blocks, 18)."""
    blocks = _normalized(255 * y)[0].unfold(0, size, size).unfold(1, size, size).flatten(0, 1)
    shape, left, right = _asymmetric_gaussian(blocks)
    found = [shape, (left + right) / 2]
    for shift in NEIGHBOURS:
        shape, left, right = _asymmetric_gaussian(blocks * blocks.roll(shift, (1, 2)))
        mean = (right - left) * ((2 / shape).lgamma() - (1 / shape).lgamma()).exp()  # eq. 8
        found += [shape, mean, left, right]
    return torch.stack(found, dim=1)


def _normalized(y: Tensor) -> Tensor:
    """Subtract the local mean and divide by the local std (eq. 1)."""
    bell = torch.exp(-((torch.arange(WINDOW, dtype=y.dtype) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    bell = bell / bell.sum()
    both = F.pad(torch.stack([y, y * y]), (WINDOW // 2,) * 4, mode="replicate")
    both = F.conv2d(F.conv2d(both, bell.view(1, 1, -1, 1)), bell.view(1, 1, 1, -1))
    mean, squares = both.unbind()
    away = y - mean
    return torch.where(away.abs() > FLAT, away, 0) / ((squares - mean * mean).abs().sqrt() + 1)


def _asymmetric_gaussian(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit shape, left and right scale to each block by moments (eq. 5 to 7)."""
    x = blocks.flatten(1)
    squares = x * x
    left = (torch.where(x < 0, squares, 0).sum(1) / (x < 0).sum(1)).sqrt()
    right = (torch.where(x > 0, squares, 0).sum(1) / (x > 0).sum(1)).sqrt()
    skew = left / right
    ratio = x.abs().mean(1) ** 2 / squares.mean(1)
    ratio = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    least, _, step = SHAPES
    ratios = _ratios()
    # A block of one sign has no skew and gets the first candidate, as min() of MATLAB chooses.
    nearest = torch.bucketize(ratio.nan_to_num(0), (ratios[1:] + ratios[:-1]) / 2)
    shape = least + step * nearest
    scale = (((1 / shape).lgamma() - (3 / shape).lgamma()) / 2).exp()
    return shape, left * scale, right * scale


@cache
def _ratios() -> Tensor:
    """Return the ratio of moments of each candidate of a shape, which grows with it."""
    least, most, step = SHAPES
    shape = torch.arange(round((most - least) / step) + 1, dtype=torch.float64) * step + least
    return (2 * (2 / shape).lgamma() - (1 / shape).lgamma() - (3 / shape).lgamma()).exp()
