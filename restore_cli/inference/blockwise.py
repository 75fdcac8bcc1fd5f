"""Local blocks of a network, run tile by tile so that their features stay in the caches.

A tile of an image needs the context of the whole network, whose results are discarded. A tile of
one block needs only the context of that block: the receptive radius of DPENet is 181 pixels, that
of its blocks 16. So the image goes through the first block tile by tile, then through the second.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, nn

from restore_cli.inference.tiling import cut, kept, place, plan_tiles
from restore_cli.networks.layers import GlobalAverage

# Pixels a side, as measured: below, the overlap costs more; above, features leave the caches. With
# its context, in float32 and 32 channels, a tile takes 22 MB; from 32 MB on, glibc would not reuse
# the memory, and each result would cost new pages.
SIDE = 384


@dataclass(frozen=True)
class BlockRun:
    """Tile side and progress of the blocks while one image goes through them."""

    tile: int | None = None  # side of the tiles of a TiledBlock; None: the whole image
    on_block: Callable[[], None] | None = None  # called after each block

    def block_done(self) -> None:
        if self.on_block is not None:
            self.on_block()


WHOLE = BlockRun()
# Each thread has its own, so that one network serves several.
_current: ContextVar[BlockRun] = ContextVar("current", default=WHOLE)


@contextmanager
def blocks_of(tile: int | None, on_block: Callable[[], None] | None = None) -> Iterator[None]:
    """Set the tile side and the progress of the blocks that run in this thread."""
    token = _current.set(BlockRun(tile, on_block))
    try:
        yield
    finally:
        _current.reset(token)


def current_run() -> BlockRun:
    """Return the tile side and progress of this thread."""
    return _current.get()


class BlockwiseSequential(nn.Module):
    """A chain of blocks that keep the size and each see `radius` pixels far.

    The result is that of the chain; the input is overwritten: two images take turns as source
    and target of a block, since fresh memory for each would cost a fifth of the time.
    """

    def __init__(self, blocks: nn.Sequential, side: int = SIDE):
        super().__init__()
        self.blocks = blocks
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        if max(x.shape[-2:]) <= self.side:
            whole: Tensor = self.blocks(x)
            return whole
        result = torch.empty_like(x)
        for block in self.blocks:
            radius = int(block.radius)  # type: ignore[arg-type]
            for row, column in plan_tiles(*x.shape[-2:], tile=self.side, overlap=radius, blend=0):
                place(result, row, column).copy_(kept(block(cut(x, row, column)), row, column))
            x, result = result, x
            current_run().block_done()
        return x


def blockwise(network: nn.Module, side: int = SIDE) -> nn.Module:
    """Return a copy of `network` whose chains of blocks that name their radius run in tiles.

    A network without such chains is returned as it is.
    """
    if not any(_is_local(module) for module in network.modules()):
        return network
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if _is_local(child):
                setattr(parent, name, BlockwiseSequential(child, side))
    return network


def blockwise_chains(network: nn.Module) -> list[BlockwiseSequential]:
    """Return the chains of a network that run in tiles, in the order in which they run."""
    return [module for module in network.modules() if isinstance(module, BlockwiseSequential)]


def averages(network: nn.Module) -> list[nn.Module]:
    """Return the averages over the whole image that a network takes."""
    return [module for module in network.modules() if isinstance(module, GlobalAverage)]


def _is_local(module: nn.Module) -> TypeGuard[nn.Sequential]:
    if not isinstance(module, nn.Sequential) or len(module) == 0:
        return False
    return all(hasattr(block, "radius") and not averages(block) for block in module)
