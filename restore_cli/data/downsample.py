"""Smaller images out of a noisy one, whose noise is less correlated (C-BSN, section 3).

Neighbouring pixels of a camera image share their noise; pixels a few apart hardly do.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def space_to_batch(x: Tensor, stride: int) -> Tensor:
    """Each `stride`-th pixel, from every start: (B, C, H, W) -> (stride**2 * B, C, H/s, W/s).

    The start (down, across) of image b is number (down * stride + across) * B + b.
    """
    batch, channels, height, width = x.shape
    cells = x.reshape(batch, channels, height // stride, stride, width // stride, stride)
    return cells.permute(3, 5, 0, 1, 2, 4).flatten(0, 2)


def batch_to_space(x: Tensor, stride: int) -> Tensor:
    """The inverse of space_to_batch."""
    cells = x.reshape(stride, stride, -1, *x.shape[1:])  # (s, s, B, C, H/s, W/s)
    return cells.permute(2, 3, 4, 0, 5, 1).flatten(4, 5).flatten(2, 3)


def draw_choice(x: Tensor, stride: int, generator: Generator) -> Tensor:
    """Which pixel of each cell of x to take, for `subsample`: (B, H/s, W/s), 0 ... s**2 - 1."""
    batch, _, height, width = x.shape
    size = (batch, height // stride, width // stride)
    return torch.randint(stride**2, size, generator=generator, device=generator.device).to(x.device)


def subsample(x: Tensor, choice: Tensor, stride: int) -> Tensor:
    """One pixel, all its channels, of each `stride` x `stride` cell: (B, C, H/s, W/s).

    choice: (B, H/s, W/s), numbers along the rows of the cell.
    """
    batch, channels, height, width = x.shape
    cells = x.reshape(batch, channels, height // stride, stride, width // stride, stride)
    pixels = cells.permute(0, 1, 2, 4, 3, 5).flatten(4)  # (B, C, H/s, W/s, s * s)
    index = choice[:, None, :, :, None].expand(-1, channels, -1, -1, -1)
    return pixels.gather(4, index).squeeze(4)
