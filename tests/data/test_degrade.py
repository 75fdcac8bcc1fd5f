import math

import pytest
import torch
import torch.nn.functional as F

from restore_cli.data.degrade import (
    DENSE,
    HEAVY,
    LIGHT,
    SHORT,
    SNOWY,
    RainStyle,
    add_rain,
    gaussian_kernel,
    line_kernel,
    near_drops,
    random_rain,
)

# Of R = rainy - clean, mean of the channels; 5 % to 95 % measured on the real sets (Yang et al.
# 2017). The means of our draws must lie inside.
SPANS = {
    "rain100l": (
        LIGHT,
        {
            "psnr": (20.0, 32.3),
            "wet share": (0.08, 0.31),
            "mean": (0.007, 0.038),
            "mean where wet": (0.071, 0.167),
            "99th percentile": (0.12, 0.46),
            "half-length": (9.7, 31.0),
        },
    ),
    "rain100h": (
        HEAVY,
        {
            "psnr": (7.6, 16.1),
            "wet share": (0.62, 0.97),
            "mean": (0.10, 0.37),
            "mean where wet": (0.15, 0.39),
            "99th percentile": (0.40, 0.83),
            "half-length": (6.0, 27.0),
        },
    ),
}


def natural_like(generator: torch.Generator) -> torch.Tensor:
    """A smooth random scene (3, 160, 240) of medium brightness."""
    coarse = torch.rand(1, 3, 8, 12, generator=generator) * 0.7 + 0.1
    return F.interpolate(coarse, (160, 240), mode="bicubic")[0].clamp(0, 1)


def half_length(added: torch.Tensor) -> torch.Tensor:
    """Pixels along the streaks to half the height of the autocorrelation.

    Along the direction, of those within 35 degrees of the vertical, in which it reaches farthest.
    """
    centred = added - added.mean()
    spectrum = torch.fft.rfft2(centred, s=(2 * added.shape[0], 2 * added.shape[1]))
    correlation = torch.fft.irfft2(spectrum.abs().square())
    reaches = []
    for degrees in range(-35, 36):
        lags = torch.arange(0.0, 60.0)
        rows = lags.round().long()
        columns = (lags * math.tan(math.radians(degrees))).round().long()
        along = correlation[rows, columns % correlation.shape[1]] / correlation[0, 0]
        pixels = int((along < 0.5).int().argmax()) / math.cos(math.radians(degrees))
        reaches.append(pixels)
    return torch.tensor(max(reaches))


def statistics(style: RainStyle, seed: int) -> torch.Tensor:
    """In the order of SPANS: PSNR in dB, shares and brightness in [0, 1], length in pixels."""
    generator = torch.Generator().manual_seed(seed)
    clean = natural_like(generator)
    difference = add_rain(clean, style, generator) - clean
    added = difference.mean(0)
    wet = added > 0.03
    return torch.stack(
        [
            -10 * difference.square().mean().log10(),
            wet.float().mean(),
            added.mean(),
            added[wet].mean(),
            torch.quantile(added.flatten(), 0.99),
            half_length(added),
        ]
    )


@pytest.mark.parametrize("name", SPANS)
def test_two_hundred_draws_look_like_the_real_set(name):
    style, spans = SPANS[name]
    means = torch.stack([statistics(style, seed) for seed in range(200)]).mean(0)
    found = dict(zip(spans, means.tolist(), strict=True))
    outside = {
        what: found[what] for what, (low, high) in spans.items() if not low < found[what] < high
    }
    assert outside == {}


# Of three photographs of dense rain (rain-real), without what is smooth across the streaks; of
# snow there is none. 99th percentile of brightness, half-length in pixels.
PHOTOGRAPHED = {
    "94 and 134": (SHORT, (0.07, 0.36), (2.0, 5.0)),
    "42": (DENSE, (0.09, 0.14), (7.0, 11.0)),
}


@pytest.mark.parametrize("name", PHOTOGRAPHED)
def test_a_hundred_draws_look_like_photographed_rain(name):
    style, brightness, length = PHOTOGRAPHED[name]
    found = torch.stack([fine_statistics(style, seed) for seed in range(100)]).mean(0)
    assert brightness[0] < found[0] < brightness[1]
    assert length[0] < found[1] < length[1]


def fine_statistics(style: RainStyle, seed: int) -> torch.Tensor:
    """In the order of PHOTOGRAPHED."""
    generator = torch.Generator().manual_seed(seed)
    clean = natural_like(generator)
    added = (add_rain(clean, style, generator) - clean).mean(0)
    bell = torch.exp(-(torch.arange(-12.0, 13.0) ** 2) / (2 * 5**2))
    padded = F.pad(added[None, None], (12, 12, 0, 0), mode="replicate")
    fine = added - F.conv2d(padded, (bell / bell.sum())[None, None, None])[0, 0]
    return torch.stack([torch.quantile(fine.flatten(), 0.99), half_length(fine)])


@pytest.mark.parametrize("style", [SHORT, DENSE, SNOWY], ids=["short", "dense", "snowy"])
def test_photographed_rain_is_not_seen_before_white(style):
    white = torch.ones(3, 40, 50)
    assert torch.equal(add_rain(white, style, torch.Generator().manual_seed(3)), white)


def test_near_drops_are_soft_and_never_opaque():
    opacity = near_drops(60, 80, 0.0, torch.Generator().manual_seed(3))
    assert opacity.min() >= 0
    assert 0.2 < opacity.max() < 1


def test_near_drops_are_wider_than_streaks_of_rain():
    opacity = near_drops(60, 80, 0.0, torch.Generator().manual_seed(3))
    assert int((opacity > opacity.max() / 2).sum(1).max()) >= 4


def test_about_a_seventh_of_the_mix_is_dry():
    clean = torch.full((3, 24, 24), 102 / 255)
    generator = torch.Generator().manual_seed(0)
    dry = sum(torch.equal(random_rain(clean, generator), clean) for _ in range(400))
    assert 0.10 < dry / 400 < 0.20


@pytest.mark.parametrize("sigma", [0.3, 1.6])
def test_a_gaussian_kernel_keeps_brightness(sigma):
    assert gaussian_kernel(sigma).sum().item() == pytest.approx(1, abs=1e-6)


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


def test_light_rain_never_darkens():
    clean = torch.full((3, 60, 60), 102 / 255)
    rainy = add_rain(clean, LIGHT, torch.Generator().manual_seed(1))
    assert (rainy - clean).min() > -1e-6
