"""Faster training steps on a CUDA device: a graph of the whole network, and timed convolutions."""

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
    """Return True where a step can be replayed: on CUDA, in a network without batch norms.

    Recording runs the network several times, which would change the statistics of batch norms.
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
    """Replace the forward and the backward pass of `network` by a CUDA graph.

    The network then accepts only inputs of the shape of `sample`. Returns False, with one line in
    the log, where the graph cannot be recorded: the network stays unchanged.
    """
    try:
        with torch.autocast(
            sample.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False
        ):  # the cache of autocast does not exist any more when the graph is replayed
            capture(network, (sample,), allow_unused_input=True)
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        log.warning("training without a CUDA graph, which is slower: %s", reason)
        return False
    return True


@contextmanager
def cudnn_benchmark(device: torch.device) -> Iterator[None]:
    """Let cuDNN time its convolutions and use the fastest for each shape, within this block."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
