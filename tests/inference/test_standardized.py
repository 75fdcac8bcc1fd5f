"""The preprocessing of C-BSN: statistics of the whole image, whatever the tiles."""

import pytest
import torch
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.checkpoints.save import save
from restore_cli.inference.options import RunOptions
from restore_cli.inference.preprocessing import prepare
from restore_cli.inference.restorer import load_restorer
from restore_cli.networks.facts import Standardized


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small C-BSN that was never trained, its answers as large as images are."""
    config = {"channels": 8, "num_module": 9}
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    torch.manual_seed(0)
    save(registry.build("cbsn", **config), path, arch="cbsn", config=config, record={})
    return path


def restored(weights, pixels, **options):
    chosen = RunOptions(weights=str(weights), device="cpu", precision="fp32", **options)
    return load_restorer("denoise", chosen).run(pixels)


def uneven(height, width):
    """An image whose statistics change from place to place."""
    slope = torch.linspace(0.1, 0.8, width).expand(3, height, width)
    return (slope + 0.1 * torch.randn(3, height, width)).clamp(0, 1)


def test_tiles_equal_the_whole_image(weights):
    pixels = uneven(70, 150)
    whole = restored(weights, pixels, tile="off")
    tiled = restored(weights, pixels, tile=48)
    assert whole.std() > 0.01  # clamping did not make them equal
    assert_close(tiled, whole, atol=1e-6, rtol=0)  # float32 sum order


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 13), (33, 64)])
def test_any_size_comes_back_in_its_size(weights, size):
    assert restored(weights, uneven(*size)).shape == (3, *size)


def test_a_grey_image_stays_grey(weights):
    assert restored(weights, uneven(12, 10)[:1]).shape == (1, 12, 10)


def test_each_channel_is_fed_with_mean_0_and_deviation_1():
    fed, _ = prepare(Standardized(), uneven(90, 80) * torch.tensor([0.2, 0.5, 1]).view(3, 1, 1))
    inner = fed[..., 32:-32, 32:-32]
    assert_close(inner.mean((-2, -1)), torch.zeros(1, 3), atol=1e-5, rtol=0)
    assert_close(inner.std((-2, -1), correction=0), torch.ones(1, 3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (20, 90), (90, 80)])
def test_what_the_network_leaves_alone_comes_back(size):
    pixels = uneven(*size)
    fed, finish = prepare(Standardized(), pixels)
    assert_close(finish(fed), pixels, atol=1e-6, rtol=0)


def test_a_flat_image_is_fed_as_zeros():
    fed, _ = prepare(Standardized(), torch.full((3, 10, 10), 0.25))
    assert_close(fed, torch.zeros_like(fed), atol=1e-5, rtol=0)
