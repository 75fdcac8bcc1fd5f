"""MIRNet in tiles, equal to the whole image: all tiles share the averages of the whole.

Its attention weighs channels by their averages over the image; a tile by itself would take its
own. So the network goes through the image block by block, and through each block tile by tile,
several times: the first pass over the tiles finds the first average, with it the second pass comes
to the second, until the last pass has them all and gives the result. A tile needs no more context
than one block sees besides its averages.

What is kept between two blocks are their features, for the whole image; what this saves, and what
it costs, is told in docs/tiling.md.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from restore_cli.inference.blockwise import current_run
from restore_cli.inference.tiling import Span, TilePlan, cut, kept, place, plan_tiles
from restore_cli.networks.mirnet.model import MRB, GlobalAverage

KEPT = 4  # maps of features at once, at the end of a group of blocks


class _Unknown(Exception):
    """The next average depends on others that are not known yet."""


class GlobalMeans:
    """Those that a block takes, in the order in which it takes them.

    One that is not known yet is NaN, and so becomes all that depends on it. Several that do not
    depend on each other are thus found in one pass.
    """

    def __init__(self) -> None:
        self.known: list[Tensor] = []
        self._sums: dict[int, Tensor] = {}  # of this pass, by their place in the order
        self._pixels: dict[int, int] = {}
        self._tile: tuple[Span, Span]
        self._next = 0  # place of the average that the tile comes to next
        self._last: int | None = None  # of this pass, once its first tile has shown it

    def begin(self, row: Span, column: Span) -> None:
        """A tile begins its way through the block."""
        self._tile, self._next = (row, column), 0
        if self._sums:
            self._last = max(self._sums)

    def settle(self) -> bool:
        """Whether the pass over all tiles has found averages that were not known before."""
        for index in sorted(self._sums):
            self.known.append(self._sums[index] / self._pixels[index])
        found = bool(self._sums)
        self._sums, self._pixels, self._last = {}, {}, None
        return found

    def taken(self, module: nn.Module, inputs: tuple[Tensor, ...], own: Tensor) -> Tensor:
        """What stands for the average `own` of a tile; a forward hook of GlobalAverage."""
        index, self._next = self._next, self._next + 1
        if index < len(self.known):
            return self.known[index].to(own.dtype)
        features = self._core(inputs[0])
        total = features.sum((-2, -1), keepdim=True, dtype=torch.float64)
        if total.isnan().any():
            raise _Unknown
        self._sums[index] = self._sums.get(index, 0) + total
        self._pixels[index] = self._pixels.get(index, 0) + features.shape[-2:].numel()
        if index == self._last:
            raise _Unknown
        return torch.full_like(own, torch.nan)

    def _core(self, features: Tensor) -> Tensor:
        """What the tile alone owns; a coarser stream has a part of its pixels."""
        row, column = self._tile
        coarser = (row.stop - row.start) // features.shape[-2]
        top, left = row.keep_start - row.start, column.keep_start - column.start
        height, width = row.keep_stop - row.keep_start, column.keep_stop - column.keep_start
        return features[
            ...,
            top // coarser : (top + height) // coarser,
            left // coarser : (left + width) // coarser,
        ]


class TiledBlock(nn.Module):
    """A block of MIRNet in tiles that share their averages; the result is that of the block."""

    def __init__(self, block: MRB, multiple: int):
        super().__init__()
        self.block, self.multiple = block, multiple
        for module in block.modules():
            if isinstance(module, GlobalAverage):
                module.register_forward_hook(_shared_mean)

    def forward(self, x: Tensor, prelu: nn.PReLU) -> Tensor:
        plan = plan_tiles(
            *x.shape[-2:],
            tile=current_run().tile,
            overlap=self.block.reach,
            blend=0,
            multiple=self.multiple,
        )
        result: Tensor = self._tiled(plan, x, prelu) if len(plan) > 1 else self.block(x, prelu)
        current_run().block_done()
        return result

    def _tiled(self, plan: TilePlan, x: Tensor, prelu: nn.PReLU) -> Tensor:
        result = torch.full_like(x, torch.nan)
        averages = GlobalMeans()
        with _sharing(averages):
            more = True
            while more:
                for row, column in plan:
                    averages.begin(row, column)
                    try:
                        answer = self.block(cut(x, row, column), prelu)
                    except _Unknown:
                        continue
                    place(result, row, column).copy_(kept(answer, row, column))
                more = averages.settle()
        return result


_means: ContextVar[GlobalMeans | None] = ContextVar("means", default=None)  # of each thread


@contextmanager
def _sharing(means: GlobalMeans) -> Iterator[None]:
    """Replace the averages of the blocks that run in this thread by `means`, while it lasts."""
    token = _means.set(means)
    try:
        yield
    finally:
        _means.reset(token)


def _shared_mean(module: nn.Module, inputs: tuple[Tensor, ...], own: Tensor) -> Tensor:
    means = _means.get()
    return own if means is None else means.taken(module, inputs, own)


def share_statistics(network: nn.Module, multiple: int) -> nn.Module:
    """`network` with each block that averages over the image to be run in tiles.

    Its weights are a copy.
    """
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, MRB):
                setattr(parent, name, TiledBlock(child, multiple))
    return network


def tiled_blocks(network: nn.Module) -> list[TiledBlock]:
    """The blocks of a network that run in step, in the order in which they run."""
    return [module for module in network.modules() if isinstance(module, TiledBlock)]


def kept_bytes(network: nn.Module) -> int:
    """Of memory for each pixel of the whole image, in float32."""
    channels = max((block.block.conv.out_channels for block in tiled_blocks(network)), default=0)
    return KEPT * 4 * channels
