"""Replay of the networks of a restored file, as its record describes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from restore_cli.checkpoints.load import Checkpoint
from restore_cli.imaging.image import Image
from restore_cli.inference.report import Report, Restored, StepReport
from restore_cli.inference.restorer import OnProgress, Precision, Restorer, RunOptions
from restore_cli.inference.upscaler import resized, share


class ReplayChain:
    """Networks one after the other, each with the tiles and the precision of its report.

    options: all other settings. Raises UsageError, WeightsError, DeviceError.
    """

    def __init__(self, steps: Sequence[tuple[StepReport, Checkpoint]], options: RunOptions):
        self.options = options
        self.report = Report(tuple(step for step, _ in steps))
        self._stages = [
            Restorer(checkpoint, _options_for(step, options), limited=_was_limited(step, options))
            for step, checkpoint in steps
        ]
        self.device = self._stages[0].device

    def __call__(self, image: Image, *, on_progress: OnProgress | None = None) -> Restored:
        """Restore an image; the report is the recorded one. Raises OutOfMemory, BrokenOutput."""
        count = len(self._stages)
        for index, (stage, step) in enumerate(zip(self._stages, self.report.steps, strict=True)):
            image = stage(image, on_progress=share(on_progress, index, count)).image
            image = resized(image, step.height, step.width)
        return Restored(image, self.report)


def _options_for(step: StepReport, options: RunOptions) -> RunOptions:
    precision = cast("Precision", step.precision)
    return replace(options, tile=step.tile or "off", precision=precision)


def _was_limited(step: StepReport, options: RunOptions) -> bool:
    """Tell whether the network was a denoiser, whose change was limited to the noise.

    A sigma is given to a denoiser alone; a small image has no estimate.
    """
    return step.noise_sigma is not None or not isinstance(options.noise_limit, str)
