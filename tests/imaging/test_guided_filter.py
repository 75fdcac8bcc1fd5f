import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from restore_cli.imaging import guided_filter as transfer
from restore_cli.imaging.guided_filter import (
    LinearCoefficients,
    downsample,
    fit_coefficients,
    noise_of,
    through,
)

NO_NOISE = torch.zeros(3, 1, 1)


def scene(height=96, width=128, seed=0):
    """Smooth shades with edges between them, and fine detail all over, in [0.02, 0.2]: dark."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 6, generator=random)
    areas = F.interpolate(coarse, (height, width), mode="nearest")[0]
    detail = torch.rand(3, height, width, generator=random)
    return 0.02 + 0.14 * areas + 0.04 * detail


def carried(pixels, wanted, noise=NO_NOISE):
    """What becomes of `pixels` when what is wanted is known at a quarter of their size only."""
    copy, restored = (downsample(image, (24, 32)) for image in (pixels, wanted))
    return through(fit_coefficients(copy, restored.pixels, noise), pixels)


@pytest.mark.parametrize("rows", [3, 64], ids=["several strips", "one strip"])
def test_a_copy_is_what_interpolation_makes_of_the_whole(rows, monkeypatch):
    monkeypatch.setattr(transfer, "STRIP", rows)
    pixels = torch.rand(3, 50, 61)
    copy = downsample(pixels, (20, 23))
    wanted = F.interpolate(pixels[None], (20, 23), mode="bilinear", antialias=True)[0]
    squares = F.interpolate(pixels[None] ** 2, (20, 23), mode="bilinear", antialias=True)[0]
    assert_close(copy.pixels, wanted, atol=1e-6, rtol=0)
    assert_close(copy.squares, squares, atol=1e-6, rtol=0)


@pytest.mark.parametrize("rows", [3, 64], ids=["several strips", "one strip"])
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (50, 61)], ids=str)
def test_lines_are_enlarged_by_bilinear_interpolation(rows, size, monkeypatch):
    monkeypatch.setattr(transfer, "STRIP", rows)
    slope, offset, pixels = torch.rand(3, 8, 9), torch.rand(3, 8, 9), torch.rand(3, *size)
    large = [F.interpolate(line[None], size, mode="bilinear")[0] for line in (slope, offset)]
    assert_close(
        through(LinearCoefficients(slope, offset), pixels),
        large[0] * pixels + large[1],
        atol=1e-6,
        rtol=0,
    )


def test_a_image_four_times_as_bright_keeps_all_its_detail():
    dark = scene()
    bright = carried(dark, 4 * dark)
    assert (bright - 4 * dark).abs().mean() < 0.01 * 4 * dark.mean()


def test_an_unchanged_image_stays_as_it_is():
    pixels = scene() * 4
    assert (carried(pixels, pixels) - pixels).abs().max() < 2 / 255


def test_light_ends_where_it_ended_in_the_copy():
    """No halo: beside an edge that only one side of was brightened, the other side stays."""
    pixels = torch.full((3, 96, 128), 0.05)
    pixels[..., 64:] = 0.5
    wanted = torch.where(pixels < 0.25, 5 * pixels, pixels)
    assert_close(carried(pixels, wanted), wanted, atol=0.03, rtol=0)


def test_noise_is_not_brightened_with_the_image():
    flat = torch.full((3, 96, 128), 0.1)
    noisy = flat + 0.01 * torch.randn(3, 96, 128)
    result = carried(noisy, 5 * flat, noise=noise_of(noisy))
    assert result.std() < 0.5 * 5 * noisy.std()
    assert result.mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("sigma", [0.003, 0.02])
def test_noise_is_measured_on_shades_and_edges_alike(sigma):
    shaded = torch.linspace(0, 0.5, 128).expand(3, 96, 128).clone()
    shaded[..., 40:60, 30:90] += 0.3
    noisy = shaded + sigma * torch.randn(3, 96, 128)
    assert_close(noise_of(noisy), torch.full((3, 1, 1), sigma), atol=0, rtol=0.1)


@pytest.mark.parametrize("size", [(1, 1), (2, 9)], ids=str)
def test_a_image_too_small_to_tell_has_no_noise(size):
    assert torch.equal(noise_of(torch.rand(3, *size)), torch.zeros(3, 1, 1))
