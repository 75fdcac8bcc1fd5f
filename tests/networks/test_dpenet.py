"""What the golden cases and tests/test_registry.py do not hold of DPENet."""

import pytest
import torch

from restore_cli.networks.dpenet.model import DPENet, DPENetConfig


def test_under_autocast_the_trunk_and_the_pixels_stay_float32():
    network = DPENet().eval()
    inside = {}
    network.r2net[3].register_forward_hook(lambda *call: inside.update(trunk=call[2]))
    network.r2net[3].pairs[1].register_forward_hook(lambda *call: inside.update(pair=call[2]))
    network.streaks.register_forward_hook(lambda *call: inside.update(streaks=call[2]))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        network(torch.rand(1, 3, 8, 8))
    assert {name: tensor.dtype for name, tensor in inside.items()} == {
        "pair": torch.bfloat16,
        "trunk": torch.float32,
        "streaks": torch.float32,
    }


def test_bfloat16_stays_near_float32():
    network = DPENet().eval()
    rainy = torch.rand(1, 3, 48, 48)
    with torch.inference_mode():
        exact = network(rainy)[-1]
        with torch.autocast("cpu", torch.bfloat16):
            low = network(rainy)[-1]
    assert -10 * (low - exact).square().mean().log10() > 60


def test_too_few_channels_for_the_attention_are_refused():
    with pytest.raises(ValueError, match="mid_channels is 31, at least 32"):
        DPENet(DPENetConfig(mid_channels=31))
