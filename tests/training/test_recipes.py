"""Each recipe fits its network: the pairs, the loss and the configuration."""

from dataclasses import replace
from importlib import import_module

import pytest
import torch

from restore_cli import registry
from restore_cli.errors import UsageError
from restore_cli.inference.preprocessing import prepare
from restore_cli.registry import MODELS
from restore_cli.training.losses import LOSSES
from restore_cli.training.recipe import GeneratorRecipe, RestorationRecipe
from restore_cli.training.recipes import RECIPES, find_recipe
from restore_cli.training.recipes.mirnet import MIRNET
from restore_cli.training.restoration import make_pairs

ALL = [(name, preset) for name, entry in RECIPES.items() for preset in entry.presets]
EACH = [
    pytest.param(find_recipe(name, preset), id=f"{name}-{preset}")
    for name, preset in ALL
    if not RECIPES[name].generates
]


@pytest.mark.parametrize(("name", "preset"), ALL)
def test_each_listed_preset_is_a_recipe_of_its_kind(name, preset):
    kind = GeneratorRecipe if RECIPES[name].generates else RestorationRecipe
    assert isinstance(find_recipe(name, preset), kind)


@pytest.mark.parametrize("name", RECIPES)
def test_all_presets_of_a_recipe_are_listed(name):
    module = import_module(RECIPES[name].module)
    assert list(module.PRESETS) == list(RECIPES[name].presets)


@pytest.mark.parametrize("recipe", EACH)
@pytest.mark.parametrize("when", ["patch", "validation_patch"])
def test_a_pair_fits_the_network(recipe, when):
    photo = torch.zeros(1 if recipe.grey else 3, 530, 520, dtype=torch.uint8)
    quick = replace(recipe, degrade=lambda clean, generator: clean, candidates=1)
    patch = getattr(recipe, when)
    degraded, clean = make_pairs(quick, [photo], patch=patch, seed=0, length=1)[0]
    facts = registry.find(recipe.arch).facts(**recipe.config)
    assert degraded.shape[0] == facts.channels
    assert degraded.shape[-1] % facts.multiple == 0
    assert clean.shape[-1] == degraded.shape[-1] * facts.network_scale


@pytest.mark.parametrize("recipe", EACH)
def test_its_parts_exist(recipe):
    facts = registry.find(recipe.arch).facts(**recipe.config)
    assert recipe.loss in LOSSES
    assert recipe.scale == facts.scale
    assert recipe.pre_upscaled == (facts.network_scale < facts.scale)


@pytest.mark.parametrize("preset", ["real_x2", "real_x4"])
def test_mirnet_learns_real_photographs_in_the_shape_of_its_sub_pixel_weights(preset):
    recipe = find_recipe("mirnet", preset)
    initial = find_recipe("mirnet", preset.replace("real_", "sr_") + "_sub")
    assert recipe.config == initial.config
    photo = torch.randint(256, (3, 300, 300), dtype=torch.uint8)
    degraded, clean = make_pairs(recipe, [photo], patch=48, seed=0, length=1)[0]
    assert clean.shape[-1] == recipe.scale * degraded.shape[-1]


def test_mirnet_learns_to_upscale_from_what_its_preprocessing_gives():
    recipe = find_recipe("mirnet", "sr_x3")
    photo = torch.randint(256, (3, 120, 120), dtype=torch.uint8)
    pair = make_pairs(recipe, [photo], patch=40, seed=0, length=1)[0][0]
    low = make_pairs(replace(recipe, pre_upscaled=False), [photo], patch=40, seed=0, length=1)[0][0]
    facts = MODELS["mirnet"].facts(**recipe.config)
    assert torch.equal(prepare(facts.preprocessing, low)[0][0], pair)


def test_a_scale_for_a_preset_of_one_size_is_refused_with_those_that_enlarge():
    with pytest.raises(UsageError, match="mirnet does not change the size") as refused:
        find_recipe("mirnet", scale=2)
    assert "sr_x2, sr_x3, sr_x4, sr_x2_small" in refused.value.hint


def test_a_compact_mirnet_fits_the_limit_of_a_bundled_file():
    with torch.device("meta"):
        network = registry.build("mirnet", **MIRNET.config)
    assert 2 * sum(p.numel() for p in network.parameters()) < 5.2 * 2**20


def test_an_unknown_preset_is_refused_with_those_that_exist():
    with pytest.raises(UsageError, match="no preset of unet is called 'x'") as refused:
        find_recipe("unet", "x")
    assert refused.value.hint == "one of: default, quick, objects64"


def test_a_loss_for_a_generator_is_refused():
    with pytest.raises(UsageError, match="unet has one loss and no scale"):
        find_recipe("unet", loss="l1")


def test_a_recipe_that_keeps_the_size_has_no_scale():
    with pytest.raises(UsageError, match="dpenet does not change the size"):
        find_recipe("dpenet", scale=2)


def test_a_loss_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(UsageError, match="'l3'") as caught:
        find_recipe("espcn", loss="l3")
    assert "ms_ssim" in str(caught.value.hint)
