import pytest
import torch

from restore_cli.inference.preprocessing import PREPROCESSING, rgb
from restore_cli.registry import MODELS

SPEC = MODELS["dpenet"]


@pytest.mark.parametrize("name", sorted({spec.adapter for spec in MODELS.values()}))
@pytest.mark.parametrize("channels", [1, 3])
def test_an_answer_comes_back_in_the_channels_and_the_scaled_size_of_the_image(name, channels):
    spec = next(spec for spec in MODELS.values() if spec.adapter == name)
    pixels = torch.rand(channels, 9, 7)
    fed, finish = PREPROCESSING[name](pixels, spec)
    assert fed.shape[:2] == (1, spec.channels)
    answer = fed.repeat_interleave(spec.scale, -1).repeat_interleave(spec.scale, -2)
    assert finish(answer).shape == (channels, 9 * spec.scale, 7 * spec.scale)


def test_rgb_is_fed_as_it_is():
    pixels = torch.rand(3, 9, 7)
    fed, finish = rgb(pixels, SPEC)
    assert torch.equal(fed, pixels[None])
    assert torch.equal(finish(fed), pixels)


def test_grey_is_fed_three_times_and_comes_back_as_the_mean():
    fed, finish = rgb(torch.rand(1, 9, 7), SPEC)
    assert torch.equal(fed[:, 0], fed[:, 2])
    coloured = fed + torch.tensor([0.0, 0.3, 0.6])[None, :, None, None]
    torch.testing.assert_close(finish(coloured), fed[0, :1] + 0.3)
