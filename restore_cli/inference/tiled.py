"""Blocks in tiles that share their global averages; the result equals that of the whole image.

A network whose only global operation is `layers.GlobalAverage`, as channel attention has it, is
exact in tiles if all tiles take the averages of the whole image. So the image goes through the
network block by block, and through each block tile by tile, several times: the first pass over the
tiles finds the first average, with it the second pass comes to the second, until the last pass has
them all and gives the result. A tile needs no more context than one block sees besides its
averages. What that saves and costs is measured in docs/tiling.md.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from restore_cli.errors import UsageError
from restore_cli.inference.blockwise import averages, current_run
from restore_cli.inference.tiling import Span, TilePlan, cut, kept, place, plan_tiles
from restore_cli.networks.facts import Facts

KEPT = 4  # feature maps of the whole image at once, at the end of a group of blocks


class _Unknown(Exception):
    """The next average depends on others that are not known yet."""


class GlobalMeans:
    """Averages of a block over the whole image, in the order in which the block takes them.

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

    def begin_tile(self, row: Span, column: Span) -> None:
        """Begin a tile of the pass."""
        self._tile, self._next = (row, column), 0
        if self._sums:
            self._last = max(self._sums)

    def end_pass(self) -> bool:
        """End a pass over all tiles; return whether it has found new averages."""
        for index in sorted(self._sums):
            self.known.append(self._sums[index] / self._pixels[index])
        found = bool(self._sums)
        self._sums, self._pixels, self._last = {}, {}, None
        return found

    def of_image(self, features: Tensor, tile_mean: Tensor) -> Tensor:
        """Return the average over the image in place of that of the tile; NaN: not known yet."""
        index, self._next = self._next, self._next + 1
        if index < len(self.known):
            return self.known[index].to(tile_mean.dtype)
        core = self._core(features)
        total = core.sum((-2, -1), keepdim=True, dtype=torch.float64)
        # The first tile of a pass shows which averages are known; testing waits for the GPU.
        if self._last is None and total.isnan().any():
            raise _Unknown
        self._sums[index] = self._sums.get(index, 0) + total
        self._pixels[index] = self._pixels.get(index, 0) + core.shape[-2:].numel()
        if index == self._last:
            raise _Unknown
        return torch.full_like(tile_mean, torch.nan)

    def _core(self, features: Tensor) -> Tensor:
        """Return the features of the pixels that the tile owns, at their resolution."""
        row, column = self._tile
        return features[..., _owned(row, features.shape[-2]), _owned(column, features.shape[-1])]


def _owned(span: Span, size: int) -> slice:
    """Return the kept part of a span whose length is `size` features."""
    start, stop = span.keep_start - span.start, span.keep_stop - span.start
    length = span.stop - span.start
    return slice(start * size // length, stop * size // length)


class TiledBlock(nn.Module):
    """A block in tiles that share their averages.

    radius: in input pixels, of the block apart from its averages. scale: output / input size.
    """

    def __init__(self, block: nn.Module, *, radius: int, multiple: int, scale: int = 1):
        super().__init__()
        self.block, self.radius = block, radius
        self.multiple, self.scale = multiple, scale
        for average in averages(block):
            average.register_forward_hook(_shared_mean)

    def forward(self, x: Tensor, *others: object) -> Tensor:
        plan = plan_tiles(
            *x.shape[-2:],
            tile=current_run().tile,
            overlap=self.radius,
            blend=0,
            multiple=self.multiple,
        )
        result = self._tiled(plan, x, others) if len(plan) > 1 else _last(self.block(x, *others))
        current_run().block_done()
        return result

    def _tiled(self, plan: TilePlan, x: Tensor, others: tuple[object, ...]) -> Tensor:
        result: Tensor | None = None
        height, width = (side * self.scale for side in x.shape[-2:])
        means = GlobalMeans()
        with _sharing(means):
            more = True
            while more:
                for row, column in plan:
                    means.begin_tile(row, column)
                    try:
                        output = _last(self.block(cut(x, row, column), *others))
                    except _Unknown:
                        continue
                    if result is None:
                        size = (*output.shape[:2], height, width)
                        result = output.new_full(size, torch.nan)
                    core = kept(output, row, column, self.scale)
                    place(result, row, column, self.scale).copy_(core)
                more = means.end_pass()
        # Broken weights leave every tile unknown.
        return x.new_full((*x.shape[:2], height, width), torch.nan) if result is None else result


def _last(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    return output[-1] if isinstance(output, tuple) else output


_means: ContextVar[GlobalMeans | None] = ContextVar("means", default=None)  # of each thread


@contextmanager
def _sharing(means: GlobalMeans) -> Iterator[None]:
    """Replace the averages of the blocks that run in this thread by `means`, while it lasts."""
    token = _means.set(means)
    try:
        yield
    finally:
        _means.reset(token)


def _shared_mean(module: nn.Module, inputs: tuple[Tensor, ...], tile_mean: Tensor) -> Tensor:
    """Forward hook of GlobalAverage."""
    means = _means.get()
    return tile_mean if means is None else means.of_image(inputs[0], tile_mean)


def share_statistics(network: nn.Module, facts: Facts, name: str) -> nn.Module:
    """Return a copy of `network` with each block that averages over the image in tiles.

    Such a block has a `radius`; the whole network is one if its facts give the `local_radius`.
    Outside of blocks the network sees the whole image. Raises UsageError without such blocks.
    """
    if facts.local_radius is not None:
        return TiledBlock(
            copy.deepcopy(network),
            radius=facts.local_radius,
            multiple=facts.multiple,
            scale=facts.network_scale,
        )
    if not any(_is_block(module) for module in list(network.modules())[1:]):
        raise UsageError(
            f"{name} may have global operations, which its tiles cannot share, so "
            "--tile exact would not be exact",
            hint="use --tile off for the whole image, or --tile auto",
        )
    network = copy.deepcopy(network)
    _replace_blocks(network, facts.multiple)
    return network


def _is_block(module: nn.Module) -> bool:
    return hasattr(module, "radius") and bool(averages(module))


def _replace_blocks(parent: nn.Module, multiple: int) -> None:
    for name, child in list(parent.named_children()):
        if _is_block(child):
            setattr(parent, name, TiledBlock(child, radius=int(child.radius), multiple=multiple))  # type: ignore[arg-type]
        else:
            _replace_blocks(child, multiple)


def tiled_blocks(network: nn.Module) -> list[TiledBlock]:
    """Return the blocks of a network that run in tiles, in their order."""
    return [module for module in network.modules() if isinstance(module, TiledBlock)]


def kept_bytes(network: nn.Module) -> int:
    """Return the memory for each pixel of the whole image between two blocks, in float32."""
    blocks = (module for block in tiled_blocks(network) for module in list(block.modules()))
    first = next((module for module in blocks if isinstance(module, nn.Conv2d)), None)
    return 0 if first is None else KEPT * 4 * first.in_channels
