"""Five facts that hold for each network of the table; a new line inherits them."""

import json
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.checkpoints import load_checkpoint, manifest
from restore_cli.checkpoints.save import save
from restore_cli.errors import UsageError
from restore_cli.inference.preprocessing import prepare
from restore_cli.registry import GENERATORS, MODELS, NETWORKS
from restore_cli.tasks import TASKS

GOLDEN = Path(__file__).parent / "golden"
# Of a network too large for quick tests: a config that keeps each kind of its blocks.
SMALL = {
    "mirnet": {"n_feat": 16, "n_RRG": 1, "n_MSRB": 1},
    "ugdc": {"stem_channels": 4, "nominal_size": [80, 160]},
    "fitv2": {"hidden_size": 32, "depth": 2, "num_heads": 2, "adaln_lora_dim": 8},
    "fitv1": {"hidden_size": 32, "depth": 2, "num_heads": 2},
    "dimr": {
        "num_classes": 4,
        "stage_configs": [
            {
                "block_type": kind,
                "dim": 16,
                "hidden_dim": 32,
                "num_blocks": 2,
                "max_height": side,
                "max_width": side,
                "input_feature_ratio": 8 // side,
                "num_attention_heads": 2,
            }
            for kind, side in (("TransformerBlock", 4), ("ConvNeXtBlock", 8))
        ],
    },
    "scalecrafter": {"widths": [8, 8], "groups": 4, "head_dim": 8, "attention_levels": 1},
    "tml": {"pm_stem": 4, "em_stem": 2, "nominal_size": [80, 80]},
}
each_network = pytest.mark.parametrize(
    ("arch", "facts"),
    [(spec.arch, spec.facts(**SMALL.get(spec.arch, {}))) for spec in MODELS.values()],
    ids=MODELS.keys(),
)
sideways = pytest.mark.parametrize("axis", [-1, -2], ids=["across", "down"])


def build(arch):
    return registry.build(arch, **SMALL.get(arch, {})).eval()


def positive_network(arch, **config):
    """Weights of one sign, so that no ReLU is off, and small, so that no sigmoid saturates.

    In double precision a gradient is then 0 only where the network does not reach. Not all alike:
    a softmax over equal branches does not feel what feeds them all.
    """
    network = registry.build(arch, **{**SMALL.get(arch, {}), **config}).double().eval()
    for parameter in network.parameters():
        fan_in = parameter[0].numel() if parameter.dim() >= 2 else 1
        torch.nn.init.uniform_(parameter, 0.05 / fan_in, 0.15 / fan_in)
    return network


def result_of(output):
    return output[-1] if isinstance(output, tuple) else output


def image(facts, height, width, **kind):
    return torch.rand(1, facts.channels, height, width, **kind)


# 1. Golden output


@pytest.mark.parametrize("spec", NETWORKS.values(), ids=NETWORKS.keys())
def test_a_golden_case_of_the_official_code_exists(spec):
    cases = [json.loads(path.read_text()) for path in GOLDEN.glob("*/case.json")]
    assert spec.arch in {case["model"].lower().split(".")[0] for case in cases}


# 2. The spec is true


@each_network
def test_the_names_in_the_spec_exist(arch, facts):
    spec = MODELS[arch]
    assert prepare.dispatch(type(facts.preprocessing)) is not prepare.dispatch(object)
    assert spec.tasks
    assert set(spec.tasks) <= set(TASKS)
    assert all(name.startswith(f"{arch}.") for name in spec.own_weights)


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS.keys())
def test_the_facts_of_no_config_are_those_of_the_default_config(spec):
    config = getattr(import_module(spec.model.split(":")[0]), spec.config)
    assert spec.facts() == spec.facts(**asdict(config()))


@each_network
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 2), (7, 13), (16, 9)])
def test_the_output_has_the_scaled_size(arch, facts, rows, columns):
    height, width = facts.fixed_size or (rows * facts.multiple, columns * facts.multiple)
    network = build(arch)
    with torch.inference_mode():
        output = result_of(network(image(facts, height, width)))
    scale = facts.network_scale
    assert output.shape == (1, facts.channels, scale * height, scale * width)


def reach(arch, facts, config, axis, size):
    """Return the distance from the centre at which an input pixel still changes the output."""
    shape = [facts.multiple, facts.multiple]
    shape[axis] = size
    pixels = image(facts, *shape, dtype=torch.float64).requires_grad_()
    output = result_of(positive_network(arch, **config)(pixels))
    centre = size // 2
    output.select(axis, facts.network_scale * centre).sum().backward()
    felt = pixels.grad.abs().movedim(axis, -1).flatten(0, -2).amax(0).nonzero().flatten()
    return max(centre - felt.min().item(), felt.max().item() - centre)


@sideways
@pytest.mark.parametrize(
    ("arch", "config"),
    [("dpenet", {}), ("espcn", {}), ("espcn", {"in_channels": 3}), ("cbsn", {})]
    + [("cbsn", {"num_module": count}) for count in (1, 6)],
    ids=str,
)
def test_the_radius_is_exactly_how_far_the_network_sees(arch, config, axis):
    facts = MODELS[arch].facts(**config)
    beyond = facts.receptive_radius + 10
    size = 2 * beyond + facts.multiple
    found = reach(arch, facts, config, axis, size - size % facts.multiple)
    assert found == facts.receptive_radius


@each_network
def test_only_a_network_that_sees_so_far_is_tiled_exactly(arch, facts):
    assert (facts.tiling == "exact") == (facts.receptive_radius is not None)
    assert facts.receptive_radius is None or facts.overlap <= facts.receptive_radius


# 3. There and back


@each_network
def test_a_saved_network_loads_as_it_was(arch, facts, tmp_path):
    network, config = build(arch), SMALL.get(arch, {})
    save(network, tmp_path / "saved.safetensors", arch=arch, config=config, record={})
    loaded = load_checkpoint(tmp_path / "saved.safetensors")
    assert (loaded.spec.arch, loaded.spec.facts) == (arch, facts)
    assert_close(loaded.module.state_dict(), network.state_dict(), atol=0, rtol=0)
    pixels = image(facts, *(facts.fixed_size or (8 * facts.multiple, 9 * facts.multiple)))
    with torch.inference_mode():
        assert_close(loaded.module(pixels), network(pixels), atol=0, rtol=0)


# 4. Gradients


@each_network
def test_gradients_reach_each_parameter(arch, facts):
    network = positive_network(arch)
    height, width = facts.fixed_size or (16 * facts.multiple, 16 * facts.multiple)
    bright = image(facts, height, width, dtype=torch.float64)
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
def test_a_wrong_number_of_channels_is_refused(arch, facts, channels):
    height, width = facts.fixed_size or (8 * facts.multiple, 8 * facts.multiple)
    network = build(arch)
    with pytest.raises(RuntimeError, match="channels"):
        network(torch.rand(1, facts.channels + channels, height, width))


@pytest.mark.parametrize("arch", MODELS)
def test_a_config_field_that_it_lacks_is_refused(arch):
    with pytest.raises(UsageError, match="no_such_field"):
        registry.build(arch, no_such_field=1)


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
    assert loaded.spec == registry.configured(spec, SMALL[spec.arch])
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


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS.keys())
def test_a_network_is_found_by_each_of_its_tasks(spec):
    assert all(registry.find_for_task(task, spec.arch) is spec for task in spec.tasks)


def test_a_network_that_cannot_do_a_task_is_refused():
    with pytest.raises(UsageError, match="'dpenet' does not upscale"):
        registry.find_for_task("upscale", "dpenet")


def test_no_two_networks_share_a_name():
    assert len(NETWORKS) == len(MODELS) + len(GENERATORS)


OWN = {name: task for name, task in TASKS.items() if task.network}


@pytest.mark.parametrize("task", OWN.values(), ids=OWN)
def test_the_default_networks_of_a_task_do_it(task):
    assert registry.find_for_task(task.name) is MODELS[task.network]
    assert task.name in MODELS[task.gpu_network].tasks
    assert MODELS[task.network].weights[task.name] in manifest.bundled_entries()


def test_a_misspelt_task_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="'dernoise'") as caught:
        registry.find_for_task("dernoise")
    assert caught.value.hint == "the nearest: denoise"


def test_weights_that_enlarge_do_nothing_else():
    assert registry.configured(MODELS["mirnet"], {"scale": 2}).tasks == ("upscale",)
    every = ("denoise", "enhance", "upscale", "dejpeg")
    assert registry.configured(MODELS["mirnet"], {}).tasks == every
