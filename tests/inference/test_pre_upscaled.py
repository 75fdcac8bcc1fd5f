"""MIRNet as an upscaler: bicubic first, then a network that keeps the size."""

import pytest
import torch
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.checkpoints.save import save
from restore_cli.errors import WeightsMismatch
from restore_cli.imaging.image import Image
from restore_cli.imaging.resize import resize_matlab
from restore_cli.inference.options import RunOptions
from restore_cli.inference.preprocessing import prepare
from restore_cli.inference.restorer import load_restorer
from restore_cli.networks.facts import BicubicFirst

CONFIG = {"n_feat": 8, "n_RRG": 1, "n_MSRB": 1}


@pytest.fixture
def weights(tmp_path):
    """weights(scale, correction=1): a file of a MIRNet that was never trained."""

    def write(scale, correction=1.0):
        config = {**CONFIG, "scale": scale}
        network = registry.build("mirnet", **config)
        with torch.no_grad():
            network.output.weight.mul_(correction)
        path = tmp_path / "mirnet.safetensors"
        save(network, path, arch="mirnet", config=config, record={})
        return str(path)

    return write


def restorer(task, weights, **options):
    options = RunOptions("mirnet", weights, device="cpu", precision="fp32", **options)
    return load_restorer(task, options)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_enlarged_before_is_enlarged_by_bicubic(channels):
    pixels = torch.rand(channels, 5, 7)
    prepared, finish = prepare(BicubicFirst(3), pixels)
    bicubic = resize_matlab(pixels, 15, 21).clamp(0, 1)
    assert_close(prepared[0], bicubic.expand(3, -1, -1))
    assert_close(finish(prepared), bicubic)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 70), (33, 1), (7, 13), (16, 20)])
@pytest.mark.parametrize("scale", [2, 3])
def test_a_network_that_corrects_nothing_leaves_bicubic(weights, size, scale):
    pixels = torch.rand(3, *size)
    result = restorer("upscale", weights(scale, correction=0)).run(pixels)
    bicubic = resize_matlab(pixels, size[0] * scale, size[1] * scale).clamp(0, 1)
    assert_close(result, bicubic, atol=1e-6, rtol=0)


def test_tiles_are_tiles_of_the_enlarged_image(weights):
    path, pixels = weights(2), torch.rand(3, 40, 90)
    whole, tiled = (restorer("upscale", path, tile=tile).run(pixels) for tile in ("off", 64))
    assert whole.shape == (3, 80, 180)
    # The attention of a tile sees the tile: never equal, here close.
    assert_close(tiled, whole, atol=1e-3, rtol=0)


def test_alpha_grows_with_the_image(weights):
    image = Image(torch.rand(3, 6, 5), alpha=torch.rand(1, 6, 5))
    enlarged = restorer("upscale", weights(2))(image).image
    assert enlarged.pixels.shape == (3, 12, 10)
    assert enlarged.alpha.shape == (1, 12, 10)


def test_weights_that_enlarge_do_nothing_else(weights):
    with pytest.raises(WeightsMismatch, match="is trained to upscale, not to denoise"):
        restorer("denoise", weights(2))


@pytest.mark.parametrize("task", ["denoise", "enhance"])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 70), (33, 1), (7, 13)])
def test_weights_that_keep_the_size_restore_any_size(weights, task, size):
    assert restorer(task, weights(1)).run(torch.rand(3, *size)).shape == (3, *size)
