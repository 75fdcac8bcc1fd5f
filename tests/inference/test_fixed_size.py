"""A network of one size and images of any: what is fed, and how the answer comes back."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.checkpoints.save import save
from restore_cli.errors import OutOfMemory
from restore_cli.inference import runner as module
from restore_cli.inference.options import RunOptions
from restore_cli.inference.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    mean_brightness,
    prepare,
)
from restore_cli.inference.restorer import load_restorer
from restore_cli.networks.facts import FixedSize, Stretched

CONFIG = {"stem_channels": 2, "nominal_size": (80, 96)}
DETAIL, FIT = FixedSize(80, 96), Stretched(80, 96)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "ugdc.safetensors"
    save(registry.build("ugdc", **CONFIG), path, arch="ugdc", config=CONFIG, record={})
    return path


def restorer(weights, resize):
    return load_restorer(
        "enhance",
        RunOptions("ugdc", str(weights), device="cpu", precision="fp32", resize=resize),
    )


@pytest.mark.parametrize("way", [DETAIL, FIT], ids=str)
def test_a_image_is_stretched_to_the_size_of_the_network(way):
    pixels = torch.rand(3, 120, 200)
    fed, _ = prepare(way, pixels)
    small = F.interpolate(pixels[None], (80, 96), mode="bilinear", antialias=True)
    assert_close(fed, (small - IMAGENET_MEAN) / IMAGENET_STD, atol=1e-5, rtol=0)


def test_a_network_that_changes_nothing_leaves_the_detail_of_a_large_image():
    stripes = (torch.arange(410) / 2).sin() / 8 + 0.15  # of 12 px, for the network 3
    pixels = stripes.expand(3, 300, 410)
    fed, finish = prepare(DETAIL, pixels)
    assert_close(finish(fed), pixels, atol=3 / 255, rtol=0)
    fed, finish = prepare(FIT, pixels)
    assert (finish(fed) - pixels).abs().mean() > 0.03


@pytest.mark.parametrize("resize", ["detail", "fit", "native"])
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (80, 96), (130, 90)], ids=str)
@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_images_of_any_size_keep_it(weights, resize, size, channels):
    result = restorer(weights, resize).run(torch.rand(channels, *size))
    assert result.shape == (channels, *size)
    assert result.isfinite().all()


def test_at_the_size_of_the_network_native_is_its_plain_answer(weights):
    pixels = torch.rand(3, 80, 96)
    native, fit = (restorer(weights, resize).run(pixels) for resize in ("native", "fit"))
    assert_close(native, fit, atol=1e-5, rtol=0)


def test_a_image_too_large_to_be_seen_whole_is_refused_before_it_is_tried(weights, monkeypatch):
    network = restorer(weights, "native")
    monkeypatch.setattr(module, "free_memory", lambda device: 100 * 100 * 2700 - 1)
    with pytest.raises(OutOfMemory, match="100 x 100 px"):
        network.run(torch.rand(3, 100, 100))
    assert network.run(torch.rand(3, 99, 100)).shape == (3, 99, 100)


def brighter(fed):
    """What a network would answer that lifts all by a fifth of the range."""
    return fed + 0.2 / IMAGENET_STD


@pytest.mark.parametrize(("level", "lift"), [(0.1, 0.2), (0.3, 0.1), (0.45, 0.0)])
def test_the_less_dark_a_image_is_the_less_is_changed(level, lift):
    pixels = torch.full((3, 90, 100), level)
    fed, finish = prepare(DETAIL, pixels)
    assert_close(finish(brighter(fed)), pixels + lift, atol=1e-4, rtol=0)


def test_a_image_that_is_not_dark_comes_back_bit_for_bit():
    pixels = 0.4 + 0.6 * torch.rand(1, 90, 100)
    fed, finish = prepare(DETAIL, pixels)
    assert torch.equal(finish(brighter(fed)), pixels)


def test_brightness_is_that_of_the_colours_to_the_eye():
    green = torch.tensor([0.0, 1.0, 0.0])[:, None, None].expand(3, 4, 5)
    assert mean_brightness(green) == pytest.approx(0.587)
    assert mean_brightness(torch.full((1, 4, 5), 0.3)) == pytest.approx(0.3)
