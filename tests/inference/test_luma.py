import numpy as np
import pytest
import torch
from torch.testing import assert_close

from restore_cli.imaging.colour import luma as luma_of
from restore_cli.imaging.colour import luma_to_grey, quantize, rgb_to_ycbcr
from restore_cli.imaging.resize import resize_matlab
from restore_cli.inference.options import RunOptions
from restore_cli.inference.preprocessing import prepare
from restore_cli.inference.restorer import load_restorer
from restore_cli.networks.facts import Luma, Ycbcr
from restore_cli.registry import build


@pytest.mark.parametrize(("way", "planes"), [(Luma(1, 4), 1), (Ycbcr(1, 4), 3)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_what_a_network_leaves_alone_comes_back_as_it_was(way, planes, channels):
    pixels = torch.rand(channels, 7, 13)
    prepared, finish = prepare(way, pixels)
    assert prepared.shape == (1, planes, 15, 21)
    assert_close(finish(prepared), pixels)


@pytest.mark.parametrize("way", [Luma(3, 4), Ycbcr(3, 4)], ids=str)
def test_an_image_is_mirrored_at_its_border_however_small(way):
    prepared, _ = prepare(way, torch.rand(3, 2, 3))
    core = prepared[..., 4:6, 4:7].numpy()
    expected = np.pad(core, ((0, 0), (0, 0), (4, 4), (4, 4)), mode="symmetric")
    assert torch.equal(prepared, torch.from_numpy(expected))


def test_luma_is_in_the_studio_range():
    prepared, _ = prepare(Luma(3, 4), torch.tensor([0.0, 1.0]).view(1, 1, 2))
    assert_close(prepared[0, 0, 4, 4:6] * 255, torch.tensor([16.0, 235.0]))


def test_luma_is_enlarged_by_the_network_and_chroma_by_bicubic():
    pixels = torch.rand(3, 6, 5)
    prepared, finish = prepare(Luma(3, 4), pixels)
    output = torch.rand(1, 1, 42, 39)
    restored = finish(output)
    assert prepared.shape == (1, 1, 14, 13)
    assert_close(luma_of(restored), output[0, :, 12:30, 12:27])
    bicubic = resize_matlab(rgb_to_ycbcr(pixels)[1:], 18, 15)
    assert_close(rgb_to_ycbcr(restored)[1:], bicubic)


def test_three_channels_are_those_of_jpeg():
    """Black, white, red: the levels that libjpeg stores."""
    pixels = torch.tensor([[0.0, 1, 1], [0, 1, 0], [0, 1, 0]])[:, None]
    prepared, _ = prepare(Ycbcr(3, 4), pixels)
    levels = (prepared[0, :, 4, 4:7] * 255).round()
    assert_close(
        levels, torch.tensor([[0.0, 255, 76], [128, 128, 85], [128, 128, 255]]), atol=1, rtol=0
    )


SIZES = pytest.mark.parametrize("size", [(1, 1), (2, 3), (20, 30)], ids=str)
SCALES = pytest.mark.parametrize("scale", [2, 3, 4])


def espcn(scale, **options):
    chosen = RunOptions(weights=f"espcn.x{scale}", device="cpu", precision="fp32", **options)
    return load_restorer("upscale", chosen)


@SIZES
@SCALES
def test_flat_white_stays_white_up_to_the_corners(size, scale):
    result = espcn(scale).run(torch.ones(3, *size))
    assert result.shape == (3, size[0] * scale, size[1] * scale)
    assert quantize(result).min() > 253.5 / 255


@SIZES
@SCALES
def test_a_video_frame_has_the_same_border_as_an_image(size, scale):
    network, grey = espcn(scale), torch.rand(1, *size)
    luma_frame, _ = network.run_luma(luma_of(grey))
    assert_close(luma_to_grey(luma_frame).clamp(0, 1), network.run(grey))


def test_three_channels_have_no_darker_border_either():
    torch.manual_seed(0)
    network = build("espcn", scale=2, in_channels=3)
    prepared, finish = prepare(Ycbcr(2, 4), torch.ones(3, 5, 6))
    with torch.inference_mode():
        result = finish(network(prepared))
    assert result.shape == (3, 10, 12)
    assert_close(result, result[:, :2, :2].repeat(1, 5, 6))


def test_tiles_reach_the_border_exactly():
    pixels = torch.rand(3, 45, 70)
    whole, tiles = espcn(2, tile="off").run(pixels), espcn(2, tile=16).run(pixels)
    assert_close(tiles, whole, atol=1e-5, rtol=0)
