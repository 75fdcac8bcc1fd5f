import math

import pytest
import torch

from restore_cli.data.degrade import HEAVY, LIGHT, RainLook, add_rain, line_kernel, random_rain

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
    """A smooth random scene (3, 160, 240) of middling brightness, as photographs have it."""
    coarse = torch.rand(1, 3, 8, 12, generator=generator) * 0.7 + 0.1
    return torch.nn.functional.interpolate(coarse, (160, 240), mode="bicubic")[0].clamp(0, 1)


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


def statistics(look: RainLook, seed: int) -> torch.Tensor:
    """In the order of SPANS: PSNR in dB, shares and brightness in [0, 1], length in pixels."""
    generator = torch.Generator().manual_seed(seed)
    clean = natural_like(generator)
    difference = add_rain(clean, look, generator) - clean
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
    look, spans = SPANS[name]
    means = torch.stack([statistics(look, seed) for seed in range(200)]).mean(0)
    found = dict(zip(spans, means.tolist(), strict=True))
    outside = {
        what: found[what] for what, (low, high) in spans.items() if not low < found[what] < high
    }
    assert outside == {}


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
