"""Layers and formulas that networks of several papers share."""

import math

import torch
from torch import Tensor, nn


class GlobalAverage(nn.Module):
    """Mean of each channel over the image; a module, so that tiles can share one mean."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(-2, -1), keepdim=True)  # (B, C, 1, 1)


def guidance_at(t: Tensor, scale: float, power: float) -> Tensor:
    """Return the power-cosine schedule of classifier-free guidance; constant for power 0.

    From `scale` at t = 0 to 1 at t = 1.
    """
    return 1 + (scale - 1) * (1 - torch.cos(math.pi * (1 - t.clamp(max=1)) ** power)) / 2
