"""Recipes of MIRNet: denoising, brightening, super-resolution and removal of JPEG artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from restore_cli.data.degrade import unchanged
from restore_cli.data.degrade_real import PhotoDegradation, random_jpeg
from restore_cli.data.lowlight import random_low_light
from restore_cli.data.noise import random_any_noise, random_noise
from restore_cli.training.recipe import RestorationRecipe
from restore_cli.training.recipes.espcn import SHARP_ZOOMS
from restore_cli.training.soap import INFREQUENT_SOAP, SOAP

MIRNET = RestorationRecipe(
    # Official training script: patches of 128 px, batch 16, Adam, Charbonnier loss. It clamps the
    # output before the loss, so that values out of range have no gradient; not done here. A
    # network of a twelfth of the size learns with a higher rate than its 2e-4.
    arch="mirnet",
    degrade=random_noise,
    loss="charbonnier",
    patch=128,
    batch=16,
    steps=40_000,
    learning_rate=5e-4,
    validate_every=1_000,
    # 2.66 M parameters, 5.1 MiB in half precision; 620 thousand multiply-adds per pixel, where the
    # published size has 7.3 million.
    config={"n_feat": 32, "n_RRG": 2, "n_MSRB": 1},
    zooms=(1.0, 0.7),  # reduced photographs have no JPEG artifacts
)
# 0.67 M parameters, 156 thousand multiply-adds per pixel: for a CPU.
SMALL = {"n_feat": 16, "n_RRG": 2, "n_MSRB": 1}
REDUCED_ZOOMS = (0.7, 0.5)  # photographs in full size have JPEG artifacts themselves


def _pre_upscaled(scale: int) -> RestorationRecipe:
    """Return the recipe whose input is about 128 px of the enlarged image."""
    patch = MIRNET.patch // scale // 4 * 4  # enlarged, still a multiple of 4
    return replace(
        MIRNET,
        degrade=unchanged,
        scale=scale,
        pre_upscaled=True,
        patch=patch,
        validation_patch=patch,
        config={**MIRNET.config, "scale": scale},
        zooms=SHARP_ZOOMS,
        candidates=2,
    )


def _subpixel(scale: int) -> RestorationRecipe:
    """Return the recipe whose input is 48 px of the low-resolution image.

    16 times as fast per output pixel at x4 as after bicubic enlargement.
    """
    return replace(
        _pre_upscaled(scale),
        pre_upscaled=False,
        patch=48,
        validation_patch=48,
        learning_rate=3e-3,
        optimizer=SOAP,
        validate_every=250,
        # 1.5 M parameters, 350 thousand multiply-adds per low-resolution pixel.
        config={"n_feat": 24, "n_RRG": 2, "n_MSRB": 1, "scale": scale, "upsampler": "subpixel"},
    )


def _real(scale: int) -> RestorationRecipe:
    """Return the recipe that continues from the sub-pixel weights (--init)."""
    return replace(
        _subpixel(scale),
        degrade=PhotoDegradation(),
        loss="photo",
        learning_rate=1e-3,
        zooms=REDUCED_ZOOMS,
    )


def _small(recipe: RestorationRecipe) -> RestorationRecipe:
    return replace(
        recipe,
        learning_rate=2e-3,
        optimizer=INFREQUENT_SOAP,
        validation_patch=2 * recipe.patch,
        validate_every=250,
        config={**recipe.config, **SMALL},
    )


TASKS = {
    "denoise": MIRNET,
    "enhance": replace(MIRNET, degrade=random_low_light),
    **{f"sr_x{scale}": _pre_upscaled(scale) for scale in (2, 3, 4)},
}
SMALL_TASKS = {f"{task}_small": _small(recipe) for task, recipe in TASKS.items()}
SMALL_TASKS["denoise_small"] = replace(
    SMALL_TASKS["denoise_small"], degrade=random_any_noise, loss="log_error"
)

PRESETS: Mapping[str, RestorationRecipe] = MappingProxyType(
    {
        "default": MIRNET,
        **TASKS,
        **SMALL_TASKS,
        **{f"sr_x{scale}_sub": _subpixel(scale) for scale in (2, 3, 4)},
        **{f"real_x{scale}": _real(scale) for scale in (2, 4)},
        "jpeg": replace(
            MIRNET,
            degrade=random_jpeg,
            patch=96,
            batch=8,
            learning_rate=3e-3,
            optimizer=SOAP,
            validate_every=250,
            config={**MIRNET.config, **SMALL},
            zooms=REDUCED_ZOOMS,
        ),
        # The published network and patches; the paper takes 60 epochs of 96,000 patches.
        "paper": replace(MIRNET, config={}, learning_rate=2e-4, steps=360_000),
    }
)
