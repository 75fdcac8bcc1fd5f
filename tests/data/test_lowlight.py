import pytest
import torch
import torch.nn.functional as F

from restore_cli.data.lowlight import (
    gamma_dimmed,
    random_exposure,
    random_low_light,
    spotlit,
    underexposed,
)


def scene(seed, size=64):
    """A random image with the brightness of a daylight photograph: mean 0.48."""
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) * 0.9 + 0.03
    return F.interpolate(coarse, (size, size), mode="bicubic")[0].clamp(0, 1)


def levels(degrade, count=100):
    """Mean brightness of dark versions of several scenes, of 255."""
    made = [degrade(scene(s), torch.Generator().manual_seed(s)).clamp(0, 1) for s in range(count)]
    return 255 * torch.stack([dark.mean() for dark in made])


@pytest.mark.parametrize("degrade", [gamma_dimmed, underexposed], ids=lambda f: f.__name__)
def test_dark_images_are_as_dark_as_real_ones(degrade):
    means = levels(degrade)
    assert 10 < means.median() < 30  # the inputs of LOL
    assert means.quantile(0.95) < 90


@pytest.mark.parametrize("degrade", [gamma_dimmed, underexposed], ids=lambda f: f.__name__)
def test_what_is_dark_is_noisy(degrade):
    flat = torch.full((3, 64, 64), 0.5)
    dark = [degrade(flat, torch.Generator().manual_seed(seed)) for seed in range(60)]
    sigmas = 255 * torch.stack([image.std((1, 2)).mean() for image in dark])
    assert 1 < sigmas.median() < 7
    assert sigmas.quantile(0.95) < 15


def test_one_in_ten_images_is_left_as_it_was():
    clean = scene(0, size=16)
    draws = [random_low_light(clean, torch.Generator().manual_seed(s)) for s in range(300)]
    assert 15 <= sum(torch.equal(draw, clean) for draw in draws) <= 46  # three deviations


def test_dark_files_have_eight_bits():
    for seed in range(5):
        dark = random_low_light(
            (scene(seed) * 255).round() / 255, torch.Generator().manual_seed(seed)
        )
        torch.testing.assert_close(dark * 255, (dark * 255).round(), atol=1e-4, rtol=0)


def test_the_same_seed_gives_the_same_darkness():
    first, second = (random_low_light(scene(1), torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, second)


def test_less_light_leaves_white_white():
    """Gains of the white balance belong to a sensor that is full, not to one that is not."""
    white = torch.ones(3, 64, 64)
    dark = underexposed(white, torch.Generator().manual_seed(0), noise=0.0)
    assert (dark.amax(0) - dark.amin(0)).max() < 0.01
    assert dark.max() < 0.7


def test_uneven_light_is_missing_in_places_only():
    clean = torch.full((3, 64, 64), 0.6)
    generator = torch.Generator().manual_seed(3)
    dark = underexposed(clean, generator, (4.0, 4.1), evenly=False, noise=0.0)
    assert dark.max() > 0.55
    assert dark.min() < 0.2


def test_less_noise_is_asked_for_and_had():
    flat = torch.full((3, 64, 64), 0.5)
    for degrade in (gamma_dimmed, underexposed):
        much, little = (
            degrade(flat, torch.Generator().manual_seed(5), noise=noise).std((1, 2)).mean()
            for noise in (1.0, 0.1)
        )
        assert little < 0.2 * much


def test_a_network_for_any_exposure_sees_good_ones_and_mild_ones_too():
    clean = scene(0)
    means = levels(lambda _, generator: random_exposure(clean, generator), count=300)
    untouched = (means - 255 * clean.mean()).abs() < 0.01
    assert 0.09 < untouched.float().mean() < 0.21
    assert ((means > 60) & ~untouched).float().mean() > 0.15
    assert (means < 40).float().mean() > 0.2


def test_a_scene_at_night_is_black_in_places_and_lit_in_others():
    clean = torch.full((3, 64, 64), 0.6)
    for seed in range(5):
        night = spotlit(clean, torch.Generator().manual_seed(seed))
        assert night.min() == 0
        assert night.max() > 0.5
