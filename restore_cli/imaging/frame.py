"""Detection of borders of one colour, such as the bars of a film or a mount."""

from __future__ import annotations

import torch
from torch import Tensor

SAME = 2.5 / 255  # largest channel difference from the colour of the frame
BLACK = 4.5 / 255  # highest level of a black frame
LEAST_INSIDE = 16  # pixels per side of a framed image
STRAIGHT = 0.5  # share of an inner edge that differs from a frame other than black

Box = tuple[slice, slice]


def inside_frame(pixels: Tensor) -> Box:
    """Return the rows and columns of `pixels` (C, H, W) inside its frame; all without a frame.

    A margin that continues a backdrop is not a frame: most pixels along the inner edge must
    differ from it. A black frame needs no such edge.
    """
    height, width = pixels.shape[-2:]
    rows, columns = slice(0, height), slice(0, width)
    for row, column in (
        (0, 0),
        (height - 1, width - 1),
    ):  # a bar on one side has one of them
        colour = pixels[:, row, column, None, None]
        inner = pixels[:, rows, columns]
        sides = (inner[:, 0], inner[:, -1], inner[..., 0], inner[..., -1])
        if all(((side - colour[..., 0]).abs() > SAME).any() for side in sides):
            continue  # no side has one colour: the most common case, and the cheapest
        differs = torch.zeros(inner.shape[-2:], dtype=torch.bool)
        for channel, level in zip(inner, colour, strict=True):
            differs |= (channel - level).abs() > SAME
        down, across = _extent(differs.any(1)), _extent(differs.any(0))
        if min(down.stop - down.start, across.stop - across.start) < LEAST_INSIDE:
            continue
        if colour.max() > BLACK and not _has_straight_edges(differs, down, across):
            continue
        rows = slice(rows.start + down.start, rows.start + down.stop)
        columns = slice(columns.start + across.start, columns.start + across.stop)
    return rows, columns


def _extent(occupied: Tensor) -> slice:
    """Return the shortest slice that covers all True values of a vector."""
    places = occupied.nonzero()
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


def _has_straight_edges(differs: Tensor, down: slice, across: slice) -> bool:
    """Return True if the content fills most of each edge that it shares with the frame."""
    height, width = differs.shape
    inner = differs[down, across]
    edges = [
        (down.start > 0, inner[0]),
        (down.stop < height, inner[-1]),
        (across.start > 0, inner[:, 0]),
        (across.stop < width, inner[:, -1]),
    ]
    return all(edge.float().mean() >= STRAIGHT for framed, edge in edges if framed)
