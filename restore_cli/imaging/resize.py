"""Antialiased bicubic resizing as in MATLAB's imresize, and Pillow's Lanczos for comparison.

The low-resolution files of super-resolution benchmarks are the output of imresize. It widens the
cubic kernel (Keys, a = -0.5) when the image shrinks, and repeats the border pixel. (Current MATLAB
mirrors the border; the benchmark files are older.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from restore_cli.imaging.planes import Planes

BLOCK = 64  # outputs per dense matrix: enough to keep BLAS busy, few enough to waste little
REACH = 3  # input pixels to each side of its own place that an enlarged pixel sees, at most
CENTRE = 0.5  # anchor of a sample in its width; images are aligned by centres

Block = tuple[slice, Tensor]  # input samples, weights (inputs, outputs) in float64


def resize_matlab(
    x: Tensor,
    height: int,
    width: int,
    *,
    rounding: Literal["float", "uint8"] = "float",
    anchors: tuple[float, float] = (CENTRE, CENTRE),
) -> Tensor:
    """Resize `x` (..., H, W) to (..., height, width), same dtype; "float" may overshoot [0, 1].

    "uint8" rounds to levels k / 255 after each of the two passes, as imresize does for 8-bit
    images; it reproduces the published low-resolution files exactly.
    anchors: horizontal position of a sample's value in its width, 0 to 1, in the result and in x;
    chroma of video lies left of the centre.
    """
    round_levels = rounding == "uint8"
    if round_levels:
        work = (x.double() * 255).round()
    else:
        work = x.to(torch.promote_types(x.dtype, torch.float32))
    # imresize starts with the axis that shrinks most; with the rows in case of a tie.
    factors = {-2: height / x.shape[-2], -1: width / x.shape[-1]}
    for axis in sorted(factors, key=factors.__getitem__):
        if axis == -2:
            work = _resize_axis(work, axis, height, (CENTRE, CENTRE))
        else:
            work = _resize_axis(work, axis, width, anchors)
        if round_levels:
            work = (work + 0.5).floor().clamp(0, 255)
    return (work / 255 if round_levels else work).to(x.dtype)


def resized_rows(planes: Planes, height: int, width: int) -> Iterator[Tensor]:
    """Yield the rows of `resize_matlab` in bands from top to bottom; on a GPU in one."""
    if planes.device.type != "cpu":
        yield resize_matlab(planes.read(0, planes.height), height, width)
        return
    for inputs, weights in _blocks(planes.height, height, (CENTRE, CENTRE)):
        rows = planes.read(inputs.start, inputs.stop)
        yield _resize_axis(weights.to(rows).T @ rows, -1, width, (CENTRE, CENTRE))
        planes.release()


def resize_lanczos(x: Tensor, height: int, width: int) -> Tensor:
    """Resize (C, H, W) in [0, 1], C = 1 or 3, by Pillow's LANCZOS for 8-bit images."""
    levels = (x.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    image = Pillow.fromarray(np.ascontiguousarray(levels.squeeze(-1).numpy()))
    resized = np.atleast_3d(np.array(image.resize((width, height), Pillow.Resampling.LANCZOS)))
    return torch.from_numpy(resized).permute(2, 0, 1).float() / 255


def _resize_axis(x: Tensor, axis: int, size: int, anchors: tuple[float, float]) -> Tensor:
    if size == x.shape[axis]:
        return x
    if x.device.type != "cpu":
        return _sum_of_taps(x, axis, size, anchors)
    shape = list(x.shape)
    shape[axis] = size
    result, start = x.new_empty(shape), 0
    for inputs, weights in _blocks(x.shape[axis], size, anchors):
        matrix = weights.to(x)
        outputs = slice(start, start + matrix.shape[1])
        if axis == -1:
            result[..., outputs] = x[..., inputs] @ matrix
        else:
            result[..., outputs, :] = matrix.T @ x[..., inputs, :]
        start = outputs.stop
    return result


def _sum_of_taps(x: Tensor, axis: int, size: int, anchors: tuple[float, float]) -> Tensor:
    """Add up the inputs of all outputs, one after the other: on a GPU few launches, and no TF32."""
    index, weight = _taps_on(x.device, x.dtype, x.shape[axis], size, anchors)
    result: Tensor | None = None
    for places, shares in zip(index, weight, strict=True):
        factor = shares if axis == -1 else shares[:, None]
        inputs = x.index_select(axis, places)
        result = inputs.mul_(factor) if result is None else result.addcmul_(inputs, factor)
    assert result is not None  # there is at least one tap
    return result


@lru_cache(maxsize=32)  # images of one size follow each other
def _taps_on(
    device: torch.device,
    dtype: torch.dtype,
    source: int,
    target: int,
    anchors: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """Return the inputs and the weights of each output sample, (taps, target), on a device."""
    index, weight = _taps(source, target, anchors)
    return index.T.contiguous().to(device), weight.T.to(dtype).contiguous().to(device)


@lru_cache(maxsize=32)  # training resizes many crops of one size
def _blocks(source: int, target: int, anchors: tuple[float, float]) -> tuple[Block, ...]:
    """Return the sparse (source, target) matrix of one axis as a band of dense blocks."""
    index, weight = _taps(source, target, anchors)
    blocks = []
    for start in range(0, target, BLOCK):
        rows = slice(start, min(start + BLOCK, target))
        first, last = int(index[rows].min()), int(index[rows].max())
        dense = torch.zeros(rows.stop - start, last - first + 1, dtype=torch.float64)
        dense.scatter_add_(1, index[rows] - first, weight[rows])
        blocks.append((slice(first, last + 1), dense.T.contiguous()))
    return tuple(blocks)


def _taps(source: int, target: int, anchors: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Return the inputs of each output sample, (target, taps) int64, and weights of sum 1."""
    scale = target / source
    shrink = min(scale, 1.0)
    support = 4 / shrink
    taps = math.ceil(support) + 2
    centre = (torch.arange(target, dtype=torch.float64) + anchors[0]) / scale - anchors[1]
    left = (centre - support / 2).floor().long()
    index = left[:, None] + torch.arange(taps)
    weight = _cubic((centre[:, None] - index) * shrink)
    return index.clamp(0, source - 1), weight / weight.sum(1, keepdim=True)


def _cubic(x: Tensor) -> Tensor:
    """Evaluate Keys' cubic kernel with a = -0.5, zero outside [-2, 2]."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, near, torch.where(x <= 2, far, 0.0))
