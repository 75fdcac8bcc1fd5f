"""Synthetic rain: the degraded image of a training pair.

Every function is a pure function of its arguments and a torch.Generator.
Streaks are grey, never darken, and share one direction per layer. Painted rain follows statistics
measured on Rain100L and Rain100H, photographed rain those of dense rain in photographs
(tests/data/test_degrade.py checks both).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from restore_cli.imaging.codecs.jpeg import through_jpeg


@dataclass(frozen=True)
class RainStyle:
    """Parameter ranges of one style of rain; lengths in pixels, angles in degrees."""

    layers: tuple[int, int]  # streak layers, inclusive
    density: tuple[float, float]  # share of pixels in which a streak starts, log-uniform
    length: tuple[float, float]  # of the motion blur, log-uniform
    angle: float  # of the whole image from the vertical, uniform in +-
    jitter: float  # of the angle of each layer, uniform in +-
    black: tuple[float, float]  # quantile of a blurred layer below which it becomes 0
    peak: tuple[float, float]  # brightness of the 99th percentile of all streaks
    additive: float  # probability that streaks are added instead of screened
    veil: float  # probability of a bright mist (rain accumulation)
    blur: tuple[float, float] = (0.6, 0.95)  # sigma of a drop before it moves
    faintest: float = 0.5  # brightness of the darkest drop relative to the brightest
    light: tuple[float, float] | None = None  # grey of photographed streaks
    depth: float = 0.0  # probability of thinner rain in a part of the image
    drops: float = 0.0  # probability of defocused drops near the lens
    jpeg: float = 0.0  # probability of JPEG compression


LIGHT = RainStyle((1, 2), (0.0006, 0.004), (30, 95), 28, 4, (0.5, 0.85), (0.10, 0.45), 0.8, 0.0)
MISTY = replace(LIGHT, veil=1.0)  # rain that also brightens the image
MEDIUM = RainStyle((1, 4), (0.002, 0.03), (20, 80), 25, 10, (0.3, 0.8), (0.20, 0.70), 0.7, 0.2)
HEAVY = RainStyle((3, 6), (0.01, 0.08), (25, 85), 9, 8, (0.2, 0.65), (0.5, 0.95), 0.85, 0.1)
# Photographed rain: short or dense streaks, brighter than most of the scene.
SHORT = RainStyle(
    (2, 4), (0.015, 0.08), (3, 16), 20, 5, (0.1, 0.7), (0.35, 1.0), 0.0, 0.0,
    blur=(0.3, 0.8), faintest=0.1, light=(0.55, 1.0), depth=0.4, drops=0.3, jpeg=0.5,
)  # fmt: skip
DENSE = replace(SHORT, density=(0.006, 0.05), length=(14, 45), jitter=8, peak=(0.3, 0.8), drops=0.1)
SNOWY = replace(
    SHORT, layers=(1, 3), density=(0.002, 0.02), length=(1, 5), blur=(0.5, 1.6), faintest=0.3
)
STYLES = (
    (0.24, LIGHT), (0.10, MISTY), (0.24, HEAVY), (0.10, MEDIUM),
    (0.09, SHORT), (0.06, DENSE), (0.02, SNOWY),
)  # fmt: skip


def unchanged(clean: Tensor, generator: Generator) -> Tensor:
    """Return the image unchanged: for super-resolution, the reduction is the degradation."""
    return clean


def uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def log_uniform(low: float, high: float, generator: Generator) -> float:
    return math.exp(uniform(math.log(low), math.log(high), generator))


def happens(probability: float, generator: Generator) -> bool:
    return uniform(0, 1, generator) < probability


def line_kernel(length: float, angle: float) -> Tensor:
    """Return an anti-aliased line of `length` px, `angle` degrees from the vertical.

    Shape (K, K) with K odd, sum 1.
    """
    half = length / 2
    reach = math.ceil(half) + 1
    y, x = torch.meshgrid(*(torch.arange(-reach, reach + 1.0),) * 2, indexing="ij")
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    along, across = x * sine + y * cosine, x * cosine - y * sine
    kernel = (1 - across.abs()).clamp(min=0) * (half + 0.5 - along.abs()).clamp(0, 1)
    return kernel / kernel.sum()


def gaussian_kernel(sigma: float) -> Tensor:
    """Return a two-dimensional Gaussian, (K, K) with K odd, sum 1."""
    reach = max(2, math.ceil(2 * sigma))
    bell = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    return torch.outer(bell, bell) / bell.sum() ** 2


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve `x` (H, W) with `kernel` (K, K) by Fourier transform, valid part only."""
    height, width = x.shape
    size = kernel.shape[0]
    spectrum = torch.fft.rfft2(x) * torch.fft.rfft2(kernel, s=x.shape)
    full: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    return full[size - 1 :, size - 1 :]


def streak_layer(
    height: int, width: int, style: RainStyle, angle: float, generator: Generator
) -> Tensor:
    """Return a layer of parallel streaks, (H, W), non-negative and not yet scaled in brightness."""
    kernel = line_kernel(log_uniform(*style.length, generator), angle)
    zoom = uniform(1, 2, generator) if happens(0.3, generator) else 1.0  # thick drops near the lens
    bell = gaussian_kernel(uniform(*style.blur, generator))
    pad = kernel.shape[0] + bell.shape[0] - 2
    size = (math.ceil((height + pad) / zoom), math.ceil((width + pad) / zoom))
    density = log_uniform(*style.density, generator)
    seeds = torch.rand(size, generator=generator)
    bright = style.faintest + (1 - style.faintest) * torch.rand(size, generator=generator)
    seeds = torch.where(seeds > 1 - density, bright, 0.0)
    if zoom > 1:
        seeds = F.interpolate(seeds[None, None], (height + pad, width + pad), mode="bilinear")[0, 0]
    blurred = convolve(convolve(seeds, bell), kernel)[:height, :width].clamp(min=0)
    # Remove the mist between streaks, as Photoshop's Levels does.
    black = torch.quantile(blurred.flatten()[::7], uniform(*style.black, generator))
    return (blurred - black).clamp(min=0)


def rain_streaks(height: int, width: int, style: RainStyle, generator: Generator) -> Tensor:
    """Return all streaks of one image, (H, W) in [0, 1]."""
    angle = uniform(-style.angle, style.angle, generator)
    count = int(uniform(style.layers[0], style.layers[1] + 1, generator))
    total = torch.zeros(height, width)
    for _ in range(count):
        layer = streak_layer(
            height, width, style, angle + uniform(-style.jitter, style.jitter, generator), generator
        )
        total += layer / layer.max().clamp(min=1e-6) * uniform(0.5, 1, generator)
    top = torch.quantile(total.flatten()[::7], 0.99).clamp(min=1e-6)
    return (total * (uniform(*style.peak, generator) / top)).clamp(0, 1)


def near_drops(height: int, width: int, angle: float, generator: Generator) -> Tensor:
    """Return the opacity of one to three defocused drops, (H, W) in [0, 1]."""
    y, x = torch.meshgrid(torch.arange(0.0, height), torch.arange(0.0, width), indexing="ij")
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    clear = torch.ones(height, width)
    for _ in range(int(uniform(1, 4, generator))):
        down, right = uniform(0, height, generator), uniform(0, width, generator)
        radius, half = uniform(2, 7, generator), uniform(1, 14, generator)
        along = (x - right) * sine + (y - down) * cosine
        across = (x - right) * cosine - (y - down) * sine
        distance = torch.hypot(across, (along.abs() - half).clamp(min=0))
        soft = uniform(0.5, 2, generator)
        opacity = uniform(0.2, 0.9, generator) * torch.sigmoid((radius - distance) / soft)
        if happens(0.5, generator):  # brighter at one end
            opacity = opacity * (0.6 + 0.4 * torch.sigmoid((along - half + radius) / soft))
        clear = clear * (1 - opacity)
    return 1 - clear


def photographed_rain(
    clean: Tensor, streaks: Tensor, style: RainStyle, generator: Generator
) -> Tensor:
    """Blend streaks over `clean` (3, H, W); bright areas change less."""
    assert style.light is not None
    height, width = clean.shape[-2:]
    if happens(style.depth, generator):
        corners = torch.rand(1, 1, 2, 2, generator=generator)
        corners = (corners / corners.max()).square()
        thin = F.interpolate(corners, (height, width), mode="bilinear", align_corners=True)[0, 0]
        streaks = streaks * thin
    light = uniform(*style.light, generator)
    rainy = clean + streaks * (light - clean).clamp(min=0)
    if happens(style.drops, generator):
        drops = near_drops(height, width, uniform(-style.angle, style.angle, generator), generator)
        rainy = rainy + drops * (light - rainy).clamp(min=0)
    if happens(style.jpeg, generator):
        rainy = through_jpeg(rainy.clamp(0, 1), int(uniform(80, 97, generator)))
    return rainy


def add_rain(clean: Tensor, style: RainStyle, generator: Generator) -> Tensor:
    """Add rain to an image (3, H, W) in [0, 1]; the result is quantized to 8 bit."""
    streaks = rain_streaks(clean.shape[-2], clean.shape[-1], style, generator)
    if style.light is not None:
        rainy = photographed_rain(clean, streaks, style, generator)
    elif happens(style.additive, generator):
        rainy = clean + streaks
    else:
        rainy = 1 - (1 - clean) * (1 - streaks)
    if happens(style.veil, generator):
        haze, grey = uniform(0.0, 0.2, generator), uniform(0.6, 0.9, generator)
        rainy = (1 - haze) * rainy.clamp(max=1) + haze * grey
    return (rainy.clamp(0, 1) * 255).round() / 255


def random_rain(clean: Tensor, generator: Generator) -> Tensor:
    """Add rain of a random style from STYLES; the remaining share of images stays dry."""
    draw = uniform(0, 1, generator)
    for share, style in STYLES:
        if draw < share:
            return add_rain(clean, style, generator)
        draw -= share
    return clean
