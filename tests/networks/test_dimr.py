"""DiMR beyond the golden cases: published shapes, times, classes, sizes, gradients."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.errors import UsageError
from restore_cli.networks.dimr.model import (
    PUBLISHED,
    DiMR,
    DiMRConfig,
    TimedParameter,
    alpha_bars,
    branches,
    noise_target,
    noised,
)
from restore_cli.networks.dimr.official import official_name
from restore_cli.networks.layers import guidance_at

SHAPES = Path(__file__).parent.parent / "golden" / "dimr-xl2r-shapes.json"
TINY = DiMRConfig(3, 4, stage_configs=branches((16, 8, 8), (3, 2, 1), 2, heads=2))


def random_network(config=TINY):
    network = DiMR(config).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def first_branch(**changes):
    first, *rest = TINY.stage_configs
    return replace(TINY, stage_configs=(replace(first, **changes), *rest))


# Published networks


def test_dimr_xl_has_exactly_the_tensors_of_the_official_code():
    recorded = json.loads(SHAPES.read_text())
    with torch.device("meta"):
        network = registry.build("dimr", **recorded["config"])
    assert network.config == PUBLISHED["DiMR-XL/2R"]
    official = {official_name(key): list(v.shape) for key, v in network.state_dict().items()}
    assert official == recorded["shapes"]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("DiMR-XL/2R", 505_046_408),
        ("DiMR-G/2R", 1_056_352_904),
        ("DiMR-XL/3R", 525_027_372),
        ("DiMR-M/3R", 132_828_681),
        ("DiMR-L/3R", 284_138_505),
    ],
)
def test_a_published_network_has_its_number_of_parameters(name, parameters):
    with torch.device("meta"):
        network = DiMR(PUBLISHED[name])
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_the_fields_of_a_config_survive_json():
    stored = json.loads(json.dumps(asdict(PUBLISHED["DiMR-M/3R"])))
    assert DiMRConfig(**stored) == PUBLISHED["DiMR-M/3R"]


# Diffusion


def test_the_noise_follows_the_published_schedule():
    shares = alpha_bars()[[0, 499, 999]].tolist()
    assert shares == pytest.approx([0.99915, 0.27767, 0.0046601], abs=5e-6)
    x, noise = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    far = noised(x, torch.tensor([1, 1000]), noise)[1]
    assert_close(far, 0.0046601**0.5 * x[1] + (1 - 0.0046601) ** 0.5 * noise[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_noise_of_each_resolution_has_variance_one(stride):
    assert noise_target(torch.randn(8, 3, 64, 64), stride).var() == pytest.approx(1, abs=0.05)


# Time


def test_a_timed_parameter_moves_from_clean_to_noisy():
    timed = TimedParameter(1, 0.0)
    nn.init.constant_(timed.noisy, 3.0)
    nn.init.constant_(timed.slope, 99.0)  # steep
    assert timed(torch.tensor([-1.0, 0.0, 1.0]), 2).flatten().tolist() == pytest.approx([0, 1.5, 3])


def test_a_fresh_network_does_not_depend_on_time():
    network, x, y = DiMR(TINY).eval(), torch.randn(1, 3, 8, 8).expand(2, -1, -1, -1), torch.ones(2)
    with torch.inference_mode():
        early, late = network(x, torch.tensor([1.0, 1000.0]), y.long())[-1]
    assert_close(early, late, atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm_type", ["TDRMSN", "LN", "RMSN"])
def test_time_and_class_change_each_output(norm_type):
    network = random_network(replace(TINY, norm_type=norm_type))
    x = torch.randn(1, 3, 8, 8).expand(3, -1, -1, -1)
    with torch.inference_mode():
        outputs = network(x, torch.tensor([9.0, 990.0, 9.0]), torch.tensor([0, 0, 3]))
    for output in outputs:
        assert (output[1] - output[0]).abs().max() > 1e-5
        assert (output[2] - output[0]).abs().max() > 1e-5


def test_half_precision_keeps_the_norms_in_float32():
    network, x, n, y = (
        random_network(),
        torch.randn(2, 3, 8, 8),
        torch.tensor([3.0, 800.0]),
        torch.tensor([0, 1]),
    )
    with torch.inference_mode():
        full = network(x, n, y)[-1]
        with torch.autocast("cpu", torch.bfloat16):
            low = network(x, n, y)[-1]
    assert ((low.float() - full).std() / full.std()) < 0.02


# Structure


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 8), (8, 4), (4, 4)])
def test_each_output_has_the_size_of_its_resolution(height, width):
    outputs = random_network()(
        torch.randn(1, 3, height, width), torch.ones(1), torch.zeros(1).long()
    )
    assert [tuple(output.shape) for output in outputs] == [
        (1, 3, height // r, width // r) for r in (4, 2, 1)
    ]


@pytest.mark.parametrize(("height", "width"), [(12, 8), (8, 12), (6, 8), (8, 7)])
def test_a_size_without_positions_is_refused(height, width):
    with pytest.raises(ValueError, match="wanted multiples of 4 up to 8 x 8"):
        random_network()(torch.randn(1, 3, height, width), torch.ones(1), torch.zeros(1).long())


def test_an_even_number_of_blocks_is_built_with_one_more():
    assert [len(branch.blocks) for branch in DiMR(TINY).branches] == [3, 3, 1]


@pytest.mark.parametrize("apart", [False, True])
def test_the_last_branch_teaches_those_before_it_unless_they_are_kept_apart(apart):
    network = random_network(replace(TINY, block_grad_to_lowres=apart))
    network(torch.randn(1, 3, 8, 8), torch.ones(1), torch.zeros(1).long())[-1].sum().backward()
    assert (network.branches[0].patch.weight.grad is None) == apart
    assert network.branches[2].patch.weight.grad is not None


def test_gradients_reach_each_parameter():
    network, y = random_network(), torch.arange(4)
    outputs = network(torch.randn(4, 3, 8, 8), torch.rand(4) * 999, y)
    sum(output.square().sum() for output in outputs).backward()
    assert [name for name, p in network.named_parameters() if not p.grad.any()] == []


def test_tables_beyond_those_of_other_branches_are_left_unused():
    first, *rest = TINY.stage_configs
    network = random_network(replace(TINY, stage_configs=(replace(first, max_width=3), *rest)))
    assert network.largest == (8, 8)
    inputs = torch.randn(1, 3, 8, 8), torch.ones(1), torch.zeros(1).long()
    wide = network(*inputs)
    narrow = random_network()
    state = network.state_dict()
    table = "branches.0.positions.weight"  # 2 x 3 places, of which 2 x 2 are used
    state[table] = state[table].view(2, 3, -1)[:, :2].flatten(0, 1)
    narrow.load_state_dict(state)
    assert all(map(torch.equal, wide, narrow(*inputs)))


def test_dropout_acts_in_training_alone():
    network, y = random_network(first_branch(dropout_prob=0.5)), torch.zeros(1).long()
    x, n = torch.randn(1, 3, 8, 8), torch.ones(1)
    assert torch.equal(network(x, n, y)[-1], network(x, n, y)[-1])
    network.train()
    assert not torch.equal(network(x, n, y)[-1], network(x, n, y)[-1])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (first_branch(block_type="ConvNeXtBlock"), "wanted one TransformerBlock"),
        (replace(TINY, stage_configs=()), "wanted one TransformerBlock"),
        (replace(TINY, norm_type="ADARMSN"), "norm_type is 'ADARMSN'; wanted one of: TDRMSN"),
        (first_branch(num_attention_heads=3), "dim 16 over 3 heads"),
        (first_branch(image_input_ratio=2), "image_input_ratio is 2"),
        (first_branch(input_feature_ratio=2), "as many times the rows"),
        (replace(TINY, stage_configs=TINY.stage_configs[:2]), "a stride of 1 in the last"),
    ],
    ids=["type", "none", "norm", "heads", "image", "stride", "last"],
)
def test_a_config_that_makes_no_network_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        DiMR(config)


def test_a_field_that_a_branch_lacks_is_refused():
    stage = asdict(TINY.stage_configs[0]) | {"no_such_field": 1}
    with pytest.raises(UsageError, match="no_such_field"):
        registry.build("dimr", stage_configs=[stage])


# Guidance


def test_guidance_of_a_scale_moves_away_from_the_null_class():
    network, x, n, y = (
        random_network(),
        torch.randn(2, 3, 8, 8),
        torch.tensor([300.0, 300.0]),
        torch.tensor([0, 2]),
    )
    with torch.inference_mode():
        toward, away = network(x, n, y)[-1], network(x, n, torch.full((2,), 3))[-1]
        assert_close(network.guided(x, n, y, scale=1.4), toward + 0.4 * (toward - away))
        assert torch.equal(network.guided(x, n, y, scale=1), toward)


def test_the_power_cosine_schedule_is_1_at_noise_and_the_scale_at_the_image():
    weights = guidance_at(torch.tensor([1.0, 0.0]), 2.5, 1.5)
    assert weights.tolist() == pytest.approx([1, 2.5])
