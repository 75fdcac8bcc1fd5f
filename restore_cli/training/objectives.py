"""How a batch reaches the network, and what it costs: what recipes differ in besides their numbers.

A network here is anything that is called like one; its outputs are float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from restore_cli.data.downsample import draw_choice
from restore_cli.inference.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from restore_cli.training.losses import BlindSpotWeights, Loss, blind_spot

Network = Callable[..., Any]
Feed = Callable[[Network], Network]
# (network, degraded, clean, loss, done, generator) -> a number to be lowered. done: how far the
# training is, 0 to 1.
LossStep = Callable[[Network, Tensor, Tensor, Loss, float, Generator], Tensor]

BLIND_SPOT = BlindSpotWeights()
BLIND_SHARE = 0.2  # of the blind mode, where the full one is what matters
RAMP = 0.4  # of the steps: 200,000 of the paper's 500,000


def as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def in_precision(network: nn.Module, device: torch.device, *, bf16: bool) -> Network:
    """The network, run in bfloat16 where `bf16` is set."""

    def run(*inputs: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            outputs = network(*inputs)
        if isinstance(outputs, tuple):
            return tuple(output.float() for output in outputs)
        return outputs.float()

    return run


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel of each image, as the adapter "standardized" takes."""
    floor = (x.shape[-2] * x.shape[-1]) ** -0.5
    mean = x.mean((-2, -1), keepdim=True)
    return mean, x.std((-2, -1), correction=0, keepdim=True).clamp(min=floor)


def plain(network: Network) -> Network:
    """Images as they are."""
    return network


def standardized(network: Network) -> Network:
    """Images with mean 0 and deviation 1, undone afterwards."""

    def run(degraded: Tensor, *mode: bool) -> Tensor:
        mean, deviation = statistics(degraded)
        restored: Tensor = network((degraded - mean) / deviation, *mode) * deviation + mean
        return restored

    return run


TOGETHER = 3  # patches


def standardized_together(network: Network) -> Network:
    """As standardized, by statistics that a few patches share, as if they were one image.

    A patch is flatter than the photograph that it is from: by its own statistics, a network would
    learn noise far larger against the deviation than it ever meets in a photograph.
    """

    def run(degraded: Tensor, *mode: bool) -> Tensor:
        moments = [_joint_statistics(few) for few in torch.split(degraded, TOGETHER)]
        mean, deviation = (torch.cat(parts) for parts in zip(*moments, strict=True))
        restored: Tensor = network((degraded - mean) / deviation, *mode) * deviation + mean
        return restored

    return run


def _joint_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    side_by_side = x.permute(1, 2, 0, 3).flatten(2)[None]  # (1, 3, H, B W)
    mean, deviation = statistics(side_by_side)
    return mean.expand(len(x), -1, -1, -1), deviation.expand(len(x), -1, -1, -1)


def imagenet(network: Network) -> Network:
    """Images in ImageNet's normalisation, undone afterwards on each of the outputs."""

    def run(degraded: Tensor) -> tuple[Tensor, ...]:
        mean, deviation = IMAGENET_MEAN.to(degraded), IMAGENET_STD.to(degraded)
        outputs = as_tuple(network((degraded - mean) / deviation))
        return tuple(output * deviation + mean for output in outputs)

    return run


def supervised(
    network: Network,
    degraded: Tensor,
    clean: Tensor,
    loss: Loss,
    done: float,
    generator: Generator,
) -> Tensor:
    """The loss between what the network makes of the degraded images and the clean ones."""
    return loss(as_tuple(network(degraded)), clean)


def supervised_blind_too(
    network: Network,
    degraded: Tensor,
    clean: Tensor,
    loss: Loss,
    done: float,
    generator: Generator,
) -> Tensor:
    """As supervised, for C-BSN, and a little for its blind mode, on every second or fifth pixel:
    so it is met by the self-supervised loss, which may go on from there.
    """
    fully = supervised(network, degraded, clean, loss, done, generator)
    strides = (BLIND_SPOT.stride_i, BLIND_SPOT.stride_b)
    stride = strides[int(torch.randint(2, (), generator=generator))]
    top, left = torch.randint(stride, (2,), generator=generator).tolist()
    few = (..., slice(top, None, stride), slice(left, None, stride))
    return fully + BLIND_SHARE * loss(as_tuple(network(degraded[few], True)), clean[few])


def self_supervised(
    network: Network,
    degraded: Tensor,
    clean: Tensor,
    loss: Loss,
    done: float,
    generator: Generator,
) -> Tensor:
    """C-BSN's loss, which knows noisy images alone; it is of standardized images itself."""
    mean, deviation = statistics(degraded)
    noisy = (degraded - mean) / deviation
    return _blind_spot(network, noisy, min(done / RAMP, 1), generator)


def self_supervised_on(
    network: Network,
    degraded: Tensor,
    clean: Tensor,
    loss: Loss,
    done: float,
    generator: Generator,
) -> Tensor:
    """As self_supervised, of images that are standardized already, for a network that knows both
    its modes: all three losses count from the first step.
    """
    return _blind_spot(network, degraded, 1.0, generator)


def _blind_spot(network: Network, noisy: Tensor, ramp: float, generator: Generator) -> Tensor:
    choice = draw_choice(noisy, BLIND_SPOT.stride_i, generator)
    return blind_spot(network, noisy, choice, ramp, BLIND_SPOT).total
