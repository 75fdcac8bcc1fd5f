"""Losses over the outputs of a network, which are passed as a tuple even if there is only one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import torch
import torch.nn.functional as F
from pytorch_msssim import ssim
from torch import Tensor

from restore_cli.data.downsample import batch_to_space, space_to_batch, subsample
from restore_cli.inference.preprocessing import IMAGENET_STD
from restore_cli.metrics.structure import fitting_scales, multi_scale

Loss = Callable[[Sequence[Tensor], Tensor], Tensor]

MIX_ALPHA = 0.84  # Zhao et al. 2016 (arXiv 1511.08861)
DISSIMILAR = 1e-4  # least value of a term of MS-SSIM: at 0 the gradient of its power is infinite

# MIRNet, official training script. MPRNet has the same in its edge loss, which DPENet uses without
# defining it.
CHARBONNIER_EPSILON = 1e-3
NEGLIGIBLE = (0.5 / 255) ** 2  # mean squared error within the rounding to 8 bit
EDGE_WEIGHT = 0.05  # DPENet, official training script
# Relative to the L1 of degraded photographs, the terms are then about half and an eighth as large.
PHOTO_MS_SSIM, PHOTO_EDGE = 0.2, 0.2


def _pyramid_blur(x: Tensor) -> Tensor:
    """Blur by a 5x5 separable kernel (.05, .25, .4, .25, .05) with replicated borders."""
    from kornia.filters import filter2d_separable

    taps = x.new_tensor([[0.05, 0.25, 0.4, 0.25, 0.05]])
    blurred: Tensor = filter2d_separable(x, taps, taps, border_type="replicate")
    return blurred


def laplacian(x: Tensor) -> Tensor:
    """Return the finest level of the Laplacian pyramid of x (B, C, H, W)."""
    coarse = torch.zeros_like(x)
    coarse[..., ::2, ::2] = 4 * _pyramid_blur(x)[..., ::2, ::2]
    return x - _pyramid_blur(coarse)


def charbonnier_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean absolute difference, smooth around 0."""
    return ((x - y).square() + CHARBONNIER_EPSILON**2).sqrt().mean()


def edge(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the Charbonnier distance of the Laplacians."""
    return charbonnier_distance(laplacian(prediction), laplacian(target))


def l1(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    return torch.stack([F.l1_loss(output, target) for output in outputs]).sum()


def mse(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    return torch.stack([F.mse_loss(output, target) for output in outputs]).sum()


def smooth_l1(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    """TML's loss, of RGB normalized by ImageNet: quadratic up to 1 std, about 57 of 255.

    In [0, 1] it would be quadratic everywhere. The normalization is this project's choice; the
    paper does not say.
    """
    std = IMAGENET_STD.to(target)
    return torch.stack([F.smooth_l1_loss(output / std, target / std) for output in outputs]).sum()


def charbonnier(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    return torch.stack([charbonnier_distance(output, target) for output in outputs]).sum()


def log_error(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    """Half the logarithm of the mean squared error of each image: negative PSNR in another unit.

    An image with little noise, whose detail is easily lost, counts as much as a noisy one.
    """
    errors = [(output - target).square().mean((-3, -2, -1)) for output in outputs]
    return torch.stack([(error + NEGLIGIBLE).log().mean() / 2 for error in errors]).sum()


def ms_ssim(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    """1 - MS-SSIM over each output: Snell et al. 2017 (arXiv 1511.06409), no pixel term.

    Over as many of the five scales as fit into a crop, with weights normalized to sum 1.
    """
    weights = fitting_scales(*target.shape[-2:])
    scores = [multi_scale(output, target, weights, least=DISSIMILAR) for output in outputs]
    return torch.stack([1 - score.mean() for score in scores]).sum()


def mix(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    """0.84 MS-SSIM and 0.16 L1, after Zhao et al.; their L1 is blurred, whose mean is the same."""
    return MIX_ALPHA * ms_ssim(outputs, target) + (1 - MIX_ALPHA) * l1(outputs, target)


def ssim_edge(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    """DPENet's loss: 1 - SSIM plus 0.05 of the edge loss, over each output.

    SSIM is taken over the valid area; the official script pads with zeros.
    """
    terms = [
        1 - ssim(output, target, data_range=1.0) + EDGE_WEIGHT * edge(output, target)
        for output in outputs
    ]
    return torch.stack(terms).sum()


def photo(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    """L1 plus 0.2 of 1 - MS-SSIM and 0.2 of the edge loss: fidelity, with edges kept sharp."""
    edges = torch.stack([edge(output, target) for output in outputs]).sum()
    return l1(outputs, target) + PHOTO_MS_SSIM * ms_ssim(outputs, target) + PHOTO_EDGE * edges


LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "l1": l1,
        "mse": mse,
        "charbonnier": charbonnier,
        "log_error": log_error,
        "smooth_l1": smooth_l1,
        "ms_ssim": ms_ssim,
        "mix": mix,
        "ssim_edge": ssim_edge,
        "photo": photo,
    }
)
STRUCTURAL = ("ms_ssim", "mix", "ssim_edge")  # they trade PSNR for structure


@dataclass(frozen=True)
class BlindSpotWeights:
    """Strides and weight of C-BSN's loss, as in the paper."""

    stride_b: int = 5  # of the images denoised in the blind mode
    stride_i: int = 2  # of the random subsample
    lambda_inv: float = 2.0


@dataclass(frozen=True)
class BlindSpotTerms:
    """C-BSN's three losses, and their sum with the weights of one step."""

    blind: Tensor  # blind mode: predicts each pixel from others, whose noise is independent
    self_: Tensor  # full mode: stays near the noisy image
    inv: Tensor  # full mode, subsampled: stays near the blind mode of the subsampled image
    total: Tensor


class ConditionalNetwork(Protocol):
    """Network with a blind mode, such as C-BSN."""

    def __call__(self, noisy: Tensor, blind: bool = False) -> Tensor: ...


def blind_spot(
    network: ConditionalNetwork,
    noisy: Tensor,
    choice: Tensor,
    ramp: float,
    weights: BlindSpotWeights = BlindSpotWeights(),
) -> BlindSpotTerms:
    """Return C-BSN's self-supervised loss on standardized noisy images (B, 3, H, W).

    choice: from draw_choice with stride_i, new for each step. ramp: 0 at first, so that only the
    blind mode learns, then up to 1. Height and width are multiples of both strides.
    """
    w = weights
    blind_output = batch_to_space(network(space_to_batch(noisy, w.stride_b), True), w.stride_b)
    full_output = network(noisy)
    with torch.no_grad():  # the blind mode is the teacher of the full one
        target = network(subsample(noisy, choice, w.stride_i), True)
    blind = F.l1_loss(blind_output, noisy)
    self_ = F.l1_loss(full_output, noisy)
    inv = F.l1_loss(subsample(full_output, choice, w.stride_i), target)
    return BlindSpotTerms(blind, self_, inv, blind + ramp * (self_ + w.lambda_inv * inv))
