"""Names of all recipes and their presets, one line each; without torch, for lists and messages."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from restore_cli.errors import UsageError

CATALOGUE: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "dpenet": {
            "default": "rain removal from clean photographs and synthetic rain, for a GPU",
            "quick": "the same in half an hour on two CPU cores",
            "paper": "loss, patch and batch of the official script",
        },
        "espcn": {
            "default": "super-resolution of luma, x3; other factors by --scale",
        },
        "cbsn": {
            "default": "self-supervised denoising from noisy photographs alone",
            "paper": "the same in the published size",
            "camera": "denoising from clean photographs and synthetic noise",
            "fast": "small denoiser of 32 channels, any noise, for a CPU",
            "c64m8": "denoiser of 64 channels and 8 modules, any noise, for a GPU",
        },
        "mirnet": {
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
            "real_x2": "super-resolution x2 of photographs with blur, noise and traces of JPEG",
            "real_x4": "super-resolution x4 of photographs with blur, noise and traces of JPEG",
            "jpeg": "removal of traces of JPEG",
            "paper": "denoising in the published size",
        },
        "tml": {
            "default": "brightening of whole photographs, 160x160 pixels",
            "quick": "the same at 80x80 pixels, in half an hour on two CPU cores",
            "paper": "the same in the published size, 640x400 pixels",
        },
        "fitv2": {
            "default": "class-conditional generation by a transformer, 64x64 pixels",
            "quick": "the same at 32x32 pixels, in an hour on two CPU cores",
            "objects": "small transformer for 32x32 pixels",
            "hr": "weights of default trained further at 128x128 pixels (--init)",
            "objects_hr": "weights of objects trained further at 64x64 pixels (--init)",
        },
        "unet": {
            "default": "class-conditional generation by a UNet, 64x64 pixels",
            "quick": "the same at 32x32 pixels, on two CPU cores",
        },
    }
)
GENERATORS = ("fitv2", "unet")


def refuse_unknown(recipe: str, preset: str | None) -> None:
    """Raises UsageError for a recipe or a preset that does not exist."""
    if recipe not in CATALOGUE:
        raise UsageError(
            f"no recipe is called {recipe!r}",
            hint=f"one of: {', '.join(CATALOGUE)}; see: restore train --list",
        )
    if preset is not None and preset not in CATALOGUE[recipe]:
        raise UsageError(
            f"no preset of {recipe} is called {preset!r}",
            hint=f"one of: {', '.join(CATALOGUE[recipe])}",
        )
