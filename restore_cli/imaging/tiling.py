"""Where to cut a picture into tiles, from sizes alone.

A tile is a core, which it alone owns, and `overlap` pixels of context on each interior side.
With a context as wide as the receptive radius the tiled result equals the whole one. With less, a
cosine cross-fade of `blend` pixels, centred on each border between cores, hides the difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in input pixels: what is read, and what of it is kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int
    fade_in: int  # pixels at the start of what is kept that are shared with the tile before
    fade_out: int


@dataclass(frozen=True)
class TilePlan:
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[tuple[Span, Span]]:
        return ((row, column) for row in self.rows for column in self.columns)


def plan_axis(size: int, tile: int | None, overlap: int, blend: int) -> tuple[Span, ...]:
    """Spans of equal cores, none longer than `tile`, that cover `size` pixels."""
    count = 1 if tile is None else math.ceil(size / tile)
    core = math.ceil(size / count)
    count = math.ceil(size / core)
    half = min(blend // 2, overlap, core // 2)
    spans = []
    for index in range(count):
        start, stop = index * core, min((index + 1) * core, size)
        first, last = index == 0, index == count - 1
        # The last core may be short; a fade may not reach beyond the picture.
        fade_in = 0 if first else min(half, size - start)
        fade_out = 0 if last else min(half, size - stop)
        spans.append(
            Span(
                start=max(0, start - overlap),
                stop=min(size, stop + overlap),
                keep_start=start - fade_in,
                keep_stop=stop + fade_out,
                fade_in=2 * fade_in,
                fade_out=2 * fade_out,
            )
        )
    return tuple(spans)


def plan_tiles(height: int, width: int, *, tile: int | None, overlap: int, blend: int) -> TilePlan:
    """Tiles whose cores are at most `tile` pixels on a side; None: the whole picture is one."""
    return TilePlan(plan_axis(height, tile, overlap, blend), plan_axis(width, tile, overlap, blend))


def fade_window(span: Span, scale: int = 1) -> Tensor:
    """Weight of each kept output pixel along one axis; neighbouring windows sum to one."""
    window = torch.ones((span.keep_stop - span.keep_start) * scale)
    for length, flip in ((span.fade_in * scale, False), (span.fade_out * scale, True)):
        if length:
            ramp = (1 - torch.cos(math.pi * (torch.arange(length) + 0.5) / length)) / 2
            if flip:
                window[-length:] *= ramp.flip(0)
            else:
                window[:length] *= ramp
    return window
