"""Layers and formulas that networks of several papers share."""

import math

import torch
from torch import Tensor, nn


class GlobalAverage(nn.Module):
    """Mean of each channel over the image; a module, so that tiles can share one mean."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(-2, -1), keepdim=True)  # (B, C, 1, 1)


class PixelConv(nn.Conv2d):
    """A convolution from or to pixels, in float32 under autocast too.

    The 8 significant bits of bfloat16 are too few for an image of 8 bits.
    """

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


class DropPath(nn.Module):
    """Drop whole samples of the batch in training, and scale the others up."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate
        # Size of the whole batch and the rows that are passed, where several processes share it.
        self.share: tuple[int, slice] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        batch, rows = self.share or (len(x), slice(None))
        kept = torch.rand(batch, 1, 1, 1, device=x.device)[rows] >= self.rate
        return x * kept / (1 - self.rate)


def guidance_at(t: Tensor, scale: float, power: float) -> Tensor:
    """Return the power-cosine schedule of classifier-free guidance; constant for power 0.

    From `scale` at t = 0 to 1 at t = 1.
    """
    return 1 + (scale - 1) * (1 - torch.cos(math.pi * (1 - t.clamp(max=1)) ** power)) / 2
