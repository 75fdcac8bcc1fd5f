import numpy as np
import pytest
import pytorch_msssim
import torch
from scipy.ndimage import correlate
from scipy.signal import convolve2d
from skimage.metrics import structural_similarity
from torch.testing import assert_close

from restore_cli.errors import ImageTooSmall
from restore_cli.metrics import ms_ssim, ssim
from restore_cli.metrics.structure import (
    SCALE_WEIGHTS,
    fitting_scales,
    multi_scale,
    ssim_and_ms_ssim,
)


def pair(*shape):
    """An image with structure at many scales, and the same with noise."""
    waves = [torch.linspace(0, size**0.7, size, dtype=torch.float64).sin() for size in shape[-2:]]
    x = (torch.outer(*waves) * 0.4 + 0.5).expand(shape)
    return x.clone(), (x + 0.1 * torch.randn(shape, dtype=torch.float64)).clamp(0, 1)


def ms_ssim_of_wang(x, y):
    """The published MATLAB function in numpy: 2-D window, symmetric 2x2 mean; x, y (H, W)."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    score = 1.0
    for scale, weight in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
        mx, my, xx, yy, xy = (
            convolve2d(plane, window, "valid") for plane in (x, y, x * x, y * y, x * y)
        )
        factor = (2 * (xy - mx * my) + 0.03**2) / (xx - mx**2 + yy - my**2 + 0.03**2)
        if scale == 4:
            factor *= (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2)
        score *= factor.mean() ** weight
        x, y = (
            correlate(plane, np.full((2, 2), 0.25), mode="reflect", origin=-1)[::2, ::2]
            for plane in (x, y)
        )
    return score


@pytest.mark.parametrize("size", [(11, 11), (11, 30), (13, 17), (33, 64), (91, 67)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_ssim_equals_scikit_image(size, channels, data_range):
    x, y = (z * data_range for z in pair(channels, *size))
    expected = structural_similarity(
        x.numpy(),
        y.numpy(),
        channel_axis=0,
        data_range=data_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(x, y, data_range=data_range).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("size", [(176, 176), (176, 192), (208, 176)], ids=str)
def test_ms_ssim_equals_pytorch_msssim_on_multiples_of_16(size):
    x, y = pair(2, 3, *size)
    expected = pytorch_msssim.ms_ssim(x, y, data_range=1.0, size_average=False)
    assert_close(ms_ssim(x, y), expected, atol=5e-6, rtol=0)  # its window is float32


@pytest.mark.parametrize("size", [(161, 161), (161, 163), (176, 192), (179, 230)], ids=str)
def test_ms_ssim_equals_the_published_function_on_all_sizes(size):
    x, y = pair(1, *size)
    expected = ms_ssim_of_wang(x[0].numpy(), y[0].numpy())
    assert ms_ssim(x, y).item() == pytest.approx(expected, abs=1e-12)


def test_ms_ssim_of_colours_is_the_mean_of_the_channels():
    x, y = pair(3, 161, 170)
    assert_close(ms_ssim(x, y), torch.stack([ms_ssim(x[[c]], y[[c]]) for c in range(3)]).mean())


def test_both_at_once_are_what_each_is_alone():
    x, y = pair(3, 170, 165)
    assert_close(ssim_and_ms_ssim(x, y), (ssim(x, y), ms_ssim(x, y)))


@pytest.mark.parametrize("metric", [ssim, ms_ssim])
def test_identical_images_have_similarity_1(metric):
    x, _ = pair(3, 170, 165)
    assert metric(x, x).item() == pytest.approx(1)


def test_ms_ssim_of_an_inverted_image_is_0():
    x, _ = pair(1, 170, 165)
    assert ms_ssim(x, 1 - x).item() == 0


@pytest.mark.parametrize("metric", [ssim, ms_ssim])
def test_each_image_of_a_batch_has_its_own_score(metric):
    x, y = pair(2, 2, 3, 162, 161)
    scores = metric(x, y)
    assert scores.shape == (2, 2)
    assert_close(scores[1, 0], metric(x[1, 0], y[1, 0]))


@pytest.mark.parametrize(
    ("metric", "size", "least"),
    [(ssim, (10, 40), 11), (ssim, (40, 10), 11), (ms_ssim, (160, 200), 161)],
    ids=["ssim_low", "ssim_narrow", "ms_ssim"],
)
def test_too_small_images_are_refused_with_both_sizes(metric, size, least):
    height, width = size
    with pytest.raises(ImageTooSmall, match=f"at least {least} px.* {width}x{height}"):
        metric(*pair(3, height, width))


@pytest.mark.parametrize("metric", [ssim, ms_ssim])
def test_float32_is_good_to_four_digits(metric):
    x, y = pair(3, 161, 181)
    assert metric(x.float(), y.float()).item() == pytest.approx(metric(x, y).item(), abs=1e-5)


@pytest.mark.parametrize("metric", [ssim, ms_ssim])
def test_gradients_reach_the_restored_image(metric):
    x, y = pair(1, 161, 161)
    y.requires_grad_()
    metric(y, x).backward()
    assert y.grad.abs().amax() > 0


@pytest.mark.parametrize(
    ("side", "scales"), [(11, 1), (20, 1), (21, 2), (40, 2), (41, 3), (160, 4), (161, 5), (999, 5)]
)
def test_as_many_scales_are_taken_as_a_window_fits_into(side, scales):
    weights = fitting_scales(side, side + 7)
    assert len(weights) == scales
    assert sum(weights) == pytest.approx(1)


def test_one_scale_is_ssim_and_five_are_ms_ssim():
    x, y = pair(3, 161, 170)
    assert_close(multi_scale(x, y, [1.0]), ssim(x, y))
    assert_close(multi_scale(x, y, SCALE_WEIGHTS), ms_ssim(x, y))


def test_an_image_too_small_for_the_scales_is_refused():
    with pytest.raises(ImageTooSmall, match="3 scales"):
        multi_scale(*pair(1, 40, 90), [0.3, 0.3, 0.4])
