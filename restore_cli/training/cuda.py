"""Faster training steps on a CUDA device: one graph of a whole network, and chosen convolutions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

Capture = Callable[..., Any]


def has_fixed_graph(network: nn.Module, device: torch.device) -> bool:
    """True where a step of this network may be replayed: on CUDA, and without batch norms.

    Recording runs the network some times, which would change their statistics.
    """
    return device.type == "cuda" and not any(
        isinstance(m, nn.BatchNorm2d) for m in network.modules()
    )


def record_graph(
    network: nn.Module,
    sample: Tensor,
    *,
    bf16: bool,
    capture: Capture = torch.cuda.make_graphed_callables,
) -> bool:
    """Let one CUDA graph replace the forward and the backward pass of `network`.

    It takes inputs of the shape of `sample` alone from then on. False, with one line of the log,
    where the graph cannot be recorded: the network stays as it is.
    """
    try:
        with torch.autocast(
            sample.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False
        ):  # what autocast keeps of one pass is not there when the graph is replayed
            capture(network, (sample,), allow_unused_input=True)
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        log.warning("training without a CUDA graph, which is slower: %s", reason)
        return False
    return True


@contextmanager
def chosen_convolutions(device: torch.device) -> Iterator[None]:
    """Let cuDNN time its convolutions and take the fastest for each shape; not beyond the block."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
