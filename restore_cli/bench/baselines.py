"""What stands beside the networks: doing nothing, and what could be had without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from restore_cli.imaging.colour import full_range_to_rgb, rgb_to_full_range
from restore_cli.imaging.resize import resize_lanczos, resize_matlab
from restore_cli.registry import Task

Baseline = Callable[[Tensor, int], Tensor]  # (C, H, W) in [0, 1], scale -> the same, enlarged

# As in many comparisons: window of 7 px, 75 of 255 between colours, 2 px between places.
BILATERAL_WINDOW, BILATERAL_COLOUR, BILATERAL_SPACE = 7, 75 / 255, 2.0
CLAHE_CLIP, CLAHE_GRID = 2.0, 8


def nothing(pixels: Tensor, scale: int) -> Tensor:
    return pixels


def bicubic(pixels: Tensor, scale: int) -> Tensor:
    height, width = (side * scale for side in pixels.shape[-2:])
    return resize_matlab(pixels, height, width).clamp(0, 1)


def lanczos(pixels: Tensor, scale: int) -> Tensor:
    """Pillow's, of 8-bit pixels: what a user has for nothing."""
    height, width = (side * scale for side in pixels.shape[-2:])
    return resize_lanczos(pixels, height, width)


def bilateral(pixels: Tensor, scale: int) -> Tensor:
    """Each pixel the mean of what is near and alike."""
    from kornia.filters import bilateral_blur

    window, space = (BILATERAL_WINDOW,) * 2, (BILATERAL_SPACE,) * 2
    blurred: Tensor = bilateral_blur(pixels[None], window, BILATERAL_COLOUR, space)
    return blurred[0]


def clahe(pixels: Tensor, scale: int) -> Tensor:
    """Histograms of luma made even, each in its part of the image, and chroma left."""
    from kornia.enhance import equalize_clahe

    ycbcr = rgb_to_full_range(pixels)
    ycbcr[:1] = equalize_clahe(ycbcr[:1].clamp(0, 1), CLAHE_CLIP, (CLAHE_GRID,) * 2)
    return full_range_to_rgb(ycbcr).clamp(0, 1)


# Of each task the first is what the degraded image looks like.
BASELINES: Mapping[Task, Mapping[str, Baseline]] = MappingProxyType(
    {
        "upscale": {"bicubic": bicubic, "lanczos": lanczos},
        "derain": {"input": nothing},
        "denoise": {"input": nothing, "bilateral": bilateral},
        "enhance": {"input": nothing, "clahe": clahe},
    }
)
