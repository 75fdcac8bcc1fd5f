"""How a batch reaches the network, and what it costs: what recipes differ in besides their numbers.

A network here is anything that is called like one; its outputs are float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from restore_cli.data.downsample import draw_choice
from restore_cli.training.losses import BlindSpotWeights, Loss, blind_spot

Network = Callable[..., Any]
Feed = Callable[[Network], Network]
# (network, degraded, clean, loss, done, generator) -> a number to be lowered. done: how far the
# training is, 0 to 1.
LossStep = Callable[[Network, Tensor, Tensor, Loss, float, Generator], Tensor]

BLIND_SPOT = BlindSpotWeights()
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
    """Mean and deviation of each channel of each picture, as the adapter "standardized" takes."""
    floor = (x.shape[-2] * x.shape[-1]) ** -0.5
    mean = x.mean((-2, -1), keepdim=True)
    return mean, x.std((-2, -1), correction=0, keepdim=True).clamp(min=floor)


def plain(network: Network) -> Network:
    """Pictures as they are."""
    return network


def standardized(network: Network) -> Network:
    """Pictures with mean 0 and deviation 1, undone afterwards."""

    def run(degraded: Tensor) -> Tensor:
        mean, deviation = statistics(degraded)
        restored: Tensor = network((degraded - mean) / deviation) * deviation + mean
        return restored

    return run


def supervised(
    network: Network,
    degraded: Tensor,
    clean: Tensor,
    loss: Loss,
    done: float,
    generator: Generator,
) -> Tensor:
    """The loss between what the network makes of the degraded pictures and the clean ones."""
    return loss(as_tuple(network(degraded)), clean)


def self_supervised(
    network: Network,
    degraded: Tensor,
    clean: Tensor,
    loss: Loss,
    done: float,
    generator: Generator,
) -> Tensor:
    """C-BSN's loss, which knows noisy pictures alone; it is of standardized pictures itself."""
    mean, deviation = statistics(degraded)
    choice = draw_choice(degraded, BLIND_SPOT.stride_i, generator)
    noisy = (degraded - mean) / deviation
    return blind_spot(network, noisy, choice, min(done / RAMP, 1), BLIND_SPOT).total
