"""Training by several processes, which torchrun or `accelerate launch` has started.

Each process holds the whole network and its optimizer, and trains on its share of each batch. The
gradients are summed before the optimizer's step, so the weights stay equal, and the loss curve is
that of one process with the same batch. The random numbers of a step are drawn for the whole batch
by each process.

The gradients are summed after the backward pass, not during it as in DistributedDataParallel. A
network may therefore run several times in a step, as C-BSN does, and as a CUDA graph.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

import torch
import torch.distributed as dist

# Defaults of its functions are the group at the time of its import, and optimizers import it. After
# the group is made, that would keep it, with threads that may abort at the interpreter's end.
import torch.distributed.nn
from torch import Tensor, nn

from restore_cli.assets import launch
from restore_cli.errors import DeviceError, RestoreError, UsageError
from restore_cli.inference.device import pick_device
from restore_cli.interrupts import handled
from restore_cli.networks.layers import DropPath

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class Share:
    """Images of each batch that one process trains on."""

    rows: slice
    batch: int  # images in all

    @property
    def size(self) -> int:
        return len(range(self.batch)[self.rows])

    @property
    def weight(self) -> float:
        return self.size / self.batch


class Processes:
    """This process and the others of its training; alone by default.

    All methods but `share` are collective: each process calls them in the same order.
    """

    def __init__(self, rank: int = 0, count: int = 1):
        self.rank, self.count = rank, count
        self._signalled = False  # this process received a signal
        self._interrupted = False  # it has been raised in all processes

    @property
    def is_first(self) -> bool:
        """Return True if this is the process that writes files and messages."""
        return self.rank == 0

    def share(self, batch: int, unit: int = 1) -> Share:
        """Return the share of this process in a batch of so many images.

        unit: images that stay together. Raises UsageError for fewer units than processes.
        """
        units = -(-batch // unit)
        if units < self.count:
            of_units = f" in groups of {unit}" if unit > 1 else ""
            raise UsageError(
                f"a batch of {batch} images{of_units} is too small for {self.count} processes",
                hint="raise --batch, or start fewer processes",
            )
        first, last = (units * rank // self.count for rank in (self.rank, self.rank + 1))
        return Share(slice(first * unit, min(last * unit, batch)), batch)

    def from_first(self, call: Callable[[], T]) -> T:
        """Return the result of a call in the first process, or raise its RestoreError."""
        if self.count == 1:
            return call()
        outcome: list[Any] = [None, None]
        if self.is_first:
            try:
                outcome[0] = call()
            except RestoreError as error:
                outcome[1] = error
        with _connected():
            dist.broadcast_object_list(outcome, device=torch.device("cpu"))
        if outcome[1] is not None:
            raise outcome[1]
        result: T = outcome[0]
        return result

    def map(self, call: Callable[[S], T], items: Sequence[S]) -> list[T]:
        """Return the result of a call for each item; each process runs its share of the calls."""
        local = [call(item) for item in items[self.rank :: self.count]]
        if self.count == 1:
            return local
        parts: list[list[T]] = [[] for _ in range(self.count)]
        with _connected():
            dist.all_gather_object(parts, local)
        return [parts[index % self.count][index // self.count] for index in range(len(items))]

    def sum_gradients(self, network: nn.Module, loss: Tensor) -> Tensor:
        """Sum the gradients over all processes, in place; return the sum of the losses."""
        loss = loss.detach()
        if self.count == 1:
            return loss
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        flat = torch.cat([loss.reshape(1), *(g.flatten() for g in gradients)])
        with _connected():
            dist.all_reduce(flat)
        total, *sums = torch.split(flat, [1, *(g.numel() for g in gradients)])
        torch._foreach_copy_(
            gradients, [s.view_as(g) for s, g in zip(sums, gradients, strict=True)]
        )
        return total.squeeze()

    def clock(self, now: Callable[[], float] = time.monotonic) -> Callable[[], float]:
        """Return a clock that is that of the first process in all of them.

        It raises KeyboardInterrupt in all processes, once, after any of them received a signal.
        """
        return now if self.count == 1 else lambda: self._shared_time(now)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Note a signal, which the clock raises: a handler."""
        self._signalled = True

    def _shared_time(self, now: Callable[[], float]) -> float:
        seconds = now() if self.is_first else -math.inf
        shared = torch.tensor([seconds, self._signalled], dtype=torch.float64)
        with _connected():
            dist.all_reduce(shared, dist.ReduceOp.MAX)
        if shared[1] and not self._interrupted:
            self._interrupted = True
            raise KeyboardInterrupt
        return shared[0].item()


ALONE = Processes()


@contextmanager
def _connected() -> Iterator[None]:
    """Raise DeviceError where another process has ended."""
    try:
        yield
    except RuntimeError as error:
        raise DeviceError(
            "another process of this training has ended", hint="see its message"
        ) from error


@contextmanager
def join_processes(device: str) -> Iterator[tuple[Processes, torch.device]]:
    """Join the other processes of this training, if any; yield them and the device of this one.

    device: as for pick_device; `cuda` and `auto` give each process of a machine its own GPU.
    In the context, a signal ends all processes together after the current step, and further ones
    have no effect. Raises UsageError, DeviceMissing.
    """
    launched = launch()
    if launched is None:
        yield ALONE, pick_device(device)
        return
    local = _device_of_process(device, launched.local_rank)
    if local.type == "cuda":
        torch.cuda.set_device(local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if local.type == "cuda" else "gloo")
    processes = Processes(launched.rank, launched.count)
    try:
        with handled(processes.note):  # torchrun sends each signal twice
            yield processes, local
    finally:
        dist.destroy_process_group()


def _device_of_process(name: str, local_rank: int) -> torch.device:
    """Return the device of a process, number `local_rank` on its machine."""
    device = pick_device(name)
    if device.type == "mps" or device.index is not None:
        raise UsageError(
            f"several processes cannot share --device {name}",
            hint="use --device cuda for one GPU per process, or --device cpu",
        )
    return pick_device(f"cuda:{local_rank}") if device.type == "cuda" else device


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return summed(gradients[0].contiguous())


def summed(x: Tensor) -> Tensor:
    """Return the sum of x over all processes, differentiable."""
    total: Tensor = _SumOverProcesses.apply(x)  # type: ignore[no-untyped-call]
    return total


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm by the statistics of the whole batch; nn.SyncBatchNorm refuses a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values = x.float()
        sums = values.sum((0, 2, 3))
        pixels = sums.new_tensor([x.numel() // x.shape[1]])
        totals = summed(torch.cat([sums, pixels]))
        count = totals[-1].detach()
        mean = totals[:-1] / count
        centred = values - mean[:, None, None]
        variance = summed(centred.square().sum((0, 2, 3))) / count
        self._update(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    def _update(self, mean: Tensor, variance: Tensor) -> None:
        for running, value in ((self.running_mean, mean), (self.running_var, variance)):
            assert running is not None
            assert self.momentum is not None
            running.lerp_(value, self.momentum)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)


def share_batches(network: nn.Module, share: Share) -> None:
    """Let the layers that see more than one image see a share as a part of the whole batch."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = SharedBatchNorm2d
        elif isinstance(module, DropPath):
            module.share = (share.batch, share.rows)
