"""Memory of a diffusion pipeline, and measures that keep it within the free memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from restore_cli.inference.device import free_memory

# Estimated numbers in memory at once, from the shapes of the largest features: of the UNet per
# latent pixel, of the VAE per pixel.
UNET_NUMBERS = 64 * 320 * 2
VAE_NUMBERS = 4 * 256
TILED_VAE = 1 / 8  # share of the VAE's numbers with tiles
USABLE = 0.9  # share of the free memory

Offload = Literal["none", "model", "sequential"]


@dataclass(frozen=True)
class MemoryPlan:
    """Measures that keep a pipeline within the free memory."""

    offload: Offload = "none"  # on the GPU: all of the pipeline, one model, or one layer at a time
    tiles: bool = False  # the VAE decodes in tiles
    slices: bool = False  # attention in slices: slow, so the last resort

    def __str__(self) -> str:
        chosen = {
            "one model at a time on the GPU": self.offload == "model",
            "one layer at a time on the GPU": self.offload == "sequential",
            "VAE in tiles": self.tiles,
            "attention in slices": self.slices,
        }
        return ", ".join(name for name, used in chosen.items() if used) or "all at once"


PLANS = (  # the fastest first
    MemoryPlan(),
    MemoryPlan(tiles=True),
    MemoryPlan("model"),
    MemoryPlan("model", tiles=True),
    MemoryPlan("sequential", tiles=True, slices=True),
)
LAST_ON_CPU = MemoryPlan(tiles=True, slices=True)


def plan_memory(
    free: int, models: Sequence[int], size: tuple[int, int], *, width: int, on_gpu: bool
) -> MemoryPlan:
    """Return the fastest plan that fits into `free` bytes, else the one that needs least.

    models: bytes of the weights of each; size: (H, W) of the image; width: bytes per number.
    """
    pixels = size[0] * size[1]
    unet, vae = UNET_NUMBERS * width * pixels / 64, VAE_NUMBERS * width * pixels
    plans = PLANS if on_gpu else (*PLANS[:2], LAST_ON_CPU)
    for plan in plans[:-1]:
        weights = sum(models) if plan.offload == "none" else max(models)
        features = max(unet, vae * TILED_VAE if plan.tiles else vae)
        if weights + features <= free * USABLE:
            return plan
    return plans[-1]


def apply_plan(pipe: Any, plan: MemoryPlan, device: torch.device) -> None:
    """Move a pipeline to the device as planned."""
    if plan.tiles:
        pipe.vae.enable_tiling()
    if plan.slices:
        pipe.enable_attention_slicing()
    if plan.offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif plan.offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.to(device)


def plan_for(pipe: Any, size: tuple[int, int] | None, device: torch.device) -> MemoryPlan:
    """Return the plan by which images of `size` (H, W) fit; None: the pipeline's own size."""
    return plan_memory(
        free_memory(device),
        _model_bytes(pipe),
        size or own_size(pipe),
        width=pipe.unet.dtype.itemsize,
        on_gpu=device.type == "cuda",
    )


def own_size(pipe: Any) -> tuple[int, int]:
    """Return the size (H, W) in pixels that a pipeline was trained at."""
    sample = pipe.unet.config.sample_size
    height, width = (sample, sample) if isinstance(sample, int) else sample
    return height * pipe.vae_scale_factor, width * pipe.vae_scale_factor


def _model_bytes(pipe: Any) -> list[int]:
    """Return the size of the weights that are on the device together, one model at a time."""
    sizes = {
        name: sum(p.numel() * p.element_size() for p in part.parameters())
        for name, part in pipe.components.items()
        if isinstance(part, torch.nn.Module)
    }
    if "controlnet" in sizes:  # diffusers leaves it there beside the UNet
        sizes["unet"] += sizes.pop("controlnet")
    return list(sizes.values())
