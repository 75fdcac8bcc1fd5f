"""Well-lit photographs made dark on purpose: pseudo-low-light.

Half by a gamma curve on the photograph (as AGLLNet's pairs were made), half by less light on a
sensor: unprocessed, dimmed, noise, few bits, processed. What is dark is noisy, and often a little
off in colour. Pictures are (3, H, W) in [0, 1]; every function is a pure function of its arguments
and a torch.Generator.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from restore_cli.data.degrade import happens, log_uniform, uniform
from restore_cli.data.noise import (
    DND,
    correlated_noise,
    process,
    random_camera,
    random_levels,
    sensor_noise,
    spread,
    to_file,
    unprocess,
)

GAMMA = (2.0, 4.5)
READ_SIGMA = (1 / 255, 8 / 255)  # of a photograph dimmed by a curve, log-uniform
SHOT = (0.0005, 0.02)


def gamma_dimmed(clean: Tensor, generator: Generator) -> Tensor:
    """beta * (alpha * clean) ^ gamma, with noise."""
    alpha, beta = uniform(0.9, 1, generator), uniform(0.5, 1, generator)
    dark = beta * (alpha * clean) ** uniform(*GAMMA, generator)
    shot, read = log_uniform(*SHOT, generator), log_uniform(*READ_SIGMA, generator) ** 2
    return correlated_noise(dark, shot, read, generator)


def underexposed(clean: Tensor, generator: Generator) -> Tensor:
    """As a camera takes it with 1.5 to 5 stops too little light."""
    camera = random_camera(generator)
    raw = unprocess(clean, camera) * 2 ** -uniform(1.5, 5, generator)
    noise = sensor_noise(raw, *random_levels(DND, generator), generator)
    steps = 2 ** int(uniform(12, 15, generator)) - 1  # 12 to 14 bits
    sensed = ((raw + noise) * steps).round() / steps
    dark = process(raw, camera)
    return dark + spread(process(sensed, camera) - dark, generator)


def random_low_light(clean: Tensor, generator: Generator) -> Tensor:
    """The mix for a general enhancer: 90 % dark, a fifth of it with a cast; 10 % untouched."""
    if happens(0.1, generator):
        return clean
    dimmed = gamma_dimmed if happens(0.5, generator) else underexposed
    dark = dimmed(clean, generator)
    if happens(0.2, generator):
        dark = dark * (0.9 + 0.2 * torch.rand(3, 1, 1, generator=generator))
    return to_file(dark, generator)
