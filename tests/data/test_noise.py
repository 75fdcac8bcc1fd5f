import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from restore_cli.data import noise
from restore_cli.data.noise import (
    DND,
    SIDD,
    Camera,
    blotched_noise,
    correlated_noise,
    gaussian_noise,
    photograph_noise,
    process,
    random_any_noise,
    random_camera,
    random_gaussian_noise,
    random_levels,
    random_noise,
    random_weak_noise,
    sensor_noise,
    unprocess,
)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def smooth_scene(size=96):
    """A random scene of medium brightness, smooth, so that differences are noise."""
    coarse = torch.rand(1, 3, 5, 5, generator=seeded(3)) * 0.7 + 0.15
    return F.interpolate(coarse, (size, size), mode="bicubic")[0].clamp(0, 1)


def correlations(added):
    """Correlations of the noise with the next pixel, the second next, and between channels."""
    added = added - added.mean((-2, -1), keepdim=True)
    power = added.square().mean()

    def lag(pixels):
        across = (added[..., pixels:] * added[..., :-pixels]).mean()
        down = (added[:, pixels:] * added[:, :-pixels]).mean()
        return (across + down) / 2 / power

    channels = torch.corrcoef(added.flatten(1))
    return torch.stack([lag(1), lag(2), channels[[0, 0, 1], [1, 2, 2]].mean()])


def test_noise_is_correlated_as_in_real_photographs():
    clean = smooth_scene()
    drawn = [correlations(photograph_noise(clean, seeded(seed)) - clean) for seed in range(150)]
    next_pixel, behind, channels = torch.stack(drawn).mean(0).tolist()
    # Measured on real photographs: about 0.6 to 0.7, 0.3 to 0.45, and 0.65.
    assert next_pixel == pytest.approx(0.66, abs=0.07)
    assert behind == pytest.approx(0.35, abs=0.08)
    assert channels == pytest.approx(0.65, abs=0.06)


def test_noise_of_photographs_goes_from_hardly_seen_to_strong():
    clean = smooth_scene()
    sigmas = [(photograph_noise(clean, seeded(seed)) - clean).std() * 255 for seed in range(100)]
    low, middle, high = torch.stack(sigmas).quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
    assert low < 3 < middle < 12 < high < 30


def test_processing_undoes_unprocessing():
    clean = smooth_scene() * 0.7  # below the highlights, whose gain is kept
    camera = random_camera(seeded(1))
    assert_close(process(unprocess(clean, camera), camera), clean, atol=2e-5, rtol=0)


def test_white_stays_white_on_the_sensor():
    white = torch.ones(3, 4, 4)
    assert_close(unprocess(white, random_camera(seeded(1))), white, atol=1e-5, rtol=0)


def test_grey_has_no_colour_in_any_camera():
    grey = torch.full((3, 2, 2), 0.5)
    camera = random_camera(seeded(2))
    neutral = unprocess(grey, Camera(camera.to_camera, torch.ones(3, 1, 1)))
    assert_close(neutral, neutral[:1].expand(3, -1, -1), atol=1e-6, rtol=0)


def test_sensed_pixels_have_the_variance_of_the_law():
    raw = torch.full((3, 400, 400), 0.25)
    added = sensor_noise(raw, 0.01, 0.0005, seeded(4))
    red, blue = added[0, ::2, ::2], added[2, 1::2, 1::2]
    wanted = math.sqrt(0.01 * 0.25 + 0.0005)
    assert [red.std().item(), blue.std().item()] == pytest.approx([wanted] * 2, rel=0.02)


def test_demosaicing_gives_each_place_the_mean_of_its_sensed_neighbours(monkeypatch):
    monkeypatch.setattr(torch, "randn", lambda shape, generator: torch.ones(shape))
    added = sensor_noise(torch.ones(3, 6, 8), 0.0, 4.0, seeded(0))
    assert_close(added, torch.full((3, 6, 8), 2.0))


@pytest.mark.parametrize(("law", "log"), [(DND, math.log), (SIDD, math.log10)], ids=["dnd", "sidd"])
def test_noise_levels_follow_their_law(law, log):
    slope, offset, std = {DND: (2.18, 1.20, 0.26), SIDD: (1.85, 0.30, 0.20)}[law]
    generator = seeded(5)
    levels = [random_levels(law, generator) for _ in range(2000)]
    residues = torch.tensor([log(read) - slope * log(shot) - offset for shot, read in levels])
    assert residues.mean().item() == pytest.approx(0, abs=0.03)
    assert residues.std().item() == pytest.approx(std, rel=0.06)
    assert law.shot[0] <= min(levels)[0] < max(levels)[0] <= law.shot[1]


def test_the_stand_in_has_the_variance_that_was_asked_for():
    clean = torch.full((3, 300, 300), 0.4)
    added = correlated_noise(clean, 0.01, 0.0002, seeded(6)) - clean
    assert added.std().item() == pytest.approx(math.sqrt(0.01 * 0.4 + 0.0002), rel=0.03)


def test_gaussian_noise_is_white_and_not_clipped():
    clean = torch.zeros(3, 300, 300)
    added = gaussian_noise(clean, 0.1, seeded(7))
    assert added.min() < -0.3
    assert added.std().item() == pytest.approx(0.1, rel=0.01)
    assert correlations(added).abs().max() < 0.02


@pytest.mark.parametrize(
    "degrade",
    [photograph_noise, random_gaussian_noise, random_noise, random_weak_noise, random_any_noise],
    ids=lambda f: f.__name__,
)
def test_the_same_seed_gives_the_same_noise(degrade):
    clean = smooth_scene(32)
    assert torch.equal(degrade(clean, seeded(8)), degrade(clean, seeded(8)))


def test_blotches_lie_under_the_grain():
    clean = torch.full((3, 128, 128), 0.4)
    drawn = [blotched_noise(clean, 0.02, seeded(seed)) - clean for seed in range(60)]
    next_pixel, behind, channels = torch.stack([correlations(d) for d in drawn]).mean(0).tolist()
    far = torch.stack([(d[..., 4:] * d[..., :-4]).mean() / d.square().mean() for d in drawn])
    assert next_pixel == pytest.approx(0.55, abs=0.1)
    assert behind == pytest.approx(0.25, abs=0.1)
    assert 0.03 < far.mean() < 0.2
    assert channels == pytest.approx(0.5, abs=0.15)


def test_blotched_noise_has_the_strength_that_was_asked_for():
    clean = torch.full((3, 96, 96), 0.4)
    sigmas = [(blotched_noise(clean, 0.02, seeded(seed)) - clean).std() for seed in range(40)]
    assert torch.stack(sigmas).mean().item() == pytest.approx(0.02, rel=0.05)


def test_weak_noise_is_the_rule_and_none_is_part_of_it():
    clean = smooth_scene(64)
    drawn = [(random_weak_noise(clean, seeded(s)) - clean).square().mean() for s in range(300)]
    sigmas = torch.stack(drawn).sqrt() * 255
    assert 5 <= (sigmas == 0).sum() <= 32  # 6 % of 300, and three standard deviations
    assert sigmas.median() < 6
    assert sigmas.max() > 25


def test_photographs_have_eight_bits():
    noisy = photograph_noise(smooth_scene(32), seeded(9)) * 255
    assert_close(noisy, noisy.round(), atol=1e-4, rtol=0)


def test_the_mix_leaves_some_images_untouched():
    clean = smooth_scene(16)
    untouched = [torch.equal(random_noise(clean, seeded(seed)), clean) for seed in range(300)]
    assert 5 <= sum(untouched) <= 27  # 5 % of 300, three standard deviations to each side


def test_a_power_keeping_blur_keeps_the_power_of_white_noise():
    white = torch.randn(3, 200, 200)
    assert noise.blur(white, 0.8, keep_power=True).std().item() == pytest.approx(1, rel=0.02)
