"""Clean photographs made worse on purpose: the degraded half of a training pair.

Every function is a pure function of its arguments and a torch.Generator.
Rain follows the statistics measured on Rain100L and Rain100H (tests/data/test_degrade.py holds
them): streaks are grey, never darken, and share one direction per layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


@dataclass(frozen=True)
class RainLook:
    """Ranges from which one kind of rain is drawn; lengths in pixels, angles in degrees."""

    layers: tuple[int, int]  # streak layers, inclusive
    density: tuple[float, float]  # share of pixels that seed a streak, log-uniform
    length: tuple[float, float]  # of the motion blur, log-uniform
    angle: float  # of the whole picture from the vertical, uniform in +-
    spread: float  # of each layer around it, uniform in +-
    black: tuple[float, float]  # quantile of a blurred layer below which it is cut to nothing
    peak: tuple[float, float]  # brightness that the 99th percentile of all streaks reaches
    additive: float  # probability that streaks are added instead of screened
    veil: float  # probability of a bright mist (rain accumulation)


LIGHT = RainLook((1, 2), (0.0006, 0.004), (30, 95), 28, 4, (0.5, 0.85), (0.10, 0.45), 0.8, 0.0)
MISTY = replace(LIGHT, veil=1.0)  # rain that also brightens the picture
MEDIUM = RainLook((1, 4), (0.002, 0.03), (20, 80), 25, 10, (0.3, 0.8), (0.20, 0.70), 0.7, 0.2)
HEAVY = RainLook((3, 6), (0.01, 0.08), (25, 85), 9, 8, (0.2, 0.65), (0.5, 0.95), 0.85, 0.1)


def nothing(clean: Tensor, generator: Generator) -> Tensor:
    """The picture as it is: for upscaling, being smaller is all that was done to it."""
    return clean


def uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def log_uniform(low: float, high: float, generator: Generator) -> float:
    return math.exp(uniform(math.log(low), math.log(high), generator))


def happens(probability: float, generator: Generator) -> bool:
    return uniform(0, 1, generator) < probability


def line_kernel(length: float, angle: float) -> Tensor:
    """An anti-aliased line of `length` px through the centre, `angle` degrees from the vertical.

    Shape (K, K) with K odd, sum 1.
    """
    half = length / 2
    reach = math.ceil(half) + 1
    y, x = torch.meshgrid(*(torch.arange(-reach, reach + 1.0),) * 2, indexing="ij")
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    along, across = x * sine + y * cosine, x * cosine - y * sine
    kernel = (1 - across.abs()).clamp(min=0) * (half + 0.5 - along.abs()).clamp(0, 1)
    return kernel / kernel.sum()


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """`x` (H, W) with `kernel` (K, K) by Fourier transform, valid part only."""
    height, width = x.shape
    size = kernel.shape[0]
    spectrum = torch.fft.rfft2(x) * torch.fft.rfft2(kernel, s=x.shape)
    full: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    return full[size - 1 :, size - 1 :]


def streak_layer(
    height: int, width: int, look: RainLook, angle: float, generator: Generator
) -> Tensor:
    """One layer of parallel streaks, (H, W), non-negative and not yet scaled in brightness."""
    kernel = line_kernel(log_uniform(*look.length, generator), angle)
    zoom = uniform(1, 2, generator) if happens(0.3, generator) else 1.0  # near, thick drops
    blur = uniform(0.6, 0.95, generator)
    pad = kernel.shape[0] - 1 + 4
    size = (math.ceil((height + pad) / zoom), math.ceil((width + pad) / zoom))
    density = log_uniform(*look.density, generator)
    seeds = torch.rand(size, generator=generator)
    seeds = torch.where(seeds > 1 - density, 0.5 + 0.5 * torch.rand(size, generator=generator), 0.0)
    if zoom > 1:
        seeds = F.interpolate(seeds[None, None], (height + pad, width + pad), mode="bilinear")[0, 0]
    offsets = torch.arange(-2.0, 3.0)
    bell = torch.exp(-(offsets**2) / (2 * blur**2))
    bell = torch.outer(bell, bell) / bell.sum() ** 2
    blurred = convolve(convolve(seeds, bell), kernel)[:height, :width].clamp(min=0)
    # The mist between streaks is cut away, as Photoshop's Levels does it.
    black = torch.quantile(blurred.flatten()[::7], uniform(*look.black, generator))
    return (blurred - black).clamp(min=0)


def rain_streaks(height: int, width: int, look: RainLook, generator: Generator) -> Tensor:
    """All streaks of one picture, (H, W) in [0, 1]."""
    angle = uniform(-look.angle, look.angle, generator)
    count = int(uniform(look.layers[0], look.layers[1] + 1, generator))
    total = torch.zeros(height, width)
    for _ in range(count):
        layer = streak_layer(
            height, width, look, angle + uniform(-look.spread, look.spread, generator), generator
        )
        total += layer / layer.max().clamp(min=1e-6) * uniform(0.5, 1, generator)
    top = torch.quantile(total.flatten()[::7], 0.99).clamp(min=1e-6)
    return (total * (uniform(*look.peak, generator) / top)).clamp(0, 1)


def add_rain(clean: Tensor, look: RainLook, generator: Generator) -> Tensor:
    """The picture (3, H, W) in [0, 1] in the rain, quantised to 8 bit."""
    streaks = rain_streaks(clean.shape[-2], clean.shape[-1], look, generator)
    if happens(look.additive, generator):
        rainy = clean + streaks
    else:
        rainy = 1 - (1 - clean) * (1 - streaks)
    if happens(look.veil, generator):
        haze, grey = uniform(0.0, 0.2, generator), uniform(0.6, 0.9, generator)
        rainy = (1 - haze) * rainy.clamp(max=1) + haze * grey
    return (rainy.clamp(0, 1) * 255).round() / 255


def random_rain(clean: Tensor, generator: Generator) -> Tensor:
    """The mix for a general model: 35 % light, 15 % misty, 30 % heavy, 14 % medium, 6 % dry."""
    draw = uniform(0, 1, generator)
    for share, look in ((0.35, LIGHT), (0.15, MISTY), (0.30, HEAVY), (0.14, MEDIUM)):
        if draw < share:
            return add_rain(clean, look, generator)
        draw -= share
    return clean
