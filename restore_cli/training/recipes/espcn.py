"""Recipes of ESPCN: super-resolution of luma."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from restore_cli.data.degrade import unchanged
from restore_cli.training.recipe import RestorationRecipe
from restore_cli.training.soap import SOAP

SHARP_ZOOMS = (1.0, 0.8, 0.6)  # reduced photographs have sharper edges, and no JPEG artifacts

ESPCN = RestorationRecipe(
    # Mean squared error as in the paper; SOAP instead of its hand-made schedule of plain descent.
    arch="espcn",
    degrade=unchanged,
    loss="mse",
    patch=48,  # the paper: 17; zero padding disturbs the border of each crop
    batch=16,
    steps=20_000,
    learning_rate=3e-3,
    optimizer=SOAP,
    validate_every=500,
    config={"scale": 3},
    scale=3,
    grey=True,
    zooms=SHARP_ZOOMS,
    candidates=2,
    last_layer="subpixel",
    last_layer_rate=0.1,  # sec. 3.2
)

PRESETS: Mapping[str, RestorationRecipe] = MappingProxyType({"default": ESPCN})
