"""MIRNet with a sub-pixel layer: it sees the low-resolution image and enlarges it itself."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.checkpoints.load import Checkpoint
from restore_cli.imaging.resize import resize_matlab
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import Restorer
from restore_cli.networks.mirnet.model import MIRNet, MIRNetConfig

CONFIG = {"n_feat": 8, "n_RRG": 1, "n_MSRB": 1, "upsampler": "subpixel"}


def random_network(scale):
    """A network whose sub-pixel layer and attention matter, as those of a trained one do."""
    network = registry.build("mirnet", scale=scale, **CONFIG).eval()
    with torch.no_grad():
        torch.nn.init.normal_(network.output.conv.weight, std=0.05)
        for name, weight in network.named_parameters():
            if "squeeze" in name or "excite" in name or "score" in name:
                weight.mul_(8)
    return network


def restorer(network, scale, **options):
    spec = registry.configured(registry.MODELS["mirnet"], {"scale": scale, **CONFIG})
    checkpoint = Checkpoint("x", Path("x"), "", spec, network)
    return Restorer(checkpoint, RunOptions(device="cpu", precision="fp32", **options))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_an_untrained_network_enlarges_by_the_bicubic_of_the_benchmarks(scale):
    pixels = torch.rand(1, 3, 12, 16)
    with torch.inference_mode():
        enlarged = MIRNet(MIRNetConfig(scale=scale, **CONFIG))(pixels)
    bicubic = resize_matlab(pixels[0], 12 * scale, 16 * scale)
    inner = (..., slice(2 * scale, -2 * scale), slice(2 * scale, -2 * scale))
    assert_close(enlarged[0][inner], bicubic[inner], atol=1e-5, rtol=0)  # float32 sum order


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 70), (33, 1), (7, 13)], ids=str)
@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "RGB"])
def test_each_size_is_enlarged_by_the_scale(size, channels):
    result = restorer(random_network(3), 3).run(torch.rand(channels, *size))
    assert result.shape == (channels, 3 * size[0], 3 * size[1])


def test_exact_tiles_equal_the_whole_image():
    pixels = torch.rand(3, 70, 150) * torch.linspace(0.1, 1, 150)
    network = random_network(2)
    whole = restorer(network, 2, tile="off").run(pixels)
    exact = restorer(network, 2, tile=64, exact=True).run(pixels)
    assert whole.shape == (3, 140, 300)
    assert_close(exact, whole, atol=1e-5, rtol=0)  # float32 sum order


def test_tiles_with_context_are_close_to_the_whole_image():
    pixels, network = torch.rand(3, 90, 150), random_network(2)
    whole, tiled = (restorer(network, 2, tile=tile).run(pixels) for tile in ("off", 64))
    assert (tiled - whole).abs().mean() < 0.002
