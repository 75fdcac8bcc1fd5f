"""Losses over the outputs of a network; every one takes the predictions as a tuple.

Networks that return one tensor are given to them as a tuple of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as F
from pytorch_msssim import ssim
from torch import Tensor

Loss = Callable[[Sequence[Tensor], Tensor], Tensor]

EDGE_WEIGHT = 0.05  # DPENet, official training script
EDGE_EPSILON = 1e-3  # undefined in that script; the value of MPRNet, where its edge loss is from


def _pyramid_blur(x: Tensor) -> Tensor:
    """5x5 separable (.05, .25, .4, .25, .05) with replicated borders."""
    taps = x.new_tensor([0.05, 0.25, 0.4, 0.25, 0.05])
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), kernel, groups=x.shape[1])


def laplacian(x: Tensor) -> Tensor:
    """What one level of a Gaussian pyramid loses of x (B, C, H, W)."""
    coarse = torch.zeros_like(x)
    coarse[..., ::2, ::2] = 4 * _pyramid_blur(x)[..., ::2, ::2]
    return x - _pyramid_blur(coarse)


def edge(prediction: Tensor, target: Tensor) -> Tensor:
    """Charbonnier distance of the Laplacians."""
    difference = laplacian(prediction) - laplacian(target)
    return (difference.square() + EDGE_EPSILON**2).sqrt().mean()


def l1(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    return torch.stack([F.l1_loss(output, target) for output in outputs]).sum()


def mse(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    return torch.stack([F.mse_loss(output, target) for output in outputs]).sum()


def ssim_edge(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    """DPENet's own: 1 - SSIM plus 0.05 of the edge loss, over each output.

    SSIM over the valid area here; the official script pads with zeros.
    """
    terms = [
        1 - ssim(output, target, data_range=1.0) + EDGE_WEIGHT * edge(output, target)
        for output in outputs
    ]
    return torch.stack(terms).sum()


LOSSES: Mapping[str, Loss] = MappingProxyType({"l1": l1, "mse": mse, "ssim_edge": ssim_edge})
