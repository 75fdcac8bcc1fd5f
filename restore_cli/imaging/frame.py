"""Frames of one colour around an image: the bars of a film, a mount."""

from __future__ import annotations

import torch
from torch import Tensor

SAME = 2.5 / 255  # channel difference up to which a pixel has the color of the frame
BLACK = 4.5 / 255  # level up to which a frame is black
LEAST_INSIDE = 16  # pixels a side; less is not an image with a frame
STRAIGHT = 0.5  # share of an inner edge that differs from a frame that is not black

Box = tuple[slice, slice]


def inside_frame(pixels: Tensor) -> Box:
    """Return the rows and columns of `pixels` (C, H, W) inside its frame, all without one.

    A margin that merely continues a backdrop is not a frame: along its inner edge most pixels
    must differ. Black needs no such edge, because black stays black on either side.
    """
    height, width = pixels.shape[-2:]
    rows, columns = slice(0, height), slice(0, width)
    for row, column in ((0, 0), (height - 1, width - 1)):  # bars on one side have one corner
        color = pixels[:, row, column, None, None]
        inner = pixels[:, rows, columns]
        sides = (inner[:, 0], inner[:, -1], inner[..., 0], inner[..., -1])
        if all(((side - color[..., 0]).abs() > SAME).any() for side in sides):
            continue  # no side is of one color: the most common case, and the cheapest
        differs = torch.zeros(inner.shape[-2:], dtype=torch.bool)
        for channel, level in zip(inner, color, strict=True):
            differs |= (channel - level).abs() > SAME
        down, across = _extent(differs.any(1)), _extent(differs.any(0))
        if min(down.stop - down.start, across.stop - across.start) < LEAST_INSIDE:
            continue
        if color.max() > BLACK and not _has_straight_edges(differs, down, across):
            continue
        rows = slice(rows.start + down.start, rows.start + down.stop)
        columns = slice(columns.start + across.start, columns.start + across.stop)
    return rows, columns


def _extent(occupied: Tensor) -> slice:
    """Return the shortest slice that holds all that is true."""
    places = occupied.nonzero()
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


def _has_straight_edges(differs: Tensor, down: slice, across: slice) -> bool:
    """Whether the content fills most of each edge that it shares with the frame."""
    height, width = differs.shape
    inner = differs[down, across]
    edges = [
        (down.start > 0, inner[0]),
        (down.stop < height, inner[-1]),
        (across.start > 0, inner[:, 0]),
        (across.stop < width, inner[:, -1]),
    ]
    return all(edge.float().mean() >= STRAIGHT for framed, edge in edges if framed)
