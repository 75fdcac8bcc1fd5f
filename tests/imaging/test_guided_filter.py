import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from restore_cli.imaging import planes
from restore_cli.imaging.guided_filter import (
    LinearCoefficients,
    apply,
    downsample,
    fit_coefficients,
    noise_std,
)

NO_NOISE = torch.zeros(3, 1, 1)


def scene(height=96, width=128, seed=0):
    """Return a dark scene in [0.02, 0.2]: flat areas with edges, and fine detail."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 6, generator=random)
    areas = F.interpolate(coarse, (height, width), mode="nearest")[0]
    detail = torch.rand(3, height, width, generator=random)
    return 0.02 + 0.14 * areas + 0.04 * detail


def transferred(pixels, wanted, noise=NO_NOISE):
    """Restore `pixels` from the wanted image at a quarter of their size."""
    downsampled, restored = (downsample(image, (24, 32)) for image in (pixels, wanted))
    lines = fit_coefficients(downsampled, restored.pixels, noise)
    return apply(lines, pixels, torch.empty_like(pixels))


@pytest.mark.parametrize("rows", [3, 64], ids=["several strips", "one strip"])
def test_downsampling_in_strips_equals_interpolation_of_the_whole(rows, monkeypatch):
    monkeypatch.setattr(planes, "STRIP", rows)
    pixels = torch.rand(3, 50, 61)
    downsampled = downsample(pixels, (20, 23))
    wanted = F.interpolate(pixels[None], (20, 23), mode="bilinear", antialias=True)[0]
    squares = F.interpolate(pixels[None] ** 2, (20, 23), mode="bilinear", antialias=True)[0]
    assert_close(downsampled.pixels, wanted, atol=1e-6, rtol=0)
    assert_close(downsampled.squares, squares, atol=1e-6, rtol=0)


@pytest.mark.parametrize("rows", [3, 64], ids=["several strips", "one strip"])
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (50, 61)], ids=str)
def test_coefficients_are_upsampled_bilinearly(rows, size, monkeypatch):
    monkeypatch.setattr(planes, "STRIP", rows)
    slope, offset, pixels = torch.rand(3, 8, 9), torch.rand(3, 8, 9), torch.rand(3, *size)
    large = [F.interpolate(line[None], size, mode="bilinear")[0] for line in (slope, offset)]
    assert_close(
        apply(LinearCoefficients(slope, offset), pixels, torch.empty_like(pixels)),
        large[0] * pixels + large[1],
        atol=1e-6,
        rtol=0,
    )


def test_an_image_four_times_as_bright_keeps_all_its_detail():
    dark = scene()
    bright = transferred(dark, 4 * dark)
    assert (bright - 4 * dark).abs().mean() < 0.01 * 4 * dark.mean()


def test_an_unchanged_image_stays_as_it_is():
    pixels = scene() * 4
    assert (transferred(pixels, pixels) - pixels).abs().max() < 2 / 255


def test_a_brightened_area_has_no_halo():
    """Only one side of an edge is brightened; the other side does not change."""
    pixels = torch.full((3, 96, 128), 0.05)
    pixels[..., 64:] = 0.5
    wanted = torch.where(pixels < 0.25, 5 * pixels, pixels)
    assert_close(transferred(pixels, wanted), wanted, atol=0.03, rtol=0)


def test_noise_is_not_brightened_with_the_image():
    flat = torch.full((3, 96, 128), 0.1)
    noisy = flat + 0.01 * torch.randn(3, 96, 128)
    result = transferred(noisy, 5 * flat, noise=noise_std(noisy))
    assert result.std() < 0.5 * 5 * noisy.std()
    assert result.mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("sigma", [0.003, 0.02])
def test_noise_is_measured_on_shades_and_edges_alike(sigma):
    shaded = torch.linspace(0, 0.5, 128).expand(3, 96, 128).clone()
    shaded[..., 40:60, 30:90] += 0.3
    noisy = shaded + sigma * torch.randn(3, 96, 128)
    assert_close(noise_std(noisy), torch.full((3, 1, 1), sigma), atol=0, rtol=0.1)


@pytest.mark.parametrize("size", [(1, 1), (2, 9)], ids=str)
def test_an_image_too_small_for_an_estimate_has_no_noise(size):
    assert torch.equal(noise_std(torch.rand(3, *size)), torch.zeros(3, 1, 1))
