"""What the paper says of ESPCN, and what public weights reach with it."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.errors import UsageError
from restore_cli.imaging.io import read
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import load_restorer
from restore_cli.metrics import PROTOCOLS, measure
from restore_cli.networks.espcn.model import ESPCN, ESPCNConfig

SHARED = Path(__file__).parents[3] / "shared"
PUBLIC = SHARED / "weights-official"


@pytest.mark.parametrize(("scale", "count"), [(2, 21284), (3, 22729), (4, 24752)])
def test_it_has_as_many_parameters_as_the_paper_counts(scale, count):
    network = registry.build("espcn", scale=scale)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_channel_i_r_plus_j_becomes_row_i_and_column_j():
    network = ESPCN(ESPCNConfig(scale=3))
    torch.nn.init.zeros_(network.subpixel.weight)
    with torch.no_grad():
        network.subpixel.bias.copy_(torch.arange(9.0))
    block = torch.arange(9.0).view(3, 3)
    assert_close(network(torch.rand(1, 1, 2, 4))[0, 0], block.repeat(2, 4))


def test_nothing_bends_the_last_layer():
    network = ESPCN()
    with torch.no_grad():
        network.subpixel.bias.fill_(7.0)
    assert network(torch.rand(1, 1, 4, 4)).min() > 6


def test_a_scale_below_two_is_refused():
    with pytest.raises(UsageError, match="scale is 1"):
        registry.build("espcn", scale=1)


@pytest.mark.slow
@pytest.mark.skipif(not PUBLIC.is_dir(), reason="the public weights are not here")
@pytest.mark.parametrize(
    ("scale", "wanted"), [(2, 36.15), (3, 31.81), (4, 29.14)], ids=["x2", "x3", "x4"]
)
def test_public_weights_reach_on_set5_what_was_measured_with_other_code(scale, wanted):
    """Luma of the network's own answer: what is lost on the way to RGB is not its fault."""
    weights = PUBLIC / f"espcn_ycbcr_x{scale}.safetensors"
    restorer = load_restorer("upscale", RunOptions(weights=str(weights), precision="fp32"))
    protocol = PROTOCOLS[f"sr_x{scale}"]
    scores = []
    for path in sorted((SHARED / "data" / "set5" / f"x{scale}").glob("LR/*.png")):
        restored = restorer.run(read(path).pixels)
        original = read(path.parent.parent / "HR" / path.name.replace("_LR", "_HR")).pixels
        scores.append(measure(restored, original, protocol).psnr)
    # 0.03: rounding to RGB before luma is taken.
    assert sum(scores) / len(scores) == pytest.approx(wanted, abs=0.03)


def test_a_new_network_makes_mid_grey_of_mid_grey():
    network = registry.build("espcn", scale=2)
    grey = torch.full((1, 1, 20, 20), 0.45)
    inner = network(grey)[..., 8:-8, 8:-8]  # beyond the border are zeros, which are no grey
    assert_close(inner, torch.full_like(inner, 0.45), atol=1e-5, rtol=0)


def test_pixels_stay_float32_where_the_rest_is_bfloat16():
    network = registry.build("espcn")
    types = {}
    for name in ("extract", "map", "subpixel"):
        layer = getattr(network, name)
        layer.register_forward_hook(lambda _, __, out, name=name: types.update({name: out.dtype}))
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.rand(1, 1, 8, 8))
    assert types == {"extract": torch.float32, "map": torch.bfloat16, "subpixel": torch.float32}
