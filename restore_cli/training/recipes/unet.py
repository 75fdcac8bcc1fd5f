"""Recipes of the UNet with the layer names of Stable Diffusion: class-conditional generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from restore_cli.training.recipe import GeneratorRecipe
from restore_cli.training.schedule import generative_schedule

UNET = GeneratorRecipe(
    # About 5.5 million parameters.
    arch="scalecrafter",
    batch=256,
    steps=40_000,
    learning_rate=2e-4,
)

QUICK = replace(
    UNET,
    batch=16,
    steps=6_000,
    learning_rate=3e-4,
    schedule=generative_schedule(0.033),
    ema=0.998,
    validate_every=500,
    # Attention at the deepest level alone: layers that see the whole image would hide the effect
    # of larger sizes on the convolutions.
    config={"sample_size": 32, "attention_levels": 1},
)

PRESETS: Mapping[str, GeneratorRecipe] = MappingProxyType(
    {
        "default": UNET,
        "quick": QUICK,
        "objects64": replace(
            QUICK, steps=30_000, config={"sample_size": 64, "attention_levels": 1}
        ),
    }
)
