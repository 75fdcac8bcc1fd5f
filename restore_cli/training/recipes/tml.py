"""Recipes of TML: brightening of whole photographs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from restore_cli.data.lowlight import random_exposure
from restore_cli.data.whole_images import is_normal
from restore_cli.training.objectives import imagenet
from restore_cli.training.recipe import RestorationRecipe

TML = RestorationRecipe(
    # Both models at once, each of their outputs against the photograph. A network of a quarter of
    # the published size learns with a higher rate than the usual 1e-4.
    arch="tml",
    degrade=random_exposure,
    loss="smooth_l1",
    patch=160,
    batch=4,
    steps=4_000,
    learning_rate=1e-3,
    ema=0.99,
    validate_every=100,
    validation_patch=160,
    # 5.4 M parameters, 10.2 MiB in half precision. A square is as far from upright images as
    # from wide ones.
    config={"pm_stem": 32, "em_stem": 16, "nominal_size": (160, 160)},
    preprocessing=imagenet,
    whole_size=(160, 160),
    is_usable=is_normal,
    # The brightness of an image must not depend on the other images of its batch.
    freeze_norms_at=0.4,
)


def _of_size(nominal: tuple[int, int], pm_stem: int = 32, em_stem: int = 16) -> RestorationRecipe:
    config = {"pm_stem": pm_stem, "em_stem": em_stem, "nominal_size": nominal}
    width = nominal[1]
    return replace(
        TML, batch=8, patch=width, validation_patch=width, whole_size=nominal, config=config
    )


PRESETS: Mapping[str, RestorationRecipe] = MappingProxyType(
    {
        "default": TML,
        # A quarter of the pixels: two CPU cores in half an hour. The default may start from its
        # weights (--init).
        "quick": _of_size((80, 80)),
        # The published widths and size.
        "paper": replace(
            _of_size((400, 640), pm_stem=64, em_stem=32), learning_rate=1e-4, steps=100_000
        ),
    }
)
