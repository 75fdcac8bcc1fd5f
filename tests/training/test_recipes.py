"""Each recipe fits its network: what it gives is what the network takes and what it answers."""

from dataclasses import replace

import pytest
import torch

from restore_cli import registry
from restore_cli.errors import UsageError
from restore_cli.inference.preprocessing import pre_upscaled
from restore_cli.registry import MODELS
from restore_cli.training.losses import LOSSES
from restore_cli.training.recipes import MIRNET, RECIPES, find_recipe
from restore_cli.training.restoration import pairs_of

EACH = [
    pytest.param(recipe, id=f"{name}-{preset}")
    for name, presets in RECIPES.items()
    for preset, recipe in presets.items()
]


@pytest.mark.parametrize("recipe", EACH)
@pytest.mark.parametrize("when", ["patch", "validation_patch"])
def test_a_pair_fits_the_network(recipe, when):
    photo = torch.zeros(1 if recipe.grey else 3, 530, 520, dtype=torch.uint8)
    quick = replace(recipe, degrade=lambda clean, generator: clean, candidates=1)
    patch = getattr(recipe, when)
    degraded, clean = pairs_of(quick, [photo], patch=patch, seed=0, length=1)[0]
    spec = registry.configured(registry.find(recipe.arch), recipe.config)
    assert degraded.shape[0] == spec.channels
    assert degraded.shape[-1] % spec.multiple == 0
    assert clean.shape[-1] == degraded.shape[-1] * spec.network_scale


@pytest.mark.parametrize("recipe", EACH)
def test_its_parts_exist(recipe):
    spec = registry.configured(registry.find(recipe.arch), recipe.config)
    assert recipe.loss in LOSSES
    assert recipe.scale == spec.scale
    assert recipe.pre_upscaled == (spec.network_scale < spec.scale)


@pytest.mark.parametrize("preset", ["real_x2", "real_x4"])
def test_mirnet_learns_real_photographs_in_the_shape_of_its_sub_pixel_weights(preset):
    recipe = find_recipe("mirnet", preset=preset)
    begun_from = find_recipe("mirnet", preset=preset.replace("real_", "sr_") + "_sub")
    assert recipe.config == begun_from.config
    photo = torch.randint(256, (3, 300, 300), dtype=torch.uint8)
    degraded, clean = pairs_of(recipe, [photo], patch=48, seed=0, length=1)[0]
    assert clean.shape[-1] == recipe.scale * degraded.shape[-1]


def test_mirnet_learns_to_upscale_from_what_its_adapter_will_feed():
    recipe = find_recipe("mirnet", preset="sr_x3")
    photo = torch.randint(256, (3, 120, 120), dtype=torch.uint8)
    pair = pairs_of(recipe, [photo], patch=40, seed=0, length=1)[0][0]
    low = pairs_of(replace(recipe, pre_upscaled=False), [photo], patch=40, seed=0, length=1)[0][0]
    spec = registry.configured(MODELS["mirnet"], recipe.config)
    assert torch.equal(pre_upscaled(low, spec)[0][0], pair)


def test_a_scale_for_a_preset_of_one_size_is_answered_with_those_that_enlarge():
    with pytest.raises(UsageError, match="mirnet does not change the size") as refused:
        find_recipe("mirnet", scale=2)
    assert "sr_x2, sr_x3, sr_x4, sr_x2_small" in refused.value.hint


def test_a_compact_mirnet_fits_the_limit_of_a_bundled_file():
    with torch.device("meta"):
        network = registry.build("mirnet", **MIRNET.config)
    assert 2 * sum(p.numel() for p in network.parameters()) < 5.2 * 2**20
