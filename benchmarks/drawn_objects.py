"""Procedural images of one object each, in which repeated objects can be counted.

Every image is a saturated, shaded object in the middle of a pale background. The object is half as
wide as the image, +-10 %, so that a generator learns its size precisely: beyond the trained size,
generators repeat objects. Shapes are signed distances (negative inside) over
coordinates in which an object fills the unit disc, x to the right and y down.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from restore_cli.data.degrade import uniform

Colour = tuple[float, float, float]
Part = tuple[Tensor, Colour]  # distance (H, W) in object units, and its colour

SUPERSAMPLING = 4
RADIUS = 0.25  # of the object, in sides of a square image
JITTER = 0.1  # of the radius and, in radii, of the position
WHITE: Colour = (0.96, 0.95, 0.92)
BROWN: Colour = (0.36, 0.2, 0.1)
CREAM: Colour = (0.93, 0.8, 0.55)


def draw_object(name: str, size: tuple[int, int], generator: Generator) -> Tensor:
    """Draw an image (3, H, W) in [0, 1] of a class of DRAWERS; size: (H, W), at most 1:2."""
    height, width = (side * SUPERSAMPLING for side in size)
    side = math.sqrt(height * width)  # of the square of the same area
    radius = RADIUS * side * uniform(1 - JITTER, 1 + JITTER, generator)
    across, down = (RADIUS * side * uniform(-JITTER, JITTER, generator) for _ in range(2))
    x = (torch.arange(width)[None, :] + 0.5 - width / 2 - across) / radius
    y = (torch.arange(height)[:, None] + 0.5 - height / 2 - down) / radius
    image = ground((height, width), generator)
    light = (1.1 - 0.35 * torch.hypot(x + 0.5, y + 0.5)).clamp(0.6, 1.1)  # from the upper left
    for distance, colour in DRAWERS[name](x, y, generator):
        cover = (0.5 - distance * radius).clamp(0, 1)
        image = torch.lerp(image, torch.tensor(colour)[:, None, None] * light, cover)
    return F.avg_pool2d(image, SUPERSAMPLING).clamp(0, 1)


def ground(size: tuple[int, int], generator: Generator) -> Tensor:
    """Draw a pale, slightly cloudy background (3, H, W) with a gradient."""
    colour = hue(uniform(0, 1, generator), 0.1, uniform(0.78, 0.92, generator))
    angle, slope = uniform(0, 2 * math.pi, generator), uniform(0.0, 0.12, generator)
    down, across = (torch.linspace(-0.5, 0.5, side) for side in size)
    gradient = slope * (math.cos(angle) * across[None, :] + math.sin(angle) * down[:, None])
    clouds = 0.02 * torch.randn(1, 1, 8, 8, generator=generator)
    clouds = F.interpolate(clouds, size, mode="bicubic", align_corners=False)[0, 0]
    return (torch.tensor(colour)[:, None, None] + gradient + clouds).clamp(0, 1)


def hue(turn: float, saturation: float, value: float) -> Colour:
    return colorsys.hsv_to_rgb(turn % 1, saturation, value)


def vivid(turns: tuple[float, float], generator: Generator) -> Colour:
    """Draw a strong colour of a hue in a range, in turns of the colour wheel."""
    return hue(uniform(*turns, generator), uniform(0.7, 0.95, generator), 0.9)


# Shapes


def disc(x: Tensor, y: Tensor, across: float, down: float, radius: float) -> Tensor:
    return torch.hypot(x - across, y - down) - radius


def ellipse(x: Tensor, y: Tensor, across: float, down: float, wide: float, high: float) -> Tensor:
    """Return a distance that is exact at the edge only, which suffices for drawing."""
    return (torch.hypot((x - across) / wide, (y - down) / high) - 1) * min(wide, high)


def box(x: Tensor, y: Tensor, across: float, down: float, wide: float, high: float) -> Tensor:
    """Return the distance to a box; wide, high: half the sides."""
    return torch.maximum((x - across).abs() - wide, (y - down).abs() - high)


def polygon(x: Tensor, y: Tensor, corners: Iterable[tuple[float, float]]) -> Tensor:
    """Return the distance to a convex polygon; corners clockwise, y downwards."""
    points = list(corners)
    distance = torch.full_like(x + y, -math.inf)
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        length = math.hypot(x1 - x0, y1 - y0)
        out = ((x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)) / length
        distance = torch.maximum(distance, out)
    return distance


# Classes


def ball(x: Tensor, y: Tensor, generator: Generator) -> list[Part]:
    """Draw a ball with a white belt."""
    outline = disc(x, y, 0, 0, 0.95)
    belt = torch.maximum(outline, (y + 0.3 * x).abs() - 0.22)
    return [(outline, vivid((0.55, 0.68), generator)), (belt, WHITE)]


def fish(x: Tensor, y: Tensor, generator: Generator) -> list[Part]:
    colour = vivid((0.02, 0.1), generator)
    tail = polygon(x, y, [(0.25, 0.0), (1.0, -0.55), (1.0, 0.55)])
    body = ellipse(x, y, -0.2, 0, 0.8, 0.52)
    eye = disc(x, y, -0.6, -0.12, 0.13)
    return [(tail, colour), (body, colour), (eye, (0.05, 0.05, 0.1))]


def heart(x: Tensor, y: Tensor, generator: Generator) -> list[Part]:
    lobes = torch.minimum(disc(x, y, -0.44, -0.3, 0.5), disc(x, y, 0.44, -0.3, 0.5))
    tip = polygon(x, y, [(0.0, -0.55), (0.86, 0.0), (0.0, 0.95), (-0.86, 0.0)])
    return [(torch.minimum(lobes, tip), vivid((0.92, 0.99), generator))]


def house(x: Tensor, y: Tensor, generator: Generator) -> list[Part]:
    walls = box(x, y, 0, 0.4, 0.66, 0.48)
    roof = polygon(x, y, [(0.0, -0.95), (0.95, -0.02), (-0.95, -0.02)])
    return [
        (walls, hue(uniform(0.1, 0.14, generator), 0.65, 0.85)),
        (roof, vivid((0.98, 1.03), generator)),
        (box(x, y, 0.25, 0.56, 0.18, 0.32), BROWN),
        (box(x, y, -0.28, 0.36, 0.18, 0.16), (0.35, 0.55, 0.8)),
    ]


def mushroom(x: Tensor, y: Tensor, generator: Generator) -> list[Part]:
    stem = box(x, y, 0, 0.45, 0.26, 0.5)
    cap = torch.maximum(ellipse(x, y, 0, 0.1, 0.95, 0.95), y - 0.12)
    spots = [(-0.42, -0.2, 0.16), (0.12, -0.5, 0.17), (0.5, -0.12, 0.14)]
    return [
        (stem, CREAM),
        (cap, vivid((0.97, 1.02), generator)),
        *((disc(x, y, *spot), WHITE) for spot in spots),
    ]


def ring(x: Tensor, y: Tensor, generator: Generator) -> list[Part]:
    return [(disc(x, y, 0, 0, 0.7).abs() - 0.25, vivid((0.75, 0.85), generator))]


def star(x: Tensor, y: Tensor, generator: Generator) -> list[Part]:
    """Draw a star of five points."""
    fifth = 2 * math.pi / 5
    turn = torch.atan2(x, -y) + uniform(-0.1, 0.1, generator)
    turn = (torch.remainder(turn + fifth / 2, fifth) - fifth / 2).abs()
    away = torch.hypot(x, y)
    px, py = away * turn.cos(), away * turn.sin()  # one point of the star lies at (1, 0)
    inner_x, inner_y = 0.45 * math.cos(fifth / 2), 0.45 * math.sin(fifth / 2)
    length = math.hypot(inner_x - 1, inner_y)
    distance = ((px - 1) * inner_y - py * (inner_x - 1)) / length
    return [(distance, vivid((0.12, 0.15), generator))]


def sunflower(x: Tensor, y: Tensor, generator: Generator) -> list[Part]:
    """Draw the flower from the front, without a stem."""
    turn = torch.atan2(y, x) + uniform(0, math.pi, generator)
    petals = torch.hypot(x, y) - (0.78 + 0.18 * torch.cos(9 * turn))
    seeds = disc(x, y, 0, 0, 0.4)
    return [(petals, vivid((0.12, 0.15), generator)), (seeds, BROWN)]


def tree(x: Tensor, y: Tensor, generator: Generator) -> list[Part]:
    """Draw a fir of two tiers."""
    colour = hue(uniform(0.3, 0.42, generator), 0.7, uniform(0.45, 0.65, generator))
    upper = polygon(x, y, [(0.0, -1.0), (0.58, -0.05), (-0.58, -0.05)])
    lower = polygon(x, y, [(0.0, -0.55), (0.8, 0.62), (-0.8, 0.62)])
    return [(box(x, y, 0, 0.75, 0.14, 0.22), BROWN), (lower, colour), (upper, colour)]


DRAWERS: Mapping[str, Callable[[Tensor, Tensor, Generator], list[Part]]] = MappingProxyType(
    {
        drawer.__name__: drawer
        for drawer in (ball, fish, heart, house, mushroom, ring, star, sunflower, tree)
    }
)
