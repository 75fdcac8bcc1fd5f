"""CUDA graphs: all kernels of a network for one shape, started by one call.

Small images keep the CPU busy with starting kernels rather than the GPU with running them. A shape
that comes again is recorded, and replayed from then on if the replay gives what the network gives.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable
from threading import Lock

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Network = Callable[[Tensor, bool], Tensor]  # input, and whether inputs of its shape came before

MAX_PIXELS = 1 << 20  # pixels of a batch; with more, starting the kernels is the smaller part
MAX_GRAPHS = 4  # graphs of a network: each keeps the memory of its features
SEEN_BEFORE_RECORDING = 2  # inputs of a shape before it is recorded
WARM_UP_RUNS = 3  # in which libraries choose their kernels
TOLERANCE = 2e-2  # values of a replay and of the network, in bfloat16


class Graphs:
    """Recorded shapes of one network; for several threads, one at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._seen: Counter[Hashable] = Counter()
        self._recorded: dict[Hashable, Callable[[Tensor], Tensor]] = {}
        self._usable = True

    def run(self, network: Network, x: Tensor, precision: str) -> Tensor:
        """Return the output of a network in a precision, by a graph where there is one."""
        key = (tuple(x.shape), precision, torch.cuda.current_stream(x.device).cuda_stream)
        with self._lock:
            if key in self._recorded:
                return self._recorded[key](x)
            output = network(x, self._seen[key] > 0)
            self._seen[key] += 1
            small = len(x) * x.shape[-2:].numel() <= MAX_PIXELS
            if (
                small
                and self._usable
                and self._seen[key] > SEEN_BEFORE_RECORDING
                and len(self._recorded) < MAX_GRAPHS
            ):
                self._try(key, network, x, output)
            return output

    def clear(self) -> None:
        """Free the memory of all graphs, and record no more."""
        with self._lock:
            self._recorded.clear()
            self._usable = False

    def _try(self, key: Hashable, network: Network, x: Tensor, output: Tensor) -> None:
        try:
            replay = record(network, x)
            if not torch.allclose(
                replay(x), output, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True
            ):
                raise RuntimeError("the replay differs from the network")
        except RuntimeError as error:
            self._usable = False
            reason = str(error).strip().partition("\n")[0]
            logger.warning("no CUDA graph, which is slower for small images: %s", reason)
        else:
            self._recorded[key] = replay


def record(network: Network, sample: Tensor) -> Callable[[Tensor], Tensor]:
    """Record a network for the shape of a sample. Raises RuntimeError."""
    static_input = sample.clone()
    side = torch.cuda.Stream(sample.device)  # type: ignore[no-untyped-call]
    current = torch.cuda.current_stream(sample.device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(WARM_UP_RUNS):
            network(static_input, True)
    current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # In the stream of the warm-up, for whose device and stream the libraries have their memory;
    # other threads may go on.
    with (
        torch.cuda.device(sample.device),
        torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"),
    ):
        static_output = network(static_input, True)

    def replay(x: Tensor) -> Tensor:
        static_input.copy_(x)
        graph.replay()
        return static_output.clone()

    return replay
