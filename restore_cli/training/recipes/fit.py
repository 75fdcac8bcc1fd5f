"""Recipes of FiTv2: class-conditional generation by a transformer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any

from restore_cli.networks.fit.model import FiTConfig, high_resolution
from restore_cli.training.recipe import GeneratorRecipe
from restore_cli.training.schedule import generative_schedule

# Parameters that FiTv2-HR trains, by parts of their names; LN means adaLN. 14 % of FiTv2-XL/2.
HIGH_RESOLUTION = ("x_embedder", "bias", "LN", "final_layer")


def at_high_resolution(recipe: GeneratorRecipe, **changes: Any) -> GeneratorRecipe:
    """Return the recipe that trains the weights of `recipe` further at twice the side (FiTv2-HR).

    The released recipe initializes the trained parameters anew; here they continue.
    """
    before = FiTConfig(**recipe.config)
    after = asdict(high_resolution(before))
    changed = {name: value for name, value in after.items() if value != getattr(before, name)}
    config = {**recipe.config, **changed}
    return replace(recipe, config=config, trainable=HIGH_RESOLUTION, **changes)


FITV2 = GeneratorRecipe(
    # About 8 million parameters; patches of 4 x 4 pixels, so 256 tokens at 64 x 64.
    arch="fitv2",
    batch=512,
    steps=40_000,
    learning_rate=4e-4,
    config={
        "in_channels": 3,
        "patch_size": 4,
        "hidden_size": 256,
        "depth": 8,
        "num_heads": 4,
        "adaln_lora_dim": 64,
    },
)
FITV2_OBJECTS = replace(
    # The drawn objects of benchmarks/, in less than an hour of one core.
    FITV2,
    batch=16,
    steps=4_000,
    learning_rate=8e-4,
    schedule=generative_schedule(0.05),
    ema=0.998,
    validate_every=500,
    config={
        **FITV2.config,
        "hidden_size": 192,
        "depth": 6,
        "adaln_lora_dim": 48,
        "context_size": 64,
        "ori_max_pe_len": 8,
    },
)

PRESETS: Mapping[str, GeneratorRecipe] = MappingProxyType(
    {
        "default": FITV2,
        # Two CPU cores in an hour: a quarter of the pixels, patches of 2 x 2.
        "quick": replace(
            FITV2,
            batch=32,
            steps=4_000,
            schedule=generative_schedule(0.05),
            ema=0.999,
            validate_every=400,
            config={**FITV2.config, "patch_size": 2, "depth": 6},
        ),
        "objects": FITV2_OBJECTS,
        # As many tokens per step as before.
        "hr": at_high_resolution(
            FITV2, batch=128, steps=10_000, learning_rate=1e-4, schedule=generative_schedule(0.0)
        ),
        "objects_hr": at_high_resolution(FITV2_OBJECTS, steps=4_000),
    }
)
