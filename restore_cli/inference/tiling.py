"""Plans of tiles, from sizes alone; functions that cut a tile out and blend it back in.

A tile is a core, which it alone owns, and `overlap` pixels of context on each interior side. It
ends at the true border of the image, where networks pad by themselves. With a context as wide
as the receptive radius the tiled result equals the whole one. With less, a cosine cross-fade of
`blend` pixels, centred on each border between cores, hides the difference.

Where a network wants sizes that are a multiple of something, the image is padded to it first
(`pad_to_multiple`), and tiles begin and end on that grid: then a network that shrinks inside
samples each tile at the pixels at which it would sample the whole image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from restore_cli.imaging.transfer import CPU


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in input pixels: what is read, and what of it is kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int
    fade_in: int  # pixels at the start of what is kept that are shared with the tile before
    fade_out: int

    def counted_from(self, origin: int) -> Span:
        """Return the span as counted from `origin`."""
        return replace(
            self,
            start=self.start - origin,
            stop=self.stop - origin,
            keep_start=self.keep_start - origin,
            keep_stop=self.keep_stop - origin,
        )


@dataclass(frozen=True)
class TilePlan:
    """The tiles of one image: each row span with each column span."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[tuple[Span, Span]]:
        return ((row, column) for row in self.rows for column in self.columns)


def plan_axis(
    size: int, tile: int | None, overlap: int, blend: int, multiple: int = 1
) -> tuple[Span, ...]:
    """Return spans of equal cores, none longer than `tile`, that cover `size` pixels.

    size is a multiple of `multiple`, and so become the bounds of all that is read and owned; a
    tile below `multiple` counts as `multiple`.
    """
    if tile is None:
        core = size
    else:
        longest = max(tile - tile % multiple, multiple)
        core = round_up(math.ceil(size / math.ceil(size / longest)), multiple)
    count = math.ceil(size / core)
    half = min(blend // 2, overlap, core // 2)
    context = round_up(overlap, multiple)
    spans = []
    for index in range(count):
        start, stop = index * core, min((index + 1) * core, size)
        first, last = index == 0, index == count - 1
        # The last core may be short; a fade may not reach beyond the image.
        fade_in = 0 if first else min(half, size - start)
        fade_out = 0 if last else min(half, size - stop)
        spans.append(
            Span(
                start=max(0, start - context),
                stop=min(size, stop + context),
                keep_start=start - fade_in,
                keep_stop=stop + fade_out,
                fade_in=2 * fade_in,
                fade_out=2 * fade_out,
            )
        )
    return tuple(spans)


def plan_tiles(
    height: int,
    width: int,
    *,
    tile: int | None,
    overlap: int,
    blend: int,
    multiple: int = 1,
    rows: int | None = None,
) -> TilePlan:
    """Return tiles whose cores are at most `tile` pixels a side; None: the whole image is one.

    rows: height of the cores, at most, where that is less.
    """
    tall = min((side for side in (tile, rows) if side is not None), default=None)
    return TilePlan(
        plan_axis(height, tall, overlap, blend, multiple),
        plan_axis(width, tile, overlap, blend, multiple),
    )


def pad_to_multiple(image: Tensor, multiple: int, least: int = 1) -> Tensor:
    """Pad (B, C, H, W) at the bottom and right to multiples of `multiple`, `least` or more.

    By reflection about the border pixel; beyond the end of the reflection its last pixel repeats.
    """
    for axis in (-2, -1):
        missing = round_up(max(image.shape[axis], least), multiple) - image.shape[axis]
        reflected = min(missing, image.shape[axis] - 1)
        for count, mode in ((reflected, "reflect"), (missing - reflected, "replicate")):
            if count:
                pad = (0, 0, 0, count) if axis == -2 else (0, count, 0, 0)
                image = F.pad(image, pad, mode=mode)
    return image


def cut(image: Tensor, row: Span, column: Span) -> Tensor:
    """Return the part of the image that the tile reads, a view."""
    return image[..., row.start : row.stop, column.start : column.stop]


def kept(output: Tensor, row: Span, column: Span, scale: int = 1) -> Tensor:
    """Return the part of the output that the tile keeps, a view; `scale`: output / cut size."""
    return output[..., _inside(row, scale), _inside(column, scale)]


def place(result: Tensor, row: Span, column: Span, scale: int = 1) -> Tensor:
    """Return the place in the result of the kept part of the tile, a view."""
    return result[
        ...,
        row.keep_start * scale : row.keep_stop * scale,
        column.keep_start * scale : column.keep_stop * scale,
    ]


def blend_in(result: Tensor, core: Tensor, row: Span, column: Span, scale: int = 1) -> None:
    """Add the kept part of a tile, `core`, to the result, faded towards its neighbours."""
    down, across = (fade_window(span, scale, core.device) for span in (row, column))
    faded = core * down[:, None] * across
    place(result, row, column, scale).add_(faded)


def fade_window(span: Span, scale: int = 1, device: torch.device = CPU) -> Tensor:
    """Return the weight of each kept output pixel along an axis; neighbouring windows sum to 1."""
    length = (span.keep_stop - span.keep_start) * scale
    return _window(length, span.fade_in * scale, span.fade_out * scale, device)


@lru_cache(maxsize=64)  # the tiles of a plan have at most a few different windows
def _window(length: int, fade_in: int, fade_out: int, device: torch.device) -> Tensor:
    window = torch.ones(length)
    window[:fade_in] *= _ramp(fade_in)
    window[length - fade_out :] *= _ramp(fade_out).flip(0)
    return window.to(device)


def _ramp(length: int) -> Tensor:
    return (1 - torch.cos(math.pi * (torch.arange(length) + 0.5) / length)) / 2


def _inside(span: Span, scale: int) -> slice:
    return slice((span.keep_start - span.start) * scale, (span.keep_stop - span.start) * scale)


def round_up(size: int, multiple: int) -> int:
    """Return the least multiple that is not below `size`."""
    return math.ceil(size / multiple) * multiple
