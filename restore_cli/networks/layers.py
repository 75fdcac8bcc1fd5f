"""Layers that networks of several papers share."""

from torch import Tensor, nn


class GlobalAverage(nn.Module):
    """Mean of each channel over the image; a module, so that tiles can share one mean."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(-2, -1), keepdim=True)  # (B, C, 1, 1)
