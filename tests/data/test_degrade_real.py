"""Degraded photographs: sizes, ranges and alignment of the second-order pipeline."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from restore_cli.data.degrade_real import (
    FIRST,
    SECOND,
    PhotoDegradation,
    Stage,
    apply_stage,
    jpeg_anywhere,
    random_blur_kernel,
    random_camera_noise,
    random_jpeg,
    resized,
)
from restore_cli.data.pairs import Pairs
from restore_cli.imaging.codecs.jpeg import through_jpeg
from restore_cli.metrics import psnr

NOTHING = Stage(blur=0, sigma=(1, 1), resize=(1, 1), noise=0, jpeg=0, quality=(90, 90))


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def smooth(height, width):
    waves = [torch.linspace(0, 3, size).sin() for size in (height, width)]
    return (torch.outer(*waves) * 0.8 + 0.1).expand(3, -1, -1).clone()


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("size", [(64, 64), (37, 50), (9, 8)], ids=str)
def test_the_result_is_scale_times_smaller_and_of_8_bit_levels(scale, size):
    result = PhotoDegradation()(torch.rand(3, *size), generator(), scale)
    assert result.shape == (3, size[0] // scale, size[1] // scale)
    assert 0 <= float(result.min()) <= float(result.max()) <= 1
    assert_close(result * 255, (result * 255).round(), atol=1e-4, rtol=0)


def test_the_same_generator_gives_the_same_result():
    clean = torch.rand(3, 40, 40)
    first, second, other = (PhotoDegradation()(clean, generator(seed), 2) for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_stages_without_effect_leave_the_reduction_alone():
    clean = smooth(64, 48)
    result = PhotoDegradation(NOTHING, NOTHING)(clean, generator(), 2)
    area = clean.unfold(1, 2, 2).unfold(2, 2, 2).mean((-2, -1))
    assert_close(result, area, atol=2 / 255, rtol=0)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_shifted(seed):
    """A step of one pixel would change the ramp by 1.6 levels."""
    ramp = torch.linspace(0.2, 0.8, 96).expand(3, 96, -1)
    quiet = [replace(stage, noise=0, jpeg=0) for stage in (FIRST, SECOND)]
    result = PhotoDegradation(*quiet)(ramp, generator(seed), 2)
    expected = ramp.unfold(2, 2, 2).mean(-1)[:, :48]
    moved = 255 * (result - expected)[:, 8:-8, 8:-8].mean().item()
    assert abs(moved) < 0.3


@pytest.mark.parametrize("seed", range(20))
def test_a_blur_kernel_has_sum_1_and_the_sigmas_asked_for(seed):
    kernel = random_blur_kernel((0.5, 2.0), generator(seed))
    half = kernel.shape[0] // 2
    offsets = torch.arange(-half, half + 1.0)
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    covariance = [[(kernel * a * b).sum().item() for a in (x, y)] for b in (x, y)]
    sigmas = np.sqrt(np.linalg.eigvalsh(covariance))
    assert kernel.sum().item() == pytest.approx(1)
    assert kernel.shape[0] % 2 == 1
    # Other shapes than the Gaussian are wider or narrower by up to two thirds at equal sigma.
    assert 0.25 < sigmas[0] <= sigmas[1] < 3.5


def test_half_of_the_blur_kernels_are_isotropic():
    draws = generator()
    kernels = [random_blur_kernel((0.4, 2.0), draws) for _ in range(200)]
    isotropic = sum(torch.allclose(kernel, kernel.T, atol=1e-6) for kernel in kernels)
    assert 75 <= isotropic <= 125


def test_a_blur_keeps_flat_colours_up_to_the_border():
    flat = torch.full((3, 12, 9), 0.4)
    blurred = apply_stage(replace(FIRST, blur=1, resize=(1, 1), noise=0), flat, generator())
    assert_close(blurred, flat)


def test_every_kernel_of_resizing_is_drawn():
    draws, x = generator(), torch.rand(3, 16, 16)
    results = [resized(x, 9, 9, draws).sum().item() for _ in range(30)]
    assert len({round(value, 3) for value in results}) == 3


@pytest.mark.parametrize("seed", range(30))
def test_camera_noise_has_a_sigma_of_half_a_level_to_ten(seed):
    grey = torch.full((3, 64, 64), 0.4)
    sigma = 255 * (random_camera_noise(grey, generator(seed)) - grey).std().item()
    assert 0.2 < sigma < 13  # a sample; blotches vary with the brightness


def test_blocks_of_jpeg_begin_at_any_pixel():
    clean, draws = torch.rand(3, 32, 32), generator()
    results = {jpeg_anywhere(clean, 20, draws).sum().item() for _ in range(300)}
    assert len(results) > 40  # of 64
    assert through_jpeg(clean, 20).sum().item() in results


def test_random_jpeg_is_of_quality_10_to_95():
    clean, draws = smooth(64, 64) + 0.1 * torch.rand(3, 64, 64), generator()
    scores = [psnr(random_jpeg(clean, draws)[None], clean[None]).item() for _ in range(100)]
    worst, best = (
        psnr(through_jpeg(clean, quality)[None], clean[None]).item() for quality in (10, 95)
    )
    assert worst - 0.5 < min(scores) < worst + 1
    assert best - 2 < max(scores) < best + 0.5


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_pairs_of_photographs_are_degraded_from_full_resolution(scale):
    photo = (smooth(100, 90) * 255).to(torch.uint8)
    quiet = PhotoDegradation(NOTHING, NOTHING)
    pairs = Pairs([photo], quiet, patch=12, seed=1, length=4, scale=scale)
    degraded, clean = pairs[0]
    assert clean.shape == (3, 12 * scale, 12 * scale)
    means = clean.unfold(1, scale, scale).unfold(2, scale, scale).mean((-2, -1))
    assert_close(degraded, means, atol=2 / 255, rtol=0)
