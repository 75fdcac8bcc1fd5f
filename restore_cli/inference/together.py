"""Small images through a network as a batch, which fills a GPU where one of them does not.

Each image is restored in a thread of its own, as if it were alone. Once every thread waits for a
network or has ended, inputs of one network, shape and precision run as one batch.
"""

from __future__ import annotations

from _thread import start_new_thread
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import CancelledError
from contextvars import ContextVar
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TypeVar

import torch
from torch import Tensor

from restore_cli.memory import is_out_of_memory
from restore_cli.worker import Pending

T = TypeVar("T")
Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Input:
    """An input (B, C, H, W) on its way to a network; inputs of one key may run as a batch."""

    key: Hashable
    network: Network
    x: Tensor
    output: SimpleQueue[Tensor | Exception] = field(default_factory=SimpleQueue)


# Of a thread: where its inputs go, and None at its end. Without it a network runs at once.
_inputs: ContextVar[SimpleQueue[_Input | None] | None] = ContextVar("inputs", default=None)


def run_batched(key: Hashable, network: Network, x: Tensor) -> Tensor:
    """Run a network on an input, in a batch with those of other threads of `together`.

    key: equal for inputs that the same network takes in the same way.
    """
    inputs = _inputs.get()
    if inputs is None:
        return network(x)
    given = _Input((key, x.shape), network, x)
    inputs.put(given)
    output = given.output.get()
    if isinstance(output, Exception):
        raise output
    return output


def together(calls: Sequence[Callable[[], T]]) -> list[Pending[T]]:
    """Make calls at the same time, each in a thread, and return their results in order.

    Networks run in the calling thread, where signals arrive.
    """
    inputs: SimpleQueue[_Input | None] = SimpleQueue()
    results = [Pending(call) for call in calls]

    def run(pending: Pending[T]) -> None:
        _inputs.set(inputs)
        pending.run()
        inputs.put(None)

    working, waiting = 0, list[_Input]()
    try:
        for pending in results:
            start_new_thread(run, (pending,))
            working += 1
        while working:
            given = inputs.get()
            if given is None:
                working -= 1
            else:
                waiting.append(given)
            if len(waiting) == working:
                _run(waiting)
                waiting = []
    finally:
        for given in waiting:  # after an interrupt no thread may wait for ever
            given.output.put(CancelledError())
        while working:
            given = inputs.get()
            if given is None:
                working -= 1
            else:
                given.output.put(CancelledError())
    return results


def _run(inputs: Sequence[_Input]) -> None:
    """Run the networks on their inputs, those of one key as a batch."""
    batches: dict[Hashable, list[_Input]] = {}
    for given in inputs:
        batches.setdefault(given.key, []).append(given)
    for batch in batches.values():
        _run_batch(batch)


@torch.inference_mode()
def _run_batch(inputs: Sequence[_Input]) -> None:
    first = inputs[0]
    try:
        output = first.network(torch.cat([given.x for given in inputs]))
        outputs = torch.split(output, [len(given.x) for given in inputs])
    except Exception as error:
        if len(inputs) > 1 and is_out_of_memory(error):
            for given in inputs:
                _run_batch([given])
            return
        for given in inputs:
            given.output.put(error)
        return
    for given, own in zip(inputs, outputs, strict=True):
        given.output.put(own)
