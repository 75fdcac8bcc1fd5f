"""Synthetic low light from well-lit photographs.

Half by a gamma curve on the photograph (as in the pairs of AGLLNet), half by less light on a
sensor: unprocessed, dimmed, noise, few bits, processed. Dark images are noisy and often have a
colour cast. Images are (3, H, W) in [0, 1]; every function is a pure function of its arguments
and a torch.Generator.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from restore_cli.data.degrade import happens, log_uniform, uniform
from restore_cli.data.noise import (
    DND,
    Camera,
    camera_processed,
    correlated_noise,
    process,
    random_camera,
    random_levels,
    sensor_noise,
    to_file,
    unprocess,
)

Range = tuple[float, float]

GAMMA = (2.0, 4.5)
STOPS = (1.5, 5.0)
MILD_GAMMA = (1.1, 2.0)
MILD_STOPS = (0.3, 1.5)
READ_SIGMA = (1 / 255, 8 / 255)  # of a photograph dimmed by a curve, log-uniform
SHOT = (0.0005, 0.02)
NEUTRAL = Camera(torch.eye(3), torch.ones(3, 1, 1))
REDUCED_NOISE = (0.1, 1.0)  # of a reduced photograph relative to one at full size; log-uniform


def gamma_dimmed(
    clean: Tensor, generator: Generator, gamma: Range = GAMMA, *, noise: float = 1.0
) -> Tensor:
    """Return beta * (alpha * clean) ^ gamma with noise; noise: factor of its std."""
    alpha, beta = uniform(0.9, 1, generator), uniform(0.5, 1, generator)
    dark = beta * (alpha * clean) ** uniform(*gamma, generator)
    shot, read = log_uniform(*SHOT, generator), log_uniform(*READ_SIGMA, generator) ** 2
    return correlated_noise(dark, shot * noise**2, read * noise**2, generator)


def underexposed(
    clean: Tensor,
    generator: Generator,
    stops: Range = STOPS,
    *,
    evenly: bool = True,
    noise: float = 1.0,
) -> Tensor:
    """Return the photograph with so many stops too little light; in places, if not evenly."""
    missing: float | Tensor = uniform(*stops, generator)
    if not evenly:
        missing = missing * shade(clean.shape[-2], clean.shape[-1], generator)
    # Less light on the scene, not on the sensor: white areas are no longer clipped, so they must
    # not keep the colour of the gains.
    dark = process(unprocess(clean, NEUTRAL) * 2**-missing, NEUTRAL)
    camera = random_camera(generator)
    raw = unprocess(dark, camera)
    steps = 2 ** int(uniform(12, 15, generator)) - 1  # 12 to 14 bits
    sensed = raw + sensor_noise(raw, *random_levels(DND, generator), generator)
    sensed = (sensed * steps).round() / steps
    difference = process(sensed, camera) - process(raw, camera)
    return dark + noise * camera_processed(difference, generator)


def shade(height: int, width: int, generator: Generator) -> Tensor:
    """Return a smooth random map (H, W) with minimum 0 and maximum 1."""
    coarse = torch.rand(1, 1, 3, 3, generator=generator)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)[0, 0]
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def cast(pixels: Tensor, generator: Generator) -> Tensor:
    """Add a colour cast: each channel up to 10 % brighter or darker."""
    return pixels * (0.9 + 0.2 * torch.rand(3, 1, 1, generator=generator))


def spotlit(clean: Tensor, generator: Generator) -> Tensor:
    """Return the scene at night, lit in places; the black elsewhere belongs to the scene."""
    light = shade(clean.shape[-2], clean.shape[-1], generator)
    edge = uniform(0.2, 0.6, generator)
    lit = ((light - edge) / uniform(0.05, 0.4, generator)).clamp(0, 1)
    return clean * (lit * lit * (3 - 2 * lit)) ** uniform(1, 2, generator)


def random_low_light(clean: Tensor, generator: Generator) -> Tensor:
    """Darken an image for a general enhancer: 10 % stay unchanged, a fifth get a colour cast."""
    if happens(0.1, generator):
        return clean
    dimmed = gamma_dimmed if happens(0.5, generator) else underexposed
    dark = dimmed(clean, generator)
    if happens(0.2, generator):
        dark = cast(dark, generator)
    return to_file(dark, generator)


def random_exposure(clean: Tensor, generator: Generator) -> Tensor:
    """Darken an image so that a network learns its exposure: 15 % unchanged, 25 % slightly dark.

    Of the others, two in five follow a curve, two in five have less light on a sensor, and one in
    five has less light in places (as in backlight).
    """
    draw = uniform(0, 1, generator)
    if draw < 0.15:
        return clean
    gamma, stops = (MILD_GAMMA, MILD_STOPS) if draw < 0.40 else (GAMMA, STOPS)
    how, noise = uniform(0, 1, generator), log_uniform(*REDUCED_NOISE, generator)
    if how < 0.4:
        dark = gamma_dimmed(clean, generator, gamma, noise=noise)
    else:
        dark = underexposed(clean, generator, stops, evenly=how < 0.8, noise=noise)
    if happens(0.2, generator):
        dark = cast(dark, generator)
    return to_file(dark, generator)
