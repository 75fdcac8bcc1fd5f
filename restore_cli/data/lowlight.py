"""Well-lit photographs made dark on purpose: pseudo-low-light.

Half by a gamma curve on the photograph (as AGLLNet's pairs were made), half by less light on a
sensor: unprocessed, dimmed, noise, few bits, processed. What is dark is noisy, and often a little
off in colour. Images are (3, H, W) in [0, 1]; every function is a pure function of its arguments
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
    correlated_noise,
    process,
    random_camera,
    random_levels,
    sensor_noise,
    spread,
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
REDUCED_NOISE = (0.1, 1.0)  # of a photograph seen whole, as against one at full size; log-uniform


def gamma_dimmed(
    clean: Tensor, generator: Generator, gamma: Range = GAMMA, *, noise: float = 1.0
) -> Tensor:
    """beta * (alpha * clean) ^ gamma, with noise; `noise` times as much of it as usual."""
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
    """As a camera takes it with 1.5 to 5 stops too little light; in places, if not evenly."""
    missing: float | Tensor = uniform(*stops, generator)
    if not evenly:
        missing = missing * shade(clean.shape[-2], clean.shape[-1], generator)
    # Less light on the scene, not on the sensor: what was white there is no longer clipped, so it
    # must not keep the colour of the gains.
    dark = process(unprocess(clean, NEUTRAL) * 2**-missing, NEUTRAL)
    camera = random_camera(generator)
    raw = unprocess(dark, camera)
    steps = 2 ** int(uniform(12, 15, generator)) - 1  # 12 to 14 bits
    sensed = raw + sensor_noise(raw, *random_levels(DND, generator), generator)
    sensed = (sensed * steps).round() / steps
    return dark + noise * spread(process(sensed, camera) - process(raw, camera), generator)


def shade(height: int, width: int, generator: Generator) -> Tensor:
    """A smooth random image (H, W) between 0 and 1, both of which it reaches."""
    coarse = torch.rand(1, 1, 3, 3, generator=generator)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)[0, 0]
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def cast(pixels: Tensor, generator: Generator) -> Tensor:
    """Each channel up to a tenth brighter or darker."""
    return pixels * (0.9 + 0.2 * torch.rand(3, 1, 1, generator=generator))


def spotlit(clean: Tensor, generator: Generator) -> Tensor:
    """The scene at night, lit in places: elsewhere it fades to black, which is as it should be."""
    light = shade(clean.shape[-2], clean.shape[-1], generator)
    edge = uniform(0.2, 0.6, generator)
    lit = ((light - edge) / uniform(0.05, 0.4, generator)).clamp(0, 1)
    return clean * (lit * lit * (3 - 2 * lit)) ** uniform(1, 2, generator)


def random_low_light(clean: Tensor, generator: Generator) -> Tensor:
    """The mix for a general enhancer: 90 % dark, a fifth of it with a cast; 10 % untouched."""
    if happens(0.1, generator):
        return clean
    dimmed = gamma_dimmed if happens(0.5, generator) else underexposed
    dark = dimmed(clean, generator)
    if happens(0.2, generator):
        dark = cast(dark, generator)
    return to_file(dark, generator)


def random_exposure(clean: Tensor, generator: Generator) -> Tensor:
    """The mix to learn how bright an image should be: 15 % as it is, 25 % a little too dark.

    Of the others two in five have less light on a sensor, a fifth has it in places (as against
    the light), and two in five follow a curve.
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
