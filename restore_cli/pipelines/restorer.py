"""One picture through one network: prepare, tiles, network, blend, finish."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from restore_cli import registry
from restore_cli.checkpoints.load import Checkpoint, load_checkpoint
from restore_cli.errors import BrokenOutput, OutOfMemory, UsageError, WeightsMismatch
from restore_cli.imaging.image import Image
from restore_cli.imaging.tiling import Span, TilePlan, fade_window, plan_tiles
from restore_cli.pipelines.adapters import ADAPTERS
from restore_cli.pipelines.device import (
    SMALLEST_TILE,
    fastest_low_precision,
    free_memory,
    is_out_of_memory,
    pick_device,
)
from restore_cli.registry import ModelSpec

logger = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16", "fp16"]
OnProgress = Callable[[int, int], None]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
GATE = 50.0  # dB between the first tile in low precision and in float32
LARGEST_TILE = 512  # pixels; larger tiles leave the caches and are no faster (docs/tiling.md)
MEMORY_SHARE = 0.5  # of the free memory


@dataclass(frozen=True)
class RunOptions:
    """What a user may choose about a run."""

    model: str | None = None
    weights: str | None = None
    tile: int | Literal["auto", "off"] = "auto"
    overlap: int | Literal["auto", "exact"] = "auto"
    device: str = "auto"
    precision: Precision = "auto"
    seed: int = 0


class Restorer:
    """A network on a device, ready to restore pictures of any size.

    `precision` and `tile` say what was really taken; "auto" is settled by the first picture.
    """

    def __init__(self, checkpoint: Checkpoint, options: RunOptions):
        if not isinstance(checkpoint.spec, ModelSpec):
            raise WeightsMismatch(f"{checkpoint.name} takes no picture, so it restores none")
        self.checkpoint = checkpoint
        self.spec = checkpoint.spec
        self.options = options
        self.device = pick_device(options.device)
        self.precision: str = options.precision
        self.tile: int | None = None
        self.network = checkpoint.module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._overlap, self._blend = self._context()

    def __call__(self, image: Image, *, on_progress: OnProgress | None = None) -> Image:
        """The restored picture. Raises OutOfMemory, BrokenOutput."""
        filled = image.visible_colours()
        result = self.run(filled.pixels, on_progress=on_progress)
        return image.with_pixels(image.keep_hidden_colours(result))

    @torch.inference_mode()
    def run(self, pixels: Tensor, *, on_progress: OnProgress | None = None) -> Tensor:
        """(C, H, W) in [0, 1] -> (C, H, W) in [0, 1], float32 on the CPU."""
        prepared, finish = ADAPTERS[self.spec.adapter](pixels)
        prepared = prepared.contiguous(memory_format=torch.channels_last)
        if self.precision == "auto":
            self.precision = self._settle_precision(prepared)
        tile = self._first_tile(*prepared.shape[-2:])
        while True:
            try:
                result = self._run_tiles(prepared, tile, on_progress)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                tile = self._smaller_tile(tile, prepared, error)
        self.tile = tile
        return finish(result).clamp_(0, 1)

    def _run_tiles(
        self, prepared: Tensor, tile: int | None, on_progress: OnProgress | None
    ) -> Tensor:
        height, width = prepared.shape[-2:]
        plan: TilePlan = plan_tiles(
            height, width, tile=tile, overlap=self._overlap, blend=self._blend
        )
        result = torch.zeros(prepared.shape)
        for done, (row, column) in enumerate(plan, start=1):
            cut = prepared[..., row.start : row.stop, column.start : column.stop]
            answer = self._forward(cut, DTYPES[self.precision])
            self._add(result, answer, row, column)
            if on_progress:
                on_progress(done, len(plan))
        return result

    def _add(self, result: Tensor, answer: Tensor, row: Span, column: Span) -> None:
        """Add what the tile keeps of its answer, faded towards its neighbours."""
        kept = answer[
            ...,
            row.keep_start - row.start : row.keep_stop - row.start,
            column.keep_start - column.start : column.keep_stop - column.start,
        ]
        if not torch.isfinite(kept).all():
            raise BrokenOutput(
                f"{self.checkpoint.name} produced NaN or infinity in {self.precision}",
                hint="try --precision fp32, or other weights",
            )
        window = fade_window(row)[:, None] * fade_window(column)
        target = result[..., row.keep_start : row.keep_stop, column.keep_start : column.keep_stop]
        target.add_(kept.cpu() * window)

    def _forward(self, cut: Tensor, dtype: torch.dtype) -> Tensor:
        """The network's final output for one tile, float32."""
        low = dtype is not torch.float32
        context: AbstractContextManager[object] = (
            torch.autocast(self.device.type, dtype) if low else nullcontext()
        )
        with context:
            output = self.network(
                cut.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)
            )
        last: Tensor = output[-1] if isinstance(output, tuple) else output
        return last.float()

    def _settle_precision(self, prepared: Tensor) -> str:
        """A 16-bit type where the device is fast in it and the result stays within the gate."""
        dtype = fastest_low_precision(self.device)
        if dtype is None:
            return "fp32"
        probe = prepared[..., :LARGEST_TILE, :LARGEST_TILE]
        error = self._forward(probe, dtype) - self._forward(probe, torch.float32)
        decibel = -10 * error.square().mean().clamp(min=1e-12).log10().item()
        taken = NAMES[dtype] if decibel >= GATE else "fp32"
        logger.info("%s stands %.1f dB from float32: taking %s", NAMES[dtype], decibel, taken)
        return taken

    def _context(self) -> tuple[int, int]:
        """(overlap, blend) in pixels."""
        spec, chosen = self.spec, self.options.overlap
        if chosen == "exact":
            if spec.radius is None:
                raise UsageError(
                    f"{spec.arch} sees the whole picture, so no overlap is exact",
                    hint="use --tile off, or --overlap auto",
                )
            return spec.radius, 0
        overlap = spec.overlap if chosen == "auto" else chosen
        exact = spec.radius is not None and overlap >= spec.radius
        return overlap, 0 if exact else overlap // 2

    def _first_tile(self, height: int, width: int) -> int | None:
        """The core size to begin with; None for the whole picture at once."""
        chosen = self.options.tile
        if chosen == "off":
            return None
        if chosen != "auto":
            return chosen
        affordable = free_memory(self.device) * MEMORY_SHARE / self.spec.bytes_per_pixel
        side = int(affordable**0.5) - 2 * self._overlap
        # The wider the context, the more of it is computed twice: larger tiles pay off.
        largest = max(LARGEST_TILE, 4 * self._overlap)
        tile = max(SMALLEST_TILE, min(side, largest) // 32 * 32)
        return None if tile >= max(height, width) else tile

    def _smaller_tile(self, tile: int | None, prepared: Tensor, error: BaseException) -> int:
        side = max(prepared.shape[-2:]) if tile is None else tile
        if side <= SMALLEST_TILE:
            raise OutOfMemory(
                f"not even a tile of {side} px fits into the memory of {self.device}",
                hint="close other programs, or use --device cpu",
            ) from error
        smaller = max(SMALLEST_TILE, side // 2)
        logger.warning("out of memory on %s: going on with tiles of %d px", self.device, smaller)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return smaller


def load_restorer(task: str, options: RunOptions) -> Restorer:
    """The network for `task` with the weights that the options name, on their device.

    Raises UsageError, WeightsError, DeviceError.
    """
    spec = registry.find_for_task(task, options.model)
    checkpoint = load_checkpoint(options.weights or spec.default_weights)
    if task not in checkpoint.spec.tasks:
        raise WeightsMismatch(
            f"{checkpoint.name} is made to {' or '.join(checkpoint.spec.tasks)}, not to {task}",
            hint=f"for example --weights {spec.default_weights}",
        )
    return Restorer(checkpoint, options)


def restore(
    task: str,
    image: Tensor,
    *,
    model: str | None = None,
    weights: str | None = None,
    tile: int | Literal["auto", "off"] = "auto",
    overlap: int | Literal["auto", "exact"] = "auto",
    device: str = "auto",
) -> Tensor:
    """The restored image, (C', H', W') in [0, 1], of `image` (C, H, W) in [0, 1], C 1 or 3.

    task: denoise, derain, enhance or upscale, as far as a network for it is there.
    Computed in float32.
    """
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise UsageError(f"image has shape {tuple(image.shape)}, wanted (1 or 3, H, W)")
    options = RunOptions(model, weights, tile, overlap, device, precision="fp32")
    return load_restorer(task, options).run(image.float().cpu())
