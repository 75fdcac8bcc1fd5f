"""Degradation of real photographs: blur, resizing, noise and compression, twice, then reduction.

The second-order pipeline of Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution
with Pure Synthetic Data", ICCVW 2021, sec. 3.2, with milder ranges, so that a network still learns
fidelity instead of inventing detail. The ranges are in docs/upscaling.md. Images are
(3, H, W) in [0, 1]; every function depends on its arguments and a torch.Generator alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from restore_cli.data.degrade import happens, log_uniform, uniform
from restore_cli.data.noise import blotched_noise, correlated_noise, gaussian_noise
from restore_cli.imaging.codecs.jpeg import through_jpeg

Kernel = Literal["area", "bilinear", "bicubic"]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)

SMALLEST = 8  # pixels, of either side between the two stages
JPEG_LAST = 0.75  # probability that the last compression follows the last resize
BLOCK = 8  # pixels, of JPEG
WEAKEST, STRONGEST = 0.5 / 255, 10 / 255  # sigma of noise


@dataclass(frozen=True)
class Stage:
    """Parameter ranges of one stage; sigmas in pixels of its input."""

    blur: float  # probability
    sigma: tuple[float, float]  # of the blur along either axis, uniform
    resize: tuple[float, float]  # factor, log-uniform
    noise: float  # probability
    jpeg: float  # probability
    quality: tuple[int, int]  # of JPEG, inclusive


FIRST = Stage(blur=0.7, sigma=(0.2, 1.5), resize=(0.6, 1.2), noise=0.6, jpeg=0.5, quality=(60, 95))
SECOND = Stage(blur=0.4, sigma=(0.2, 1.0), resize=(0.7, 1.2), noise=0.3, jpeg=0.9, quality=(30, 95))


@dataclass(frozen=True)
class PhotoDegradation:
    """Degradation in two stages, followed by the reduction to 1 / scale."""

    first: Stage = FIRST
    second: Stage = SECOND

    def __call__(self, clean: Tensor, generator: Generator, scale: int = 1) -> Tensor:
        """Return the degraded image, (3, H // scale, W // scale), quantized to 8 bit."""
        height, width = (side // scale for side in clean.shape[-2:])
        x = compressed(self.first, apply_stage(self.first, clean, generator), generator)
        x = apply_stage(self.second, x, generator)
        if happens(JPEG_LAST, generator):
            x = compressed(self.second, resized(x, height, width, generator), generator)
        else:
            x = resized(compressed(self.second, x, generator), height, width, generator)
        return (x.clamp(0, 1) * 255).round() / 255


def random_jpeg(clean: Tensor, generator: Generator) -> Tensor:
    """Compress by JPEG of quality 10 to 95, with a random position of the blocks."""
    return jpeg_anywhere(clean, int(uniform(10, 96, generator)), generator)


def apply_stage(stage: Stage, x: Tensor, generator: Generator) -> Tensor:
    """Apply blur, resizing and noise of one stage."""
    from kornia.filters import filter2d

    if happens(stage.blur, generator):
        kernel = random_blur_kernel(stage.sigma, generator)
        x = filter2d(x[None], kernel[None], border_type="replicate")[0]
    factor = log_uniform(*stage.resize, generator)
    height, width = (max(SMALLEST, round(side * factor)) for side in x.shape[-2:])
    x = resized(x, height, width, generator)
    return random_camera_noise(x, generator) if happens(stage.noise, generator) else x


def compressed(stage: Stage, x: Tensor, generator: Generator) -> Tensor:
    """Compress by JPEG with the probability and quality of the stage."""
    if not happens(stage.jpeg, generator):
        return x
    low, high = stage.quality
    return jpeg_anywhere(x, int(uniform(low, high + 1, generator)), generator)


def random_blur_kernel(sigma: tuple[float, float], generator: Generator) -> Tensor:
    """Return a generalised Gaussian (K, K), K odd, sum 1: exp(-(r^2)^beta / 2), r in sigmas.

    One in two is isotropic; beta is 1 (Gaussian) in two of three, else 0.6 to 3.
    """
    along = uniform(*sigma, generator)
    across = along if happens(0.5, generator) else uniform(*sigma, generator)
    angle = uniform(0, math.pi, generator)
    beta = 1.0 if happens(2 / 3, generator) else uniform(0.6, 3, generator)
    half = math.ceil(3 * max(along, across))
    offsets = torch.arange(-half, half + 1.0)
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    u = (x * math.cos(angle) + y * math.sin(angle)) / along
    v = (y * math.cos(angle) - x * math.sin(angle)) / across
    kernel = torch.exp(-((u * u + v * v) ** beta) / 2)
    return kernel / kernel.sum()


def resized(x: Tensor, height: int, width: int, generator: Generator) -> Tensor:
    """Resize `x` by a random one of three antialiased kernels."""
    kernel = KERNELS[int(torch.randint(len(KERNELS), (), generator=generator))]
    if kernel == "area":
        return F.interpolate(x[None], (height, width), mode="area")[0]
    return F.interpolate(x[None], (height, width), mode=kernel, antialias=True)[0]


def random_camera_noise(x: Tensor, generator: Generator) -> Tensor:
    """Add camera noise: half grain and blotches, a third correlated, the rest white."""
    sigma = log_uniform(WEAKEST, STRONGEST, generator)
    draw = uniform(0, 1, generator)
    if draw < 0.5:
        return blotched_noise(x.clamp(0, 1), sigma, generator)
    if draw < 0.83:
        shot = uniform(0, 1, generator)  # share of the variance where the image is white
        return correlated_noise(x, shot * sigma**2, (1 - shot) * sigma**2, generator)
    return gaussian_noise(x, sigma, generator)


def jpeg_anywhere(x: Tensor, quality: int, generator: Generator) -> Tensor:
    """Compress by JPEG whose blocks start at a random pixel, as in a random crop."""
    top, left = (int(shift) for shift in torch.randint(BLOCK, (2,), generator=generator))
    padded = F.pad(x[None], (left, 0, top, 0), mode="replicate")[0]
    return through_jpeg(padded, quality)[:, top:, left:]
