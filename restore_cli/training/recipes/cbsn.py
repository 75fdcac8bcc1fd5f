"""Recipes of C-BSN: denoising, self-supervised or against clean photographs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from restore_cli.data.degrade import unchanged
from restore_cli.data.noise import random_any_noise, random_noise
from restore_cli.training.objectives import (
    self_supervised,
    self_supervised_continued,
    standardized,
    standardized_jointly,
    supervised,
    supervised_with_blind_mode,
)
from restore_cli.training.recipe import RestorationRecipe
from restore_cli.training.schedule import BY_CLOCK
from restore_cli.training.soap import INFREQUENT_SOAP, SOAP

CBSN = RestorationRecipe(
    # As in the paper: noisy photographs alone, so that each network learns its camera.
    arch="cbsn",
    degrade=unchanged,
    loss="l1",
    patch=120,  # a multiple of both strides
    batch=4,
    steps=20_000,
    learning_rate=3e-4,
    validation_patch=120,
    config={"channels": 32, "num_module": 5},
    objective=self_supervised,
    paired=False,
)

# Clean photographs and synthetic noise, for weights that suit any camera. The self-supervised
# training on one's own noisy photographs may continue from there.
CBSN_CAMERA = replace(
    CBSN,
    degrade=random_noise,
    learning_rate=1e-3,
    validation_patch=128,
    preprocessing=standardized,
    objective=supervised,
    paired=True,
)

CBSN_FAST = replace(
    # 173 thousand multiply-adds per pixel; the published size has 3.65 million. Channels not
    # divisible by 16 gave a gradient of NaN in bfloat16 on a CPU (torch 2.13).
    CBSN_CAMERA,
    degrade=random_any_noise,
    loss="log_error",
    patch=80,
    batch=6,
    steps=10_000,
    learning_rate=2e-3,
    optimizer=SOAP,
    validation_patch=256,
    config={"channels": 32, "num_module": 6},
    zooms=(1.0, 0.7, 1.4),  # enlarged: as soft as photographs are in their full size
    preprocessing=standardized_jointly,
    objective=supervised_with_blind_mode,
)

ADAPT = replace(
    # `restore denoise --adapt`: trained weights continue on the photographs to be denoised.
    CBSN,
    batch=2,
    steps=1_000,  # not used: the clock ends it
    learning_rate=1e-4,  # as in the paper
    schedule=BY_CLOCK,
    ema=0.99,  # for hundreds of steps, not thousands
    objective=self_supervised_continued,
)

PRESETS: Mapping[str, RestorationRecipe] = MappingProxyType(
    {
        "default": CBSN,
        # The paper halves its learning rate every 100,000 steps; the usual schedule is used here.
        "paper": replace(CBSN, learning_rate=1e-4, steps=500_000, config={}),
        "camera": CBSN_CAMERA,
        "fast": CBSN_FAST,
        # For a GPU: 10 minutes.
        "c64m8": replace(
            CBSN_FAST,
            patch=120,
            batch=12,
            optimizer=INFREQUENT_SOAP,
            config={"channels": 64, "num_module": 8},
        ),
    }
)
