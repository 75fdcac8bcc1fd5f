"""Recipes of DiMR: class-conditional generation by branches of several resolutions, in pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any

from restore_cli.networks.dimr.model import branches
from restore_cli.training.recipe import GeneratorRecipe
from restore_cli.training.schedule import generative_schedule


def pixels(dims: tuple[int, ...], blocks: tuple[int, ...], side: int, heads: int) -> dict[str, Any]:
    """Return the configuration of a network for RGB; side: of the image, pixels."""
    stages = branches(dims, blocks, side >> (len(dims) - 1), heads=heads)
    return {"channels": 3, "stage_configs": [asdict(stage) for stage in stages]}


DIMR = GeneratorRecipe(
    # 25 million parameters, 16 x 16 tokens at 64 x 64. Decay as published, momentum shorter.
    arch="dimr",
    batch=256,
    steps=40_000,
    learning_rate=4e-4,
    betas=(0.9, 0.99),
    weight_decay=0.03,
    undecayed=("slope", "shift"),
    config=pixels((384, 192, 96), (11, 7, 7), 64, heads=6),
)
PRESETS: Mapping[str, GeneratorRecipe] = MappingProxyType(
    {
        "default": DIMR,
        # The drawn objects of benchmarks/, on a CPU.
        "objects": replace(
            DIMR,
            batch=16,
            steps=4_000,
            learning_rate=1e-3,
            schedule=generative_schedule(0.05),
            ema=0.998,
            validate_every=500,
            config=pixels((192, 96, 48), (7, 3, 3), 32, heads=4),
        ),
    }
)
