"""Five facts that hold for each network of the table; a new line inherits them."""

import json
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.checkpoints import load_checkpoint, manifest
from restore_cli.checkpoints.save import save
from restore_cli.errors import UsageError
from restore_cli.inference.preprocessing import PREPROCESSING
from restore_cli.registry import GENERATORS, MODELS, NETWORKS, Task

GOLDEN = Path(__file__).parent / "golden"
# Of a network too large for quick tests: a config that keeps each kind of its blocks.
SMALL = {
    "mirnet": {"n_feat": 16, "n_RRG": 1, "n_MSRB": 1},
    "ugdc": {"stem_channels": 4, "nominal_size": [80, 160]},
    "fitv2": {"hidden_size": 32, "depth": 2, "num_heads": 2, "adaln_lora_dim": 8},
    "fitv1": {"hidden_size": 32, "depth": 2, "num_heads": 2},
    "scalecrafter": {"widths": [8, 8], "groups": 4, "head_dim": 8, "attention_levels": 1},
    "tml": {"pm_stem": 4, "em_stem": 2, "nominal_size": [80, 80]},
}
SPECS = [registry.configured(spec, SMALL.get(spec.arch, {})) for spec in MODELS.values()]
each_network = pytest.mark.parametrize("spec", SPECS, ids=MODELS.keys())
sideways = pytest.mark.parametrize("axis", [-1, -2], ids=["across", "down"])


def build(spec):
    return registry.build(spec.arch, **SMALL.get(spec.arch, {})).eval()


def positive_network(spec):
    """Weights of one sign, so that no ReLU is off, and small, so that no sigmoid saturates.

    In double precision a gradient is then 0 only where the network does not reach. Not all alike:
    a softmax over equal branches does not feel what feeds them all.
    """
    network = build(spec).double()
    for parameter in network.parameters():
        fan_in = parameter[0].numel() if parameter.dim() >= 2 else 1
        torch.nn.init.uniform_(parameter, 0.05 / fan_in, 0.15 / fan_in)
    return network


def result_of(output):
    return output[-1] if isinstance(output, tuple) else output


def image(spec, height, width, **kind):
    return torch.rand(1, spec.channels, height, width, **kind)


# 1. Golden output


@pytest.mark.parametrize("spec", NETWORKS.values(), ids=NETWORKS.keys())
def test_a_golden_case_of_the_official_code_exists(spec):
    cases = [json.loads(path.read_text()) for path in GOLDEN.glob("*/case.json")]
    assert spec.arch in {case["model"].lower().split(".")[0] for case in cases}


# 2. The spec is true


@each_network
def test_the_names_in_the_spec_exist(spec):
    assert spec.adapter in PREPROCESSING
    assert spec.tasks
    assert set(spec.tasks) <= set(get_args(Task))
    assert set(spec.task_weights) <= set(spec.tasks)
    assert all(name.startswith(f"{spec.arch}.") for name in spec.own_weights())


@each_network
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 2), (7, 13), (16, 9)])
def test_the_output_has_the_scaled_size(spec, rows, columns):
    height, width = spec.fixed_size or (rows * spec.multiple, columns * spec.multiple)
    network = build(spec)
    with torch.inference_mode():
        output = result_of(network(image(spec, height, width)))
    assert output.shape == (1, spec.channels, spec.scale * height, spec.scale * width)


def reach(spec, axis, size):
    """How far from the centre an input pixel still changes the centre of the output."""
    shape = [spec.multiple, spec.multiple]
    shape[axis] = size
    pixels = image(spec, *shape, dtype=torch.float64).requires_grad_()
    output = result_of(positive_network(spec)(pixels))
    centre = size // 2
    output.select(axis, spec.scale * centre).sum().backward()
    felt = pixels.grad.abs().movedim(axis, -1).flatten(0, -2).amax(0).nonzero().flatten()
    return max(centre - felt.min().item(), felt.max().item() - centre)


@sideways
@pytest.mark.parametrize(
    "spec", [pytest.param(s, id=s.arch) for s in MODELS.values() if s.radius is not None]
)
def test_the_radius_is_exactly_how_far_the_network_sees(spec, axis):
    beyond = spec.radius + 10
    size = 2 * beyond + spec.multiple
    assert reach(spec, axis, size - size % spec.multiple) == spec.radius


@each_network
def test_only_a_network_that_sees_so_far_is_tiled_exactly(spec):
    assert (spec.tiling == "exact") == (spec.radius is not None)
    assert spec.radius is None or spec.overlap <= spec.radius


# 3. There and back


@each_network
def test_a_saved_network_loads_as_it_was(spec, tmp_path):
    network, config = build(spec), SMALL.get(spec.arch, {})
    save(network, tmp_path / "saved.safetensors", arch=spec.arch, config=config, record={})
    loaded = load_checkpoint(tmp_path / "saved.safetensors")
    assert loaded.spec == spec
    assert_close(loaded.module.state_dict(), network.state_dict(), atol=0, rtol=0)
    pixels = image(spec, *(spec.fixed_size or (8 * spec.multiple, 9 * spec.multiple)))
    with torch.inference_mode():
        assert_close(loaded.module(pixels), network(pixels), atol=0, rtol=0)


# 4. Gradients


@each_network
def test_gradients_reach_each_parameter(spec):
    network = positive_network(spec)
    height, width = spec.fixed_size or (16 * spec.multiple, 16 * spec.multiple)
    bright = image(spec, height, width, dtype=torch.float64)
    # Below zero a ReLU is off, but the slope of a PReLU is felt only there.
    result_of(network(torch.cat([bright, -bright / 2]))).sum().backward()
    untouched = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert untouched == []


# 5. Refusals


@each_network
@pytest.mark.parametrize("channels", [-1, 1], ids=["too few", "too many"])
def test_a_wrong_number_of_channels_is_refused(spec, channels):
    height, width = spec.fixed_size or (8 * spec.multiple, 8 * spec.multiple)
    network = build(spec)
    with pytest.raises(RuntimeError, match="channels"):
        network(torch.rand(1, spec.channels + channels, height, width))


@each_network
def test_a_config_field_that_it_lacks_is_refused(spec):
    with pytest.raises(UsageError, match="no_such_field"):
        registry.build(spec.arch, no_such_field=1)


# Networks that take no image have the same facts, as far as these need none; the rest of theirs
# is in tests/models.

each_generator = pytest.mark.parametrize("spec", GENERATORS.values(), ids=GENERATORS.keys())


@each_generator
def test_the_names_in_the_spec_of_a_generator_exist(spec):
    assert spec.tasks == ("generate",)
    assert spec.default_weights.startswith(f"{spec.arch}.")


@each_generator
def test_a_saved_generator_loads_as_it_was(spec, tmp_path):
    network = registry.build(spec.arch, **SMALL[spec.arch])
    path = tmp_path / "saved.safetensors"
    save(network, path, arch=spec.arch, config=SMALL[spec.arch], record={})
    loaded = load_checkpoint(path)
    assert loaded.spec == spec
    assert loaded.module.config == network.config
    assert_close(loaded.module.state_dict(), network.state_dict(), atol=0, rtol=0)


@each_generator
def test_a_config_field_that_a_generator_lacks_is_refused(spec):
    with pytest.raises(UsageError, match="no_such_field"):
        registry.build(spec.arch, no_such_field=1)


# The table itself


def test_an_unknown_network_is_refused_with_those_that_exist():
    with pytest.raises(UsageError, match="'nonet'") as caught:
        registry.build("nonet")
    assert caught.value.hint == f"one of: {', '.join(sorted(NETWORKS))}"


@each_network
def test_a_network_is_found_by_each_of_its_tasks(spec):
    assert all(registry.find_for_task(task, spec.arch).arch == spec.arch for task in spec.tasks)


def test_a_network_that_cannot_do_a_task_is_refused():
    with pytest.raises(UsageError, match="'dpenet' does not upscale"):
        registry.find_for_task("upscale", "dpenet")


def test_no_two_networks_share_a_name():
    assert len(NETWORKS) == len(MODELS) + len(GENERATORS)


@pytest.mark.parametrize(
    ("task", "arch"),
    [("derain", "dpenet"), ("denoise", "mirnet"), ("enhance", "tml"), ("upscale", "espcn")],
)
def test_each_task_has_a_default_network_whose_weights_are_bundled(task, arch):
    spec = registry.find_for_task(task)
    assert spec.arch == arch
    assert spec.weights_for(task) in manifest.bundled_entries()
