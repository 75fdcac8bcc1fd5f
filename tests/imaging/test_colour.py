import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from torch.testing import assert_close

from restore_cli.imaging.colour import luma, quantize, rgb_to_ycbcr, ycbcr_to_rgb

# 8-bit results of MATLAB's rgb2ycbcr.
PRIMARIES = {
    "black": ((0, 0, 0), (16, 128, 128)),
    "white": ((255, 255, 255), (235, 128, 128)),
    "red": ((255, 0, 0), (81, 90, 240)),
    "green": ((0, 255, 0), (145, 54, 34)),
    "blue": ((0, 0, 255), (41, 240, 110)),
}


@pytest.mark.parametrize(("rgb", "ycbcr"), PRIMARIES.values(), ids=PRIMARIES)
def test_primaries_have_the_levels_of_matlab(rgb, ycbcr):
    pixel = torch.tensor(rgb).view(3, 1, 1) / 255
    levels = quantize(rgb_to_ycbcr(pixel)) * 255
    assert levels.flatten().round().tolist() == list(ycbcr)


def test_ycbcr_equals_scikit_image():
    rgb = torch.rand(2, 3, 7, 13, dtype=torch.float64)
    expected = rgb2ycbcr(rgb.numpy(), channel_axis=1) / 255
    np.testing.assert_allclose(rgb_to_ycbcr(rgb).numpy(), expected, atol=1e-12)


def test_luma_is_the_first_plane_of_ycbcr():
    rgb = torch.rand(2, 3, 7, 13)
    assert_close(luma(rgb), rgb_to_ycbcr(rgb)[:, :1])


@pytest.mark.parametrize("convert", [luma, rgb_to_ycbcr])
def test_gray_counts_as_three_equal_channels(convert):
    gray = torch.rand(1, 5, 4)
    assert_close(convert(gray), convert(gray.expand(3, -1, -1)))


def test_going_to_ycbcr_and_back_changes_nothing():
    rgb = torch.rand(3, 7, 13, dtype=torch.float64)
    assert_close(ycbcr_to_rgb(rgb_to_ycbcr(rgb)), rgb)


def test_levels_are_nearest_half_upwards_and_clamped():
    levels = torch.tensor([-30.0, 0.0, 0.49, 0.5, 1.5, 254.4, 255.0, 400.0], dtype=torch.float64)
    assert (quantize(levels / 255) * 255).round().tolist() == [0, 0, 0, 1, 2, 254, 255, 255]


def test_all_8_bit_levels_are_kept_in_float32():
    levels = torch.arange(256) / 255
    assert_close(quantize(levels), levels, rtol=0, atol=0)


def test_rounding_leaves_its_input_alone():
    pixels = torch.tensor([0.1234])
    quantize(pixels)
    assert pixels.item() == pytest.approx(0.1234)
