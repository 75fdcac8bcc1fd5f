"""The way that an image once went, gone again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from restore_cli.checkpoints.load import Checkpoint
from restore_cli.imaging.image import Image
from restore_cli.inference.report import Report, Restored, StepReport
from restore_cli.inference.restorer import OnProgress, Precision, Restorer, RunOptions
from restore_cli.inference.upscaler import resized, share


class Retraced:
    """Networks one after the other, each with the tiles and the precision of that time.

    options: what else was chosen. Raises UsageError, WeightsError, DeviceError.
    """

    def __init__(self, way: Sequence[tuple[StepReport, Checkpoint]], options: RunOptions):
        self.options = options
        self.report = Report(tuple(used for used, _ in way))
        self._stages = [
            Restorer(checkpoint, _as_then(used, options), limited=_was_limited(used, options))
            for used, checkpoint in way
        ]
        self.device = self._stages[0].device

    def __call__(self, image: Image, *, on_progress: OnProgress | None = None) -> Restored:
        """Restore an image; the report is that of then. Raises OutOfMemory, BrokenOutput."""
        count = len(self._stages)
        for index, (stage, step) in enumerate(zip(self._stages, self.report.steps, strict=True)):
            image = stage(image, on_progress=share(on_progress, index, count)).image
            image = resized(image, step.height, step.width)
        return Restored(image, self.report)


def _as_then(used: StepReport, options: RunOptions) -> RunOptions:
    precision = cast("Precision", used.precision)
    return replace(options, tile=used.tile or "off", precision=precision)


def _was_limited(used: StepReport, options: RunOptions) -> bool:
    """Tell whether it was a denoiser's; a sigma is only given to one, however small its image."""
    return used.noise_sigma is not None or not isinstance(options.noise_limit, str)
