"""Objects that resemble rain, added to clean photographs: upright bars and haze.

They appear in the degraded image and in the target alike. Pure functions of their arguments and a
torch.Generator.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from restore_cli.data.degrade import happens, log_uniform, uniform

UPRIGHT, HAZY = 0.3, 0.1  # shares of the images


def bars(
    height: int, width: int, *, period: float, thickness: float, angle: float, start: float
) -> tuple[Tensor, Tensor]:
    """Return (cover, across) of parallel bars, `angle` degrees from the vertical; both (H, W).

    cover: share of a pixel inside a bar. across: position in the bar, -1 to 1.
    period, thickness, start: pixels across the bars.
    """
    y, x = torch.meshgrid(torch.arange(0.0, height), torch.arange(0.0, width), indexing="ij")
    place = x * math.cos(math.radians(angle)) - y * math.sin(math.radians(angle)) - start
    offset = (place + period / 2).remainder(period) - period / 2
    cover = (thickness / 2 - offset.abs() + 0.5).clamp(0, 1)
    return cover, offset / max(thickness / 2, 0.5)


def add_uprights(clean: Tensor, generator: Generator) -> Tensor:
    """Add poles, a railing, blinds or window bars to an image (3, H, W), quantized to 8 bit.

    They are thin, bright and upright like streaks of rain, but belong to the scene.
    """
    from kornia.filters import gaussian_blur2d

    height, width = clean.shape[-2:]
    angle = uniform(-4, 4, generator) if happens(0.7, generator) else uniform(-25, 25, generator)
    alone = happens(0.4, generator)  # one pole instead of a row of bars
    thickness = log_uniform(1, 12 if alone else 6, generator)
    period = 4 * (height + width) if alone else thickness * uniform(1.6, 6, generator)
    start = uniform(0, width, generator)
    cover, across = bars(
        height, width, period=period, thickness=thickness, angle=angle, start=start
    )
    rows = torch.arange(0.0, height)[:, None]
    top = -1.0 if happens(0.5, generator) else uniform(0, 0.7 * height, generator)
    bottom = height if happens(0.5, generator) else uniform(top, height, generator)
    cover = cover * ((rows >= top) & (rows <= bottom))
    if not alone and happens(0.5, generator):  # rails or a window's cross
        level, gap = uniform(0, height, generator), uniform(0.3, 1, generator) * height
        rail, _ = bars(width, height, period=gap, thickness=thickness, angle=-angle, start=level)
        cover = torch.maximum(cover, rail.T * (rows >= top - thickness))
    sigma = uniform(0.3, 0.9, generator)
    cover = gaussian_blur2d(cover[None, None], (5, 5), (sigma, sigma), "replicate")[0, 0]
    paint = uniform(0.35, 1, generator) + 0.08 * torch.randn(3, 1, 1, generator=generator)
    shade = 1 - uniform(0, 0.5, generator) * (across + uniform(-0.5, 0.5, generator)).square()
    slope = torch.linspace(uniform(0.7, 1, generator), uniform(0.7, 1, generator), height)[:, None]
    colour = paint * shade.clamp(0.3, 1) * slope
    scene = torch.lerp(clean, colour.clamp(0, 1), cover)
    return (scene.clamp(0, 1) * 255).round() / 255


def add_haze(clean: Tensor, generator: Generator) -> Tensor:
    """Add grey haze to an image (3, H, W), quantized to 8 bit."""
    haze, grey = uniform(0.2, 0.6, generator), uniform(0.5, 0.9, generator)
    return (torch.lerp(clean, torch.full_like(clean, grey), haze) * 255).round() / 255


def random_scene(clean: Tensor, generator: Generator) -> Tensor:
    """Add bars or haze to a share of all images; none of them is rain."""
    if happens(HAZY, generator):
        clean = add_haze(clean, generator)
    return add_uprights(clean, generator) if happens(UPRIGHT, generator) else clean
