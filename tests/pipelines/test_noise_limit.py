import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from restore_cli.pipelines import noise_limit
from restore_cli.pipelines.noise_limit import limit_to_noise, noise_in

SIGMA = 4 / 255


def scene(height=96, width=128):
    """Flat on the left; fine stripes on the right, which a denoiser would take for noise."""
    picture = torch.full((3, height, width), 0.4)
    picture[..., width // 2 :: 2] += 0.04
    return picture


def smoothed(picture):
    """What a denoiser makes of it that knows no stripes."""
    return F.avg_pool2d(F.pad(picture[None], (2, 2, 2, 2), mode="reflect"), 5, 1)[0]


def error(picture, truth):
    return (picture - truth).square().mean().sqrt().item()


def test_detail_of_a_clean_picture_comes_back():
    clean = scene()
    result = smoothed(clean)
    lost = error(result, clean)
    assert limit_to_noise(clean, result) < 0.1 / 255
    assert error(result, clean) < 0.05 * lost


def test_noise_is_measured_where_the_picture_is_flat():
    clean = scene()
    noisy = clean + SIGMA * torch.randn(clean.shape)
    measured = noise_in(noisy, clean)
    assert_close(measured, torch.full((3,), SIGMA), rtol=0.1, atol=0)


def test_noise_on_flat_places_goes_while_the_stripes_stay():
    clean = scene()
    noisy = clean + SIGMA * torch.randn(clean.shape)
    result = smoothed(noisy)
    before, after = result.clone(), result
    limit_to_noise(noisy, after)
    flat, stripes = (..., slice(0, 56)), (..., slice(72, 128))
    assert error(after[flat], clean[flat]) < 0.4 * error(noisy[flat], clean[flat])
    # Wiener's share, near the best between both extremes.
    least = min(error(p[stripes], clean[stripes]) for p in (noisy, before))
    assert error(after[stripes], clean[stripes]) < 0.9 * least


def test_clipped_places_do_not_count_as_free_of_noise():
    clean = torch.full((3, 96, 96), 0.4)
    noisy = clean + SIGMA * torch.randn(clean.shape)
    clean[..., :60] = noisy[..., :60] = 0  # black, its noise cut off
    assert_close(noise_in(noisy, clean), torch.full((3,), SIGMA), rtol=0.1, atol=0)


def test_a_wholly_dark_picture_is_measured_nevertheless():
    clean = torch.full((1, 96, 96), 0.02)
    noisy = clean + SIGMA / 4 * torch.randn(clean.shape)
    assert noise_in(noisy, clean).item() == pytest.approx(SIGMA / 4, rel=0.1)


def test_each_channel_has_its_own_noise():
    clean = torch.full((3, 96, 96), 0.4)
    sigmas = torch.tensor([1.0, 2.0, 4.0]) / 255
    noisy = clean + sigmas[:, None, None] * torch.randn(clean.shape)
    assert_close(noise_in(noisy, clean), sigmas, rtol=0.1, atol=0)


@pytest.mark.parametrize("strip", [16, 32, 48])
def test_strips_leave_no_trace(monkeypatch, strip):
    noisy = scene(83, 70) + SIGMA * torch.randn(3, 83, 70)
    whole, in_strips = smoothed(noisy), smoothed(noisy)
    limit_to_noise(noisy, whole)
    monkeypatch.setattr(noise_limit, "STRIP", strip)
    limit_to_noise(noisy, in_strips)
    assert_close(in_strips, whole, atol=1e-6, rtol=0)  # float32 sum order


@pytest.mark.parametrize("size", [(1, 1), (15, 200), (40, 20)])
def test_a_picture_too_small_to_tell_stays_as_it_was_denoised(size):
    noisy = torch.rand(3, *size)
    denoised = torch.rand(3, *size)
    result = denoised.clone()
    assert limit_to_noise(noisy, result) is None
    assert torch.equal(result, denoised)


def test_the_result_lies_between_the_picture_and_what_the_network_made_of_it():
    noisy, denoised = torch.rand(3, 64, 64), torch.rand(3, 64, 64)
    result = denoised.clone()
    limit_to_noise(noisy, result)
    low, high = torch.minimum(noisy, denoised), torch.maximum(noisy, denoised)
    assert ((result >= low - 1e-6) & (result <= high + 1e-6)).all()
