"""Restorers one after the other, with floats between them: nothing is rounded to 8 bit on the way.

All networks are in memory from the beginning. Beside the source, an image takes what its hungriest
step takes: the step's input and its result in float32, and the working memory of its tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from restore_cli.imaging.image import Image
from restore_cli.inference.restorer import (
    OnProgress,
    Restorer,
    RunOptions,
    StepReport,
    load_restorer,
)
from restore_cli.inference.upscaler import Target, Upscaler, load_upscaler, share


@dataclass(frozen=True)
class Step:
    """One thing that is done to an image; None: what the task does by itself."""

    task: str
    scale: float | None = None  # of upscale only
    model: str | None = None
    weights: str | None = None


class Chain:
    """Several restorers as one. `used` has the networks that ran for the last image."""

    def __init__(self, stages: Sequence[Restorer | Upscaler], options: RunOptions):
        self.options = options
        self.device = stages[0].device
        self._stages = tuple(stages)

    @property
    def model(self) -> str:
        return "+".join(stage.model for stage in self._stages)

    @property
    def used(self) -> tuple[StepReport, ...]:
        return tuple(used for stage in self._stages for used in stage.used)

    def __call__(self, image: Image, *, on_progress: OnProgress | None = None) -> Image:
        """The restored image. Raises OutOfMemory, BrokenOutput."""
        for index, stage in enumerate(self._stages):
            image = stage(image, on_progress=share(on_progress, index, len(self._stages)))
        return image


def load_chain(steps: Sequence[Step], options: RunOptions) -> Chain:
    """The networks for the steps; model and weights of `options` do not count.

    Raises UsageError, WeightsError, DeviceError.
    """
    return Chain([_load(step, options) for step in steps], options)


def _load(step: Step, options: RunOptions) -> Restorer | Upscaler:
    own = replace(options, model=step.model, weights=step.weights)
    if step.task != "upscale":
        return load_restorer(step.task, own)
    return load_upscaler(own, Target(step.scale))
