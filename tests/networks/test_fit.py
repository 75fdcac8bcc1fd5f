"""FiTv2 and FiT beyond the golden cases: published shapes, padding, guidance, places."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.networks.fit.model import (
    PUBLISHED,
    FiT,
    FiTConfig,
    FiTv1Config,
    Rope,
    grid_of,
    patchify,
    rope_frequencies,
    unpatchify,
)
from restore_cli.networks.layers import guidance_at

SHAPES = Path(__file__).parent.parent / "golden" / "fitv2-xl2-shapes.json"
TINY = {"hidden_size": 32, "depth": 2, "num_heads": 2, "num_classes": 3}
FITV2 = FiTConfig(**TINY, adaln_lora_dim=8)
FIT = FiTv1Config(**TINY)
each_version = pytest.mark.parametrize("config", [FITV2, FIT], ids=["v2", "v1"])


def random_network(config):
    """No layer at zero, as those of a fresh network are."""
    network = FiT(config).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


def tokens(config, batch, count):
    x = torch.randn(batch, count, config.in_channels * config.patch_size**2)
    return x if config.use_sit else x.transpose(1, 2)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("t", "shifting", "seen"), [(0.25, 3.0, 0.5), (0.5, 0.5, 1 / 3), (1.5, 1.0, 1.0)]
)
def test_times_are_shifted_and_end_at_the_data(t, shifting, seen):
    network = random_network(FITV2)
    shifted = FiT(replace(FITV2, time_shifting=shifting)).eval()
    shifted.load_state_dict(network.state_dict())
    x, y, grid = tokens(FITV2, 1, 6), torch.tensor([1]), grid_of(2, 3)[None]
    assert_close(shifted(x, torch.tensor([t]), y, grid), network(x, torch.tensor([seen]), y, grid))


# Published networks


def test_fitv2_xl_has_exactly_the_tensors_of_the_official_code():
    recorded = json.loads(SHAPES.read_text())
    with torch.device("meta"):
        network = registry.build("fitv2", **recorded["config"])
    assert network.config == PUBLISHED["FiTv2-XL/2"]
    assert sum(p.numel() for p in network.parameters()) == recorded["parameters"]
    official = {
        name.replace("x_embedder.", "x_embedder.proj.").replace(
            "y_embedder.", "y_embedder.embedding_table."
        ): list(tensor.shape)
        for name, tensor in network.state_dict().items()
    }
    assert official == recorded["shapes"]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("FiTv2-B/2", 128_149_072),
        ("FiTv2-XL/2", 671_045_776),
        ("FiTv2-3B/2", 2_971_928_080),
        ("FiT-XL/2", 823_599_392),
    ],
)
def test_a_published_network_has_its_number_of_parameters(name, parameters):
    with torch.device("meta"):
        network = FiT(PUBLISHED[name])
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("size", ["XL", "3B"])
def test_high_resolution_changes_no_tensor(size):
    with torch.device("meta"):
        base, high = FiT(PUBLISHED[f"FiTv2-{size}/2"]), FiT(PUBLISHED[f"FiTv2-{size}/2-HR"])
    assert high.rope == Rope("ntk-aware", decouple=True, trained=16)
    assert {k: v.shape for k, v in high.state_dict().items()} == {
        k: v.shape for k, v in base.state_dict().items()
    }


# Any network


@each_version
def test_a_fresh_network_answers_zero(config):
    grid = grid_of(2, 3)[None]
    output = FiT(config)(tokens(config, 1, 6), torch.tensor([0.5]), torch.tensor([1]), grid)
    assert not output.any()


@each_version
def test_gradients_reach_each_parameter(config):
    network = random_network(config)
    y = torch.arange(config.num_classes + 1)
    grid = grid_of(2, 3).expand(len(y), -1, -1)
    output = network(tokens(config, len(y), 6), torch.rand(len(y)), y, grid)
    output.square().sum().backward()
    untouched = [name for name, p in network.named_parameters() if not p.grad.any()]
    assert untouched == []


@each_version
def test_tokens_of_a_wrong_width_are_refused(config):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        FiT(config)(torch.randn(1, 7, 7), torch.rand(1), torch.tensor([0]), grid_of(1, 7)[None])


@each_version
def test_padding_changes_nothing_and_is_answered_with_zero(config):
    network, x, t, y = random_network(config), tokens(config, 1, 10), torch.rand(1), torch.ones(1)
    axis = 1 if config.use_sit else 2
    grid, mask = torch.zeros(1, 2, 10), torch.zeros(1, 10)
    grid[0, :, :6], mask[:, :6] = grid_of(2, 3).float(), 1
    with torch.inference_mode():
        padded = network(x, t, y, grid, mask)
        alone = network(x.narrow(axis, 0, 6), t, y, grid[..., :6])
    assert_close(padded.narrow(axis, 0, 6), alone, atol=1e-5, rtol=1e-5)
    assert not padded.narrow(axis, 6, 4).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 5}, "hidden_size 32 over num_heads 5"),
        ({"num_heads": 8}, "a head needs 8, 12"),
        ({"q_norm": None}, "q_norm is None, k_norm is layernorm"),
        ({"use_swiglu": False}, "use_swiglu is False; only True"),
        ({"rel_pos_embed": "none"}, "only 'rope' was published"),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else "",
)
def test_a_config_that_makes_no_network_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        FiT(replace(FITV2, **change))


# Patches and places


def test_features_of_a_patch_are_ordered_by_channel_row_and_column():
    image = torch.arange(2 * 4 * 6).view(1, 2, 4, 6)
    assert patchify(image, 2)[0, 1].tolist() == [2, 3, 8, 9, 26, 27, 32, 33]


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_unpatchify_undoes_patchify(patch):
    image = torch.randn(2, 3, 4 * patch, 5 * patch)
    assert_close(unpatchify(patchify(image, patch), (4, 5), patch), image, atol=0, rtol=0)


def test_a_place_is_its_column_and_its_row():
    assert grid_of(2, 3).tolist() == [[0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1]]


def test_places_count_only_by_their_distance():
    network, x, t, y = random_network(FITV2), tokens(FITV2, 1, 6), torch.rand(1), torch.ones(1)
    with torch.inference_mode():
        here = network(x, t, y, grid_of(2, 3)[None])
        there = network(x, t, y, grid_of(2, 3)[None] + torch.tensor([[7], [4]]))
    assert_close(there, here, atol=1e-4, rtol=1e-4)


def test_positions_that_scale_need_a_size():
    with pytest.raises(ValueError, match="linear positions need the size"):
        FiT(FITV2)(
            tokens(FITV2, 1, 6),
            torch.rand(1),
            torch.ones(1),
            grid_of(2, 3)[None],
            rope=Rope("linear"),
        )


def test_each_image_of_a_batch_has_its_own_scale():
    sizes = torch.tensor([[16.0, 48.0], [32.0, 16.0]])
    frequencies, _ = rope_frequencies(Rope("linear", decouple=True), sizes, 32)
    assert_close(frequencies[:, :, 0], torch.tensor([[1, 1 / 3], [1 / 2, 1]]))


# Guidance


def guided(network, scale, **options):
    config = network.config
    torch.manual_seed(1)
    x, t, y = tokens(config, 2, 6), torch.tensor([0.3, 0.3]), torch.tensor([0, 2])
    grid = grid_of(2, 3).expand(2, -1, -1)
    with torch.inference_mode():
        return network.guided(x, t, y, grid, scale=scale, **options)


@each_version
def test_guidance_one_is_no_guidance(config):
    network = random_network(config)
    assert_close(guided(network, 1.0), guided(network, 1 + 1e-7), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("channels", "guided_features"), [(3, 12), (4, 12)])
def test_three_channels_are_guided(channels, guided_features):
    network = random_network(replace(FITV2, in_channels=channels))
    plain, strong = guided(network, 1.0), guided(network, 4.0)
    moved = (strong - plain).abs().amax((0, 1)) > 1e-3
    assert moved.tolist() == [True] * guided_features + [False] * (4 * channels - guided_features)


def test_guidance_goes_on_linearly_from_the_negative_class():
    network = random_network(replace(FITV2, in_channels=3))
    negative = torch.tensor([1, 1])
    one, two, four = (guided(network, scale, negative=negative) for scale in (1.0, 2.0, 4.0))
    assert_close(four - one, 3 * (two - one), atol=1e-3, rtol=1e-3)


def test_the_power_cosine_schedule_falls_from_full_guidance_to_none():
    times = torch.tensor([0.0, 0.5, 1.0])
    assert_close(guidance_at(times, 3.0, 1.0), torch.tensor([3.0, 2.0, 1.0]))
    assert_close(guidance_at(times, 3.0, 0.0), torch.full((3,), 3.0))
