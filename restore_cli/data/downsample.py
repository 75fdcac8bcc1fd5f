"""Subsampling of a noisy image, which reduces the correlation of its noise (C-BSN, section 3).

The noise of neighbouring pixels in a camera image is correlated; a few pixels apart, it hardly is.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def space_to_batch(x: Tensor, stride: int) -> Tensor:
    """Split into every `stride`-th pixel: (B, C, H, W) -> (stride**2 * B, C, H/s, W/s).

    Offset (down, across) of image b has the index (down * stride + across) * B + b.
    """
    batch, channels, height, width = x.shape
    cells = x.reshape(batch, channels, height // stride, stride, width // stride, stride)
    return cells.permute(3, 5, 0, 1, 2, 4).flatten(0, 2)


def batch_to_space(x: Tensor, stride: int) -> Tensor:
    """Invert space_to_batch."""
    cells = x.reshape(stride, stride, -1, *x.shape[1:])  # (s, s, B, C, H/s, W/s)
    return cells.permute(2, 3, 4, 0, 5, 1).flatten(4, 5).flatten(2, 3)


def draw_choice(x: Tensor, stride: int, generator: Generator) -> Tensor:
    """Draw the index of a pixel in each cell of x, for `subsample`: (B, H/s, W/s)."""
    batch, _, height, width = x.shape
    size = (batch, height // stride, width // stride)
    return torch.randint(stride**2, size, generator=generator, device=generator.device).to(x.device)


def subsample(x: Tensor, choice: Tensor, stride: int) -> Tensor:
    """Select one pixel of each `stride` x `stride` cell: (B, C, H/s, W/s).

    choice: (B, H/s, W/s), row-major indices in the cell, 0 to stride**2 - 1.
    """
    batch, channels, height, width = x.shape
    cells = x.reshape(batch, channels, height // stride, stride, width // stride, stride)
    pixels = cells.permute(0, 1, 2, 4, 3, 5).flatten(4)  # (B, C, H/s, W/s, s * s)
    index = choice[:, None, :, :, None].expand(-1, channels, -1, -1, -1)
    return pixels.gather(4, index).squeeze(4)
