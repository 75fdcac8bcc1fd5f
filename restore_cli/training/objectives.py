"""Preprocessing and objectives of the restoration recipes.

A network here is any callable; its outputs are float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from restore_cli.data.downsample import draw_choice
from restore_cli.inference.preprocessing import IMAGENET_MEAN, IMAGENET_STD, channel_statistics
from restore_cli.training.losses import BlindSpotWeights, Loss, blind_spot
from restore_cli.training.processes import Share

Network = Callable[..., Any]
Preprocessing = Callable[[Network], Network]  # of the input, undone on the output

BLIND_SPOT = BlindSpotWeights()
BLIND_SHARE = 0.2  # of the blind mode's loss, where the full mode is the goal
RAMP = 0.4  # of the steps: 200,000 of the paper's 500,000


@dataclass(frozen=True)
class Batch:
    """Images of one step in one process, (B, C, H, W) in [0, 1]."""

    degraded: Tensor
    clean: Tensor
    progress: float  # of the training, 0 to 1
    generator: Generator  # of all random numbers of the step
    share: Share  # of these images in the batch of all processes


Objective = Callable[[Network, Batch, Loss], Tensor]  # a number to minimise


def as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def in_precision(network: nn.Module, device: torch.device, *, bf16: bool) -> Network:
    """Wrap the network in autocast to bfloat16 if `bf16` is set; outputs stay float32."""

    def run(*inputs: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            outputs = network(*inputs)
        if isinstance(outputs, tuple):
            return tuple(output.float() for output in outputs)
        return outputs.float()

    return run


def rgb(network: Network) -> Network:
    """Leave images as they are."""
    return network


def standardized(network: Network) -> Network:
    """Standardize each channel of each image to mean 0 and std 1."""
    return _standardized_by(channel_statistics, network)


JOINT = 3  # patches


def standardized_jointly(network: Network) -> Network:
    """Standardize by statistics that a few patches share, as if they were one image.

    A patch is flatter than the photograph it is cut from. By its own statistics, a network would
    learn noise that is far larger, relative to the std, than in any photograph.
    """
    return _standardized_by(_joint_statistics, network)


def _joint_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    moments = []
    for patches in torch.split(x, JOINT):
        side_by_side = patches.permute(1, 2, 0, 3).flatten(2)[None]  # (1, 3, H, B W)
        mean, std = channel_statistics(side_by_side)
        shape = (len(patches), -1, -1, -1)
        moments.append((mean.expand(shape), std.expand(shape)))
    means, stds = zip(*moments, strict=True)
    return torch.cat(means), torch.cat(stds)


def _standardized_by(
    moments: Callable[[Tensor], tuple[Tensor, Tensor]], network: Network
) -> Network:
    def run(degraded: Tensor, *mode: bool) -> Tensor:
        mean, std = moments(degraded)
        restored: Tensor = network((degraded - mean) / std, *mode) * std + mean
        return restored

    return run


def imagenet(network: Network) -> Network:
    """Normalize by the mean and std of ImageNet; undone on each of several outputs."""

    def run(degraded: Tensor) -> tuple[Tensor, ...]:
        mean, std = IMAGENET_MEAN.to(degraded), IMAGENET_STD.to(degraded)
        outputs = as_tuple(network((degraded - mean) / std))
        return tuple(output * std + mean for output in outputs)

    return run


def supervised(network: Network, batch: Batch, loss: Loss) -> Tensor:
    """Compare the outputs for the degraded images with the clean ones."""
    return loss(as_tuple(network(batch.degraded)), batch.clean)


def supervised_with_blind_mode(network: Network, batch: Batch, loss: Loss) -> Tensor:
    """Train both modes of C-BSN: the full one, and by a small share the blind one.

    The input of the blind mode is every second or fifth pixel, as in the self-supervised loss that
    may continue from these weights.
    """
    full = supervised(network, batch, loss)
    strides = (BLIND_SPOT.stride_i, BLIND_SPOT.stride_b)
    stride = strides[int(torch.randint(2, (), generator=batch.generator))]
    top, left = torch.randint(stride, (2,), generator=batch.generator).tolist()
    subsampled = (..., slice(top, None, stride), slice(left, None, stride))
    outputs = as_tuple(network(batch.degraded[subsampled], True))
    return full + BLIND_SHARE * loss(outputs, batch.clean[subsampled])


def self_supervised(network: Network, batch: Batch, loss: Loss) -> Tensor:
    """C-BSN's loss of noisy images alone, which are standardized here; `loss` is not used."""
    mean, std = channel_statistics(batch.degraded)
    noisy = (batch.degraded - mean) / std
    return _blind_spot(network, noisy, min(batch.progress / RAMP, 1), batch)


def self_supervised_continued(network: Network, batch: Batch, loss: Loss) -> Tensor:
    """C-BSN's loss of standardized images, for a network in which both modes are trained.

    All three of its terms count from the first step.
    """
    return _blind_spot(network, batch.degraded, 1.0, batch)


def _blind_spot(network: Network, noisy: Tensor, ramp: float, batch: Batch) -> Tensor:
    whole = noisy[:1].expand(batch.share.batch, -1, -1, -1)  # shape of the batch of all processes
    choice = draw_choice(whole, BLIND_SPOT.stride_i, batch.generator)[batch.share.rows]
    return blind_spot(network, noisy, choice, ramp, BLIND_SPOT).total
