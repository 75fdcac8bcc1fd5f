"""Recipes of DPENet: rain removal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from torch.optim import Adam

from restore_cli.data.degrade import random_rain
from restore_cli.data.scenes import random_scene
from restore_cli.training.recipe import RestorationRecipe
from restore_cli.training.soap import INFREQUENT_SOAP

DPENET = RestorationRecipe(
    # The paper trains one model for each data set; this one is meant for any rain.
    arch="dpenet",
    degrade=random_rain,
    scene=random_scene,
    loss="log_error",
    patch=128,  # streaks are up to 95 px long
    batch=16,
    steps=10_000,
    learning_rate=1.5e-3,
    optimizer=INFREQUENT_SOAP,
    validation_patch=256,
    zooms=(1.0, 0.7),  # reduced photographs have no JPEG artifacts
)
DPENET_ADAM = replace(
    DPENET, loss="l1", learning_rate=1e-3, optimizer=Adam, validation_patch=128, zooms=(1.0,)
)

PRESETS: Mapping[str, RestorationRecipe] = MappingProxyType(
    {
        "default": DPENET,
        # Two CPU cores in half an hour: smaller patches, fewer steps.
        "quick": replace(DPENET_ADAM, patch=64, batch=4, steps=2_000, validate_every=200),
        # Official training script: batch 18 of 128 x 128, 100 epochs of 1800 pairs.
        "paper": replace(DPENET_ADAM, loss="ssim_edge", batch=18),
    }
)
