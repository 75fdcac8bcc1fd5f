import pytest
import torch

from restore_cli.inference.preprocessing import prepare
from restore_cli.networks.facts import Rgb
from restore_cli.registry import MODELS

CONFIGS = [(arch, {}) for arch in MODELS] + [
    ("espcn", {"in_channels": 3}),
    ("mirnet", {"scale": 2}),
]


@pytest.mark.parametrize(("arch", "config"), CONFIGS, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_output_comes_back_in_the_channels_and_the_scaled_size(arch, config, channels):
    facts = MODELS[arch].facts(**config)
    prepared, undo = prepare(facts.preprocessing, torch.rand(channels, 9, 7))
    assert prepared.shape[:2] == (1, facts.channels)
    scale = facts.network_scale
    output = prepared.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    assert undo(output).shape == (channels, 9 * facts.scale, 7 * facts.scale)


def test_an_unknown_way_is_a_type_error():
    with pytest.raises(TypeError, match="no preprocessing"):
        prepare("rgb", torch.rand(3, 9, 7))


def test_rgb_is_fed_as_it_is():
    pixels = torch.rand(3, 9, 7)
    fed, finish = prepare(Rgb(), pixels)
    assert torch.equal(fed, pixels[None])
    assert torch.equal(finish(fed), pixels)


def test_grey_is_fed_three_times_and_comes_back_as_the_mean():
    fed, finish = prepare(Rgb(), torch.rand(1, 9, 7))
    assert torch.equal(fed[:, 0], fed[:, 2])
    coloured = fed + torch.tensor([0.0, 0.3, 0.6])[None, :, None, None]
    torch.testing.assert_close(finish(coloured), fed[0, :1] + 0.3)
