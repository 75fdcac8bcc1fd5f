"""How each bundled weight file is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

from restore_cli.data.degrade import random_rain
from restore_cli.data.pairs import Degrade
from restore_cli.errors import UsageError
from restore_cli.training.losses import LOSSES

T = TypeVar("T")


@dataclass(frozen=True)
class Recipe:
    """One training, complete: the same recipe, data and seed give the same weights."""

    arch: str
    degrade: Degrade
    loss: str  # a key of losses.LOSSES
    patch: int  # pixels
    batch: int
    steps: int
    learning_rate: float  # of Adam at its peak; see loop.learning_rate
    ema: float = 0.999  # decay of the averaged weights that are validated and kept
    validate_every: int = 500  # steps
    config: Mapping[str, object] = field(default_factory=dict)


DPENET = Recipe(
    # The paper trains one model per set; this one is meant for any rain, so it sees the mix.
    arch="dpenet",
    degrade=random_rain,
    loss="l1",
    patch=96,  # streaks are up to 95 px long
    batch=4,
    steps=20_000,
    learning_rate=1e-3,
)

RECIPES: Mapping[str, Mapping[str, Recipe]] = MappingProxyType(
    {
        "dpenet": {
            "default": DPENET,
            # Two CPU cores in half an hour: smaller patches, fewer steps.
            "quick": replace(DPENET, patch=64, steps=2_000, validate_every=200),
            # Official training script: batch 18 of 128 x 128, 100 epochs of 1800 pairs.
            "paper": replace(DPENET, loss="ssim_edge", patch=128, batch=18, steps=10_000),
        },
    }
)


def find_recipe(name: str, *, preset: str | None = None, loss: str | None = None) -> Recipe:
    """The recipe `name` in its variant `preset`, with another loss if one is named."""
    presets = _choose(RECIPES, name, "recipe")
    recipe = _choose(presets, preset or "default", f"preset of {name}")
    if loss is None:
        return recipe
    _choose(LOSSES, loss, "loss")
    return replace(recipe, loss=loss)


def _choose(table: Mapping[str, T], name: str, what: str) -> T:
    if name not in table:
        raise UsageError(f"no {what} is called {name!r}", hint=f"one of: {', '.join(table)}")
    return table[name]
