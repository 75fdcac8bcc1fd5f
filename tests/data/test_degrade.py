import pytest
import torch

from restore_cli.data.degrade import HEAVY, LIGHT, RainLook, add_rain, line_kernel, random_rain

# Means must lie in the 5 % to 95 % spans measured on the real sets (Yang et al. 2017).
SPANS = {
    "rain100l": (LIGHT, (20.0, 32.3), (0.08, 0.31), (0.12, 0.46)),
    "rain100h": (HEAVY, (7.6, 16.1), (0.62, 0.97), (0.40, 0.83)),
}


def natural_like(generator: torch.Generator) -> torch.Tensor:
    """A smooth random scene (3, 160, 240) of middling brightness, as photographs have it."""
    coarse = torch.rand(1, 3, 8, 12, generator=generator) * 0.7 + 0.1
    return torch.nn.functional.interpolate(coarse, (160, 240), mode="bicubic")[0].clamp(0, 1)


def statistics(look: RainLook, seed: int) -> torch.Tensor:
    """PSNR in dB, wet share, 99th percentile of the streaks."""
    generator = torch.Generator().manual_seed(seed)
    clean = natural_like(generator)
    added = (add_rain(clean, look, generator) - clean).mean(0)
    psnr = -10 * added.square().mean().log10()
    return torch.stack([psnr, (added > 0.03).float().mean(), torch.quantile(added.flatten(), 0.99)])


@pytest.mark.parametrize("name", SPANS)
def test_two_hundred_draws_look_like_the_real_set(name):
    look, *spans = SPANS[name]
    means = torch.stack([statistics(look, seed) for seed in range(200)]).mean(0)
    inside = [low <= mean <= high for mean, (low, high) in zip(means.tolist(), spans, strict=True)]
    assert all(inside), means


@pytest.mark.parametrize("angle", [-40.0, 0.0, 17.0])
def test_a_line_kernel_keeps_brightness(angle):
    assert line_kernel(21.0, angle).sum().item() == pytest.approx(1, abs=1e-6)


def test_a_vertical_line_kernel_has_its_length():
    column = line_kernel(15.0, 0.0).sum(1)
    assert int((column > 1e-6).sum()) == 15


def test_the_same_seed_gives_the_same_rain():
    clean = torch.full((3, 40, 50), 0.4)
    first, second = (random_rain(clean, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)


def test_light_rain_without_veil_never_darkens():
    clean = torch.full((3, 60, 60), 102 / 255)
    dry_air = RainLook(**{**LIGHT.__dict__, "veil": 0.0})
    rainy = add_rain(clean, dry_air, torch.Generator().manual_seed(1))
    assert (rainy - clean).min() > -1e-6
