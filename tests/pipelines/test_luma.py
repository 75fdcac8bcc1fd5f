from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from restore_cli.imaging.colour import luma as luma_of
from restore_cli.imaging.colour import rgb_to_ycbcr
from restore_cli.imaging.resize import resize_matlab
from restore_cli.pipelines.adapters import ADAPTERS, luma
from restore_cli.registry import MODELS

LUMA = MODELS["espcn"]
COLOUR = replace(LUMA, channels=3)
EACH = [
    pytest.param("luma", LUMA, id="luma"),
    pytest.param("luma", COLOUR, id="luma, three channels"),
]


@pytest.mark.parametrize(("name", "spec"), EACH)
@pytest.mark.parametrize("channels", [1, 3])
def test_what_a_network_leaves_alone_comes_back_as_it_was(name, spec, channels):
    pixels = torch.rand(channels, 7, 13)
    prepared, finish = ADAPTERS[name](pixels, spec)
    assert prepared.shape == (1, spec.channels, 7, 13)
    assert_close(finish(prepared), pixels)


def test_luma_is_in_the_studio_range():
    prepared, _ = luma(torch.tensor([0.0, 1.0]).view(1, 1, 2), LUMA)
    assert_close(prepared.flatten() * 255, torch.tensor([16.0, 235.0]))


def test_luma_is_enlarged_by_the_network_and_chroma_by_bicubic():
    pixels = torch.rand(3, 6, 5)
    prepared, finish = luma(pixels, LUMA)
    answer = torch.rand(1, 1, 18, 15)
    restored = finish(answer)
    assert prepared.shape == (1, 1, 6, 5)
    assert_close(luma_of(restored), answer[0])
    bicubic = resize_matlab(rgb_to_ycbcr(pixels)[1:], 18, 15)
    assert_close(rgb_to_ycbcr(restored)[1:], bicubic)


def test_three_channels_are_those_of_jpeg():
    """Black, white, red: the levels that libjpeg stores."""
    pixels = torch.tensor([[0.0, 1, 1], [0, 1, 0], [0, 1, 0]])[:, None]
    prepared, _ = luma(pixels, COLOUR)
    levels = (prepared[0, :, 0] * 255).round()
    assert_close(
        levels, torch.tensor([[0.0, 255, 76], [128, 128, 85], [128, 128, 255]]), atol=1, rtol=0
    )
