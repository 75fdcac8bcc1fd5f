"""Table of all recipes and their presets; the recipes themselves are imported on demand.

Listing them needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from restore_cli.errors import UsageError

if TYPE_CHECKING:
    from restore_cli.training.recipe import GeneratorRecipe, RestorationRecipe


@dataclass(frozen=True)
class RecipeEntry:
    """Recipe of a network, as it is listed."""

    module: str  # its PRESETS are the recipes
    presets: Mapping[str, str]  # name -> description
    generates: bool = False  # trained on a folder of images for each class


# Names of losses.LOSSES, which loads torch.
LOSS_NAMES = (
    *("l1", "mse", "charbonnier", "log_error", "smooth_l1"),
    *("ms_ssim", "mix", "ssim_edge", "photo"),
)
SCALES = (2, 3, 4)

RECIPES: Mapping[str, RecipeEntry] = MappingProxyType(
    {
        "dpenet": RecipeEntry(
            "restore_cli.training.recipes.dpenet",
            {
                "default": "rain removal from clean photographs and synthetic rain, for a GPU",
                "quick": "the same in half an hour on two CPU cores",
                "paper": "loss, patch and batch of the official script",
            },
        ),
        "espcn": RecipeEntry(
            "restore_cli.training.recipes.espcn",
            {"default": "super-resolution of luma, x3; other factors by --scale"},
        ),
        "cbsn": RecipeEntry(
            "restore_cli.training.recipes.cbsn",
            {
                "default": "self-supervised denoising from noisy photographs alone",
                "paper": "the same in the published size",
                "camera": "denoising from clean photographs and synthetic noise",
                "fast": "small denoiser of 32 channels, any noise, for a CPU",
                "c64m8": "denoiser of 64 channels and 8 modules, any noise, for a GPU",
            },
        ),
        "mirnet": RecipeEntry(
            "restore_cli.training.recipes.mirnet",
            {
                "default": "denoising from clean photographs and synthetic camera noise",
                "denoise": "the same",
                "enhance": "brightening of synthetic low light",
                "sr_x2": "super-resolution x2 after bicubic enlargement",
                "sr_x3": "super-resolution x3 after bicubic enlargement",
                "sr_x4": "super-resolution x4 after bicubic enlargement",
                "denoise_small": "denoising of any noise by a quarter of the parameters",
                "enhance_small": "brightening by a quarter of the parameters",
                "sr_x2_small": "super-resolution x2 by a quarter of the parameters",
                "sr_x3_small": "super-resolution x3 by a quarter of the parameters",
                "sr_x4_small": "super-resolution x4 by a quarter of the parameters",
                "sr_x2_sub": "super-resolution x2 from low resolution by a sub-pixel layer",
                "sr_x3_sub": "super-resolution x3 from low resolution by a sub-pixel layer",
                "sr_x4_sub": "super-resolution x4 from low resolution by a sub-pixel layer",
                "real_x2": "super-resolution x2 of photographs with blur, noise and JPEG artifacts",
                "real_x4": "super-resolution x4 of photographs with blur, noise and JPEG artifacts",
                "jpeg": "removal of JPEG artifacts",
                "paper": "denoising in the published size",
            },
        ),
        "tml": RecipeEntry(
            "restore_cli.training.recipes.tml",
            {
                "default": "brightening of whole photographs, 160x160 pixels",
                "quick": "the same at 80x80 pixels, in half an hour on two CPU cores",
                "paper": "the same in the published size, 640x400 pixels",
            },
        ),
        "fitv2": RecipeEntry(
            "restore_cli.training.recipes.fit",
            {
                "default": "class-conditional generation by a transformer, 64x64 pixels",
                "quick": "the same at 32x32 pixels, in an hour on two CPU cores",
                "objects": "small transformer for 32x32 pixels",
                "hr": "weights of default trained further at 128x128 pixels (--init)",
                "objects_hr": "weights of objects trained further at 64x64 pixels (--init)",
            },
            generates=True,
        ),
        "unet": RecipeEntry(
            "restore_cli.training.recipes.unet",
            {
                "default": "class-conditional generation by a UNet, 64x64 pixels",
                "quick": "the same at 32x32 pixels, on two CPU cores",
                "objects64": "weights of quick trained further at 64x64 pixels (--init)",
            },
            generates=True,
        ),
        "dimr": RecipeEntry(
            "restore_cli.training.recipes.dimr",
            {
                "default": "class-conditional generation at several resolutions, 64x64 pixels",
                "objects": "small network for 32x32 pixels",
            },
            generates=True,
        ),
    }
)


def find_entry(name: str, preset: str | None = None) -> RecipeEntry:
    """Return the entry of a recipe. Raises UsageError for an unknown recipe or preset."""
    if name not in RECIPES:
        raise UsageError(
            f"no recipe is called {name!r}",
            hint=f"one of: {', '.join(RECIPES)}; see: restore train --list",
        )
    entry = RECIPES[name]
    if preset is not None:
        _refuse_unknown(preset, entry.presets, f"preset of {name}")
    return entry


def find_recipe(
    name: str, preset: str | None = None, *, loss: str | None = None, scale: int | None = None
) -> RestorationRecipe | GeneratorRecipe:
    """Return a recipe in one of its presets, with another loss or scale if one is named.

    Raises UsageError for an unknown name, and for a loss or a scale that the recipe does not have.
    """
    entry = find_entry(name, preset)
    presets: Mapping[str, RestorationRecipe | GeneratorRecipe] = import_module(entry.module).PRESETS
    recipe = presets[preset or "default"]
    if loss is None and scale is None:
        return recipe
    from restore_cli.training.losses import LOSSES
    from restore_cli.training.recipe import RestorationRecipe

    if not isinstance(recipe, RestorationRecipe):
        raise UsageError(f"{name} has one loss and no scale", hint="leave --loss and --scale out")
    if scale is not None:
        if scale not in SCALES:
            raise UsageError(f"--scale {scale}: wanted 2, 3 or 4")
        if recipe.scale == 1:
            enlarging = [key for key, other in presets.items() if getattr(other, "scale", 1) > 1]
            raise UsageError(
                f"{name} does not change the size" + (f" by preset {preset}" if preset else ""),
                hint=f"--preset, one of: {', '.join(enlarging)}"
                if enlarging
                else "leave --scale out",
            )
        recipe = replace(recipe, scale=scale, config={**recipe.config, "scale": scale})
    if loss is not None:
        _refuse_unknown(loss, LOSSES, "loss")
        recipe = replace(recipe, loss=loss)
    return recipe


def _refuse_unknown(name: str, table: Mapping[str, object], kind: str) -> None:
    if name not in table:
        raise UsageError(f"no {kind} is called {name!r}", hint=f"one of: {', '.join(table)}")
