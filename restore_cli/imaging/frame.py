"""Detection of borders of one colour, such as the bars of a film or a mount."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from restore_cli.imaging.planes import Planes

SAME = 2.5 / 255  # largest channel difference from the colour of the frame
BLACK = 4.5 / 255  # highest level of a black frame
LEAST_INSIDE = 16  # pixels per side of a framed image
STRAIGHT = 0.5  # share of an inner edge that differs from a frame other than black

Box = tuple[slice, slice]


def inside_frame(pixels: Tensor | Planes) -> Box:
    """Return the rows and columns of `pixels` (C, H, W) inside its frame; all without a frame.

    A margin that continues a backdrop is not a frame: most pixels along the inner edge must
    differ from it. A black frame needs no such edge.
    """
    planes = Planes.of(pixels)
    rows, columns = slice(0, planes.height), slice(0, planes.width)
    for row, column in (
        (0, 0),
        (planes.height - 1, planes.width - 1),
    ):  # a bar on one side has one of them
        colour = planes.read(row, row + 1)[:, :, column, None]
        inner = planes.inside(rows, columns)
        if all(edge.any() for edge in _edges(inner, colour)):
            continue  # no side has one colour: the most common case, and the cheapest
        down, across = _extents(inner, colour)
        if min(down.stop - down.start, across.stop - across.start) < LEAST_INSIDE:
            continue
        if colour.max() > BLACK and not _has_straight_edges(inner, colour, down, across):
            continue
        rows = slice(rows.start + down.start, rows.start + down.stop)
        columns = slice(columns.start + across.start, columns.start + across.stop)
    return rows, columns


def _differs(pixels: Tensor, colour: Tensor) -> Tensor:
    """Tell for each of the pixels (C, h, W) whether it differs from a colour (C, 1, 1)."""
    result = torch.zeros(pixels.shape[-2:], dtype=torch.bool, device=pixels.device)
    for channel, level in zip(pixels, colour, strict=True):
        result |= (channel - level).abs() > SAME
    return result


def _edges(planes: Planes, colour: Tensor) -> Iterator[Tensor]:
    """Tell for the pixels of each edge, top, bottom, left, right, whether they differ."""
    yield _differs(planes.read(0, 1), colour)
    yield _differs(planes.read(planes.height - 1, planes.height), colour)
    for column in (0, -1):
        strips = (_differs(strip[..., column, None], colour) for strip in planes.strips())
        yield torch.cat([*strips])


def _extents(planes: Planes, colour: Tensor) -> Box:
    """Return the shortest rows and columns that cover all pixels that differ."""
    down, across = [], torch.zeros(planes.width, dtype=torch.bool, device=colour.device)
    for strip in planes.strips():
        differs = _differs(strip, colour)
        down.append(differs.any(1))
        across |= differs.any(0)
    return _extent(torch.cat(down)), _extent(across)


def _extent(occupied: Tensor) -> slice:
    """Return the shortest slice that covers all True values of a vector."""
    places = occupied.nonzero()
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


def _has_straight_edges(planes: Planes, colour: Tensor, down: slice, across: slice) -> bool:
    """Return True if the content fills most of each edge that it shares with the frame."""
    framed = (
        down.start > 0,
        down.stop < planes.height,
        across.start > 0,
        across.stop < planes.width,
    )
    edges = zip(framed, _edges(planes.inside(down, across), colour), strict=True)
    return all(edge.float().mean() >= STRAIGHT for framed, edge in edges if framed)
