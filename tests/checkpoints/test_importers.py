"""Official checkpoints under our names."""

from pathlib import Path

import pytest
import torch

from restore_cli import registry
from restore_cli.checkpoints import load
from restore_cli.checkpoints.importers import from_official, read_official, recognise
from restore_cli.errors import WeightsMismatch

PUBLISHED = Path(__file__).parents[3] / "shared" / "weights-official"


def test_an_official_state_loads_strictly(official_state):
    ours = from_official("dpenet", official_state)
    registry.build("dpenet").load_state_dict(ours, strict=True)


@pytest.mark.parametrize(
    ("official", "ours"),
    [
        ("inconv1.0.weight", "embed_rainy.weight"),
        ("outconv1.0.weight", "streaks.weight"),
        ("inconv2.0.weight", "embed_streakless.weight"),
        ("outconv2.0.weight", "detail.weight"),
        ("ddrb1.dconv1.0.weight", "r2net.0.pairs.0.0.weight"),
        ("ddrb1.dconv1.2.weight", "r2net.0.pairs.0.2.weight"),
        ("ddrb10.dconv2.0.weight", "r2net.9.pairs.1.0.weight"),
        ("ddrb10.dconv5.2.weight", "r2net.9.pairs.2.2.weight"),
        ("erpab1.inconv1.weight", "drnet.0.scales.0.weight"),
        ("erpab3.inconv3.weight", "drnet.2.scales.2.weight"),
        ("erpab2.outconv.0.weight", "drnet.1.fuse.weight"),
        ("erpab2.outconv.0.bias", "drnet.1.fuse.bias"),
        ("erpab3.pa.0.weight", "drnet.2.attention.0.weight"),
        ("erpab3.pa.2.weight", "drnet.2.attention.2.weight"),
    ],
)
def test_each_official_tensor_goes_to_its_place(official, ours, official_state):
    assert from_official("dpenet", official_state)[ours] is official_state[official]


def test_a_missing_tensor_is_named(official_state):
    del official_state["ddrb7.dconv2.2.weight"]
    with pytest.raises(WeightsMismatch, match=r"ddrb7\.dconv2\.2\.weight is missing$"):
        from_official("dpenet", official_state)


def test_an_unknown_tensor_is_named(official_state):
    official_state["ddrb11.dconv1.0.weight"] = torch.zeros(1)
    with pytest.raises(WeightsMismatch, match=r"ddrb11\.dconv1\.0\.weight is unknown$"):
        from_official("dpenet", official_state)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(official_state):
    official_state["inconv1.0.weight"] = torch.zeros(32, 4, 1, 1)
    with pytest.raises(WeightsMismatch, match="weight is 32x4x1x1, wanted 32x3x1x1"):
        from_official("dpenet", official_state)


def test_of_many_differences_three_are_named_and_the_rest_counted():
    with pytest.raises(WeightsMismatch, match=r"; 82 more$"):
        from_official("dpenet", {})


def test_a_network_without_an_official_layout_is_refused(official_state):
    with pytest.raises(WeightsMismatch, match="'nonet'") as caught:
        from_official("nonet", official_state)
    assert caught.value.hint == "known: dpenet"


@pytest.mark.parametrize(
    ("config", "reason"),
    [({"width": 8}, "width"), ({"mid_channels": 16}, "at least 32"), ({"mid_channels": "32"}, "<")],
    ids=["unknown field", "refused value", "wrong type"],
)
def test_a_config_that_the_network_refuses_is_said(config, reason, official_state):
    with pytest.raises(WeightsMismatch, match=reason):
        from_official("dpenet", official_state, **config)


def test_an_official_state_is_recognised(official_state):
    assert recognise(official_state) == ("dpenet", {"in_channels": 3, "mid_channels": 32})


def test_the_width_of_an_official_state_is_recognised(official_state):
    official_state["inconv1.0.weight"] = torch.zeros(48, 1, 1, 1)
    assert recognise(official_state) == ("dpenet", {"in_channels": 1, "mid_channels": 48})


@pytest.mark.parametrize("state", [{}, {"conv.weight": torch.zeros(1)}], ids=["empty", "another"])
def test_a_state_of_no_known_network_is_refused(state):
    with pytest.raises(WeightsMismatch, match="no known network"):
        recognise(state)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published files are not here")
@pytest.mark.parametrize("name", ["rain100l", "rain100h", "rain800", "rain1400", "heavyrain"])
def test_the_published_files_load(name):
    path = PUBLISHED / f"dpenet-{name}.safetensors"
    network = load(path)
    official = read_official(path)
    assert torch.equal(network.r2net[4].pairs[2][0].weight, official["ddrb5.dconv5.0.weight"])
