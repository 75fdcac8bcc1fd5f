"""Restorers in sequence, with floats between them: nothing is rounded to 8 bit on the way.

All networks are in memory from the beginning. Beside the source, an image takes the memory of its
largest step: the step's input and result in float32, and the working memory of its tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.image import Image
from restore_cli.inference.options import OnProgress, RunOptions
from restore_cli.inference.report import Restored, Restoring
from restore_cli.inference.restorer import Restorer, load_restorer
from restore_cli.inference.upscaler import (
    Target,
    Upscaler,
    load_upscaler,
    run_stages,
    stored_bytes_of,
)


@dataclass(frozen=True)
class Step:
    """One step of a chain; None: the default of its task."""

    task: str
    scale: float | None = None  # of upscale only
    model: str | None = None
    weights: str | None = None


class Chain:
    """Several restorers as one."""

    def __init__(self, stages: Sequence[Restorer | Upscaler], options: RunOptions):
        self.options = options
        self.device = stages[0].device
        self._stages = tuple(stages)

    @property
    def model(self) -> str:
        return "+".join(stage.model for stage in self._stages)

    def __call__(self, image: Image, *, on_progress: OnProgress | None = None) -> Restored:
        """Restore an image in all steps. Raises OutOfMemory, BrokenOutput."""
        return self.stream(image, on_progress=on_progress).whole(image.device)

    def stream(
        self, image: Image, *, on_progress: OnProgress | None = None, storage: Storage = MEMORY
    ) -> Restoring:
        """Restore an image band by band; storage: of the image between two steps."""
        return run_stages(self._stages, image, on_progress, storage)

    def size_after(self, height: int, width: int) -> tuple[int, int]:
        """Return the (H, W) of the result of an image."""
        for stage in self._stages:
            height, width = stage.size_after(height, width)
        return height, width

    def stored_bytes(self, height: int, width: int) -> int:
        """Return the bytes in `storage` of `stream`, of an image with colours and alpha."""
        return stored_bytes_of(self._stages, height, width)


def load_chain(steps: Sequence[Step], options: RunOptions) -> Chain:
    """Load the networks of the steps; model and weights of `options` do not count.

    Raises UsageError, WeightsError, DeviceError.
    """
    return Chain([_load(step, options) for step in steps], options)


def _load(step: Step, options: RunOptions) -> Restorer | Upscaler:
    options = replace(options, model=step.model, weights=step.weights)
    if step.task != "upscale":
        return load_restorer(step.task, options)
    return load_upscaler(options, Target(step.scale))
