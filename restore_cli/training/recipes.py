"""How each bundled weight file is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from restore_cli.data.degrade import random_rain
from restore_cli.data.pairs import Degrade


@dataclass(frozen=True)
class Recipe:
    """One training, complete: the same recipe, data and seed give the same weights."""

    arch: str
    degrade: Degrade
    loss: str  # a key of losses.LOSSES
    patch: int  # pixels
    batch: int
    steps: int
    learning_rate: float  # of Adam at its peak; 5 % warm-up, then a cosine to 1 % of it
    ema: float = 0.999  # decay of the averaged weights that are validated and kept
    validate_every: int = 500  # steps
    config: Mapping[str, object] = field(default_factory=dict)


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        # The paper trains one model per set; this one is meant for any rain, so it sees the mix.
        "dpenet": Recipe(
            arch="dpenet",
            degrade=random_rain,
            loss="l1",
            patch=64,
            batch=8,
            steps=20_000,
            learning_rate=1e-3,
        ),
        # Official training script: Adam 1e-3, batch 18 of 128 x 128, 100 epochs of 1800 pairs.
        "dpenet-paper": Recipe(
            arch="dpenet",
            degrade=random_rain,
            loss="ssim_edge",
            patch=128,
            batch=18,
            steps=10_000,
            learning_rate=1e-3,
        ),
    }
)
