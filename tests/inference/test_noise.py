import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from restore_cli.inference import noise as noise_limit
from restore_cli.inference.noise import limit_to_noise

SIGMA = 4 / 255


def scene(height=96, width=128):
    """Flat on the left; fine stripes on the right, which a denoiser would take for noise."""
    image = torch.full((3, height, width), 0.4)
    image[..., width * 3 // 4 :: 2] += 0.04
    return image


def smoothed(image):
    """A denoiser that does not know stripes."""
    return F.avg_pool2d(F.pad(image[None], (2, 2, 2, 2), mode="reflect"), 5, 1)[0]


def partly_smoothed(image):
    """A network that tells most detail from noise."""
    return torch.lerp(image, smoothed(image), 0.4)


def quantized(image):
    return (image.clamp(0, 1) * 255).round() / 255


def line_art(paper, ink=20, channels=3):
    """Slanted lines, 8 px apart: no block of 16 px is without ink."""
    y, x = torch.meshgrid(torch.arange(120), torch.arange(160), indexing="ij")
    image = torch.full((120, 160), paper / 255)
    image[((x + y // 3) % 8) == 0] = ink / 255
    return image.expand(channels, -1, -1).clone()


def antialiased(image):
    return quantized(F.avg_pool2d(image[None], 3, 1, padding=1, count_include_pad=False)[0])


def error(image, truth):
    return (image - truth).square().mean().sqrt().item()


def estimated(noisy, denoised, limit="auto"):
    """Return the estimate and the result."""
    result = denoised.clone()
    return limit_to_noise(noisy, result, limit), result


def test_detail_of_a_clean_image_comes_back():
    clean = scene()
    denoised = partly_smoothed(clean)
    sigma, result = estimated(clean, denoised)
    assert sigma < 0.1 / 255
    assert error(result, clean) < 0.05 * error(denoised, clean)


def test_the_estimate_is_that_of_the_flat_part():
    clean = scene()
    noisy = clean + SIGMA * torch.randn(clean.shape)
    assert estimated(noisy, smoothed(noisy))[0] == pytest.approx(SIGMA, rel=0.25)


def test_noise_on_flat_places_goes_while_the_stripes_stay():
    clean = scene()
    noisy = clean + SIGMA * torch.randn(clean.shape)
    before = smoothed(noisy)
    after = estimated(noisy, before)[1]
    flat, stripes = (..., slice(0, 88)), (..., slice(104, 128))
    assert error(after[flat], clean[flat]) < 0.4 * error(noisy[flat], clean[flat])
    # Wiener's share, near the better of both extremes.
    least = min(error(p[stripes], clean[stripes]) for p in (noisy, before))
    assert error(after[stripes], clean[stripes]) < 1.1 * least


@pytest.mark.parametrize("paper", [255, 250, 240, 128])
@pytest.mark.parametrize("smooth", [False, True], ids=["hard", "antialiased"])
@pytest.mark.parametrize("channels", [1, 3])
def test_ink_on_clean_paper_is_no_noise(paper, smooth, channels):
    clean = line_art(paper, channels=channels)
    clean = antialiased(clean) if smooth else clean
    sigma, result = estimated(clean, partly_smoothed(clean))
    assert sigma == 0
    assert torch.equal(result, clean)


COLOURS = {  # of paper and ink
    "yellow and blue": ((255, 255, 0), (0, 0, 255)),
    "grey and green": ((30, 30, 30), (0, 255, 0)),
    "white and magenta": ((240, 240, 255), (240, 0, 255)),
}


@pytest.mark.parametrize(("paper", "ink"), COLOURS.values(), ids=COLOURS)
@pytest.mark.parametrize("smooth", [False, True], ids=["hard", "antialiased"])
def test_a_drawing_in_two_colours_is_no_noise(paper, ink, smooth):
    is_ink = line_art(255, ink=0) == 0
    papers, inks = (torch.tensor(colour)[:, None, None] / 255 for colour in (paper, ink))
    clean = torch.where(is_ink, inks, papers)
    clean = antialiased(clean) if smooth else clean
    sigma, result = estimated(clean, smoothed(clean))
    assert sigma == 0
    assert torch.equal(result, clean)


def test_noise_of_luma_is_estimated():
    clean = torch.full((3, 96, 96), 0.5)
    noisy = clean + SIGMA * torch.randn(1, 96, 96)
    assert estimated(noisy, clean)[0] == pytest.approx(SIGMA, rel=0.1)


@pytest.mark.parametrize("paper", [250, 235])
def test_noise_of_a_scanned_drawing_is_estimated(paper):
    drawing = line_art(paper)
    noisy = quantized(drawing + 2 / 255 * torch.randn(drawing.shape))
    denoised = torch.where(drawing > 0.5, drawing, noisy)
    assert estimated(noisy, denoised)[0] == pytest.approx(2 / 255, rel=0.25)


@pytest.mark.parametrize("step", [0.1, 0.8, 2.0])
def test_a_clean_gradient_stays_as_it_is(step):
    clean = quantized((20 + step * torch.arange(110.0)).expand(3, 96, -1) / 255)
    sigma, result = estimated(clean, partly_smoothed(clean))
    assert sigma < 0.7 / 255
    assert (result - clean).abs().max() <= 1 / 255


def test_a_pattern_of_two_levels_is_no_noise():
    y, x = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    board = torch.where((x + y) % 2 == 0, 0.2, 0.8).expand(3, -1, -1)
    sigma, result = estimated(board, smoothed(board))
    assert sigma < 0.7 / 255
    assert (result - board).abs().max() < 1 / 255


def test_noise_beside_a_border_of_one_level_is_estimated():
    clean = torch.full((3, 128, 128), 0.5)
    noisy = clean + SIGMA * torch.randn(clean.shape)
    noisy[..., :40] = clean[..., :40] = 0.45
    sigma, result = estimated(noisy, clean)
    assert sigma == pytest.approx(SIGMA, rel=0.1)
    assert error(result, clean) < 0.2 * SIGMA


def test_clipped_places_do_not_count_as_free_of_noise():
    clean = torch.full((3, 96, 96), 0.4)
    noisy = clean + SIGMA * torch.randn(clean.shape)
    clean[..., :60] = noisy[..., :60] = 0  # black, its noise cut off
    assert estimated(noisy, clean)[0] == pytest.approx(SIGMA, rel=0.1)


def test_a_dark_image_is_measured_nevertheless():
    clean = torch.full((1, 96, 96), 0.02)
    noisy = clean + SIGMA / 4 * torch.randn(clean.shape)
    assert estimated(noisy, clean)[0] == pytest.approx(SIGMA / 4, rel=0.1)


def test_the_limit_follows_the_channel():
    clean = torch.full((3, 96, 96), 0.4)
    sigmas = torch.tensor([1.0, 2.0, 8.0]) / 255
    noisy = clean + sigmas[:, None, None] * torch.randn(clean.shape)
    result = estimated(noisy, clean - 8 / 255)[1]  # the same is removed from each
    removed = (noisy - result).square().mean((1, 2)).sqrt()
    assert removed[0] < 0.5 * removed[2]


@pytest.mark.parametrize("law", [(0.0, 0.004), (0.003, -0.003)], ids=["shot", "tone curve"])
def test_the_limit_follows_the_brightness(law):
    """Noise of variance c0 + c1 x; one number would keep the strong noise or lose weak detail."""
    clean = torch.linspace(0.1, 0.9, 256).expand(3, 128, -1)
    variance = law[0] + law[1] * clean
    noisy = (clean + variance.clamp(min=0).sqrt() * torch.randn(clean.shape)).clamp(0, 1)
    windows = noise_limit._sampled(noisy), noise_limit._sampled(clean)
    curve = noise_limit.estimate_variance(noisy, *windows)
    levels = torch.tensor([[0.3, 0.5, 0.7]]).expand(3, -1)
    found = noise_limit._at(curve, levels).sqrt()
    assert_close(found, (law[0] + law[1] * levels).sqrt(), rtol=0.15, atol=0)


def test_off_leaves_the_output_as_it_is_and_still_estimates():
    clean = scene()
    noisy = clean + SIGMA * torch.randn(clean.shape)
    sigma, result = estimated(noisy, smoothed(noisy), "off")
    assert torch.equal(result, smoothed(noisy))
    assert sigma == pytest.approx(SIGMA, rel=0.25)


@pytest.mark.parametrize("sigma", [0, 0.5, 2, 20.0])
def test_a_given_sigma_is_the_most_that_is_removed(sigma):
    noisy = torch.rand(3, 64, 64)
    removed = (noisy - estimated(noisy, noisy + 10 / 255, sigma)[1]).abs() * 255
    assert removed.mean().item() == pytest.approx(min(sigma**2 / 10, 10), abs=1e-3)


def test_a_given_sigma_holds_for_tiny_images_too():
    noisy = torch.rand(3, 1, 1)
    assert_close(estimated(noisy, 1 - noisy, 0)[1], noisy)


@pytest.mark.parametrize("strip", [16, 32, 48])
def test_strips_leave_no_trace(monkeypatch, strip):
    noisy = scene(83, 70) + SIGMA * torch.randn(3, 83, 70)
    whole, in_strips = smoothed(noisy), smoothed(noisy)
    limit_to_noise(noisy, whole)
    monkeypatch.setattr(noise_limit, "STRIP", strip)
    limit_to_noise(noisy, in_strips)
    assert_close(in_strips, whole, atol=1e-6, rtol=0)  # float32 sum order


def test_of_a_large_image_a_sample_is_enough(monkeypatch):
    clean = scene(400, 200)
    noisy = clean + SIGMA * torch.randn(clean.shape)
    monkeypatch.setattr(noise_limit, "LARGEST_SAMPLE", 500)
    assert estimated(noisy, smoothed(noisy))[0] == pytest.approx(SIGMA, rel=0.25)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (40, 20)])
def test_an_image_too_small_to_tell_stays_as_it_was_denoised(size):
    noisy = torch.rand(3, *size)
    denoised = torch.rand(3, *size)
    sigma, result = estimated(noisy, denoised)
    assert sigma is None
    assert torch.equal(result, denoised)


def test_the_result_lies_between_the_image_and_the_output():
    noisy, denoised = torch.rand(3, 64, 64), torch.rand(3, 64, 64)
    result = estimated(noisy, denoised)[1]
    low, high = torch.minimum(noisy, denoised), torch.maximum(noisy, denoised)
    assert ((result >= low - 1e-6) & (result <= high + 1e-6)).all()
