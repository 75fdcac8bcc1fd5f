import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch.testing import assert_close

from restore_cli.errors import InputError
from restore_cli.metrics import psnr


def test_a_difference_of_a_tenth_everywhere_is_20_db():
    x = torch.zeros(3, 4, 5, dtype=torch.float64)
    assert psnr(x, x + 0.1).item() == pytest.approx(20)


def test_identical_images_have_infinite_psnr():
    x = torch.rand(3, 7, 13)
    assert psnr(x, x).item() == math.inf


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (33, 64)], ids=str)
@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_psnr_equals_scikit_image(size, data_range):
    x, y = torch.rand(2, 3, *size, dtype=torch.float64) * data_range
    expected = peak_signal_noise_ratio(x.numpy(), y.numpy(), data_range=data_range)
    assert psnr(x, y, data_range=data_range).item() == pytest.approx(expected, abs=1e-9)


def test_each_image_of_a_batch_has_its_own_psnr():
    x, y = torch.rand(2, 4, 5, 3, 8, 9)
    scores = psnr(x, y)
    assert scores.shape == (4, 5)
    assert_close(scores[2, 3], psnr(x[2, 3], y[2, 3]))


@pytest.mark.parametrize(
    ("one", "other"),
    [((3, 4, 5), (3, 5, 4)), ((3, 4, 5), (1, 4, 5)), ((4, 5), (4, 5))],
    ids=["size", "channels", "no_channels"],
)
def test_unlike_shapes_are_refused(one, other):
    with pytest.raises(InputError, match="cannot be compared"):
        psnr(torch.zeros(one), torch.zeros(other))


def test_half_precision_is_measured_in_float32():
    x = torch.zeros(3, 100, 100, dtype=torch.float16)
    y = x + 1e-4
    assert psnr(x, y).item() == pytest.approx(80, abs=0.01)
