"""Baselines of the networks: the input itself, and methods without a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from restore_cli.imaging.colour import full_range_to_rgb, rgb_to_full_range
from restore_cli.imaging.resize import resize_lanczos, resize_matlab
from restore_cli.tasks import TASKS, TaskName

Baseline = Callable[[Tensor, int], Tensor]  # (C, H, W) in [0, 1], scale -> the same, enlarged

# As in many comparisons: window of 7 px, sigmas of 75 (of 255) in colour and 2 px in space.
BILATERAL_WINDOW, BILATERAL_COLOUR, BILATERAL_SPACE = 7, 75 / 255, 2.0
CLAHE_CLIP, CLAHE_GRID = 2.0, 8


def unchanged(pixels: Tensor, scale: int) -> Tensor:
    return pixels


def bicubic(pixels: Tensor, scale: int) -> Tensor:
    height, width = (side * scale for side in pixels.shape[-2:])
    return resize_matlab(pixels, height, width).clamp(0, 1)


def lanczos(pixels: Tensor, scale: int) -> Tensor:
    """Enlarge by Pillow's Lanczos kernel, of 8-bit pixels."""
    height, width = (side * scale for side in pixels.shape[-2:])
    return resize_lanczos(pixels, height, width)


def bilateral(pixels: Tensor, scale: int) -> Tensor:
    """Apply a bilateral filter."""
    from kornia.filters import bilateral_blur

    window, space = (BILATERAL_WINDOW,) * 2, (BILATERAL_SPACE,) * 2
    blurred: Tensor = bilateral_blur(pixels[None], window, BILATERAL_COLOUR, space)
    return blurred[0]


def clahe(pixels: Tensor, scale: int) -> Tensor:
    """Equalize the local histograms of luma; chroma stays unchanged."""
    from kornia.enhance import equalize_clahe

    ycbcr = rgb_to_full_range(pixels)
    ycbcr[:1] = equalize_clahe(ycbcr[:1].clamp(0, 1), CLAHE_CLIP, (CLAHE_GRID,) * 2)
    return full_range_to_rgb(ycbcr).clamp(0, 1)


BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        "input": unchanged,
        "bicubic": bicubic,
        "lanczos": lanczos,
        "bilateral": bilateral,
        "clahe": clahe,
    }
)


def baselines_of(task: TaskName) -> dict[str, Baseline]:
    """Return the baselines of a task; the first shows the degraded image."""
    return {name: BASELINES[name] for name in TASKS[task].baselines}
