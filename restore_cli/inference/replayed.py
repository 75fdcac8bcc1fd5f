"""Replay of the networks of a restored file, as its record describes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from restore_cli.checkpoints.load import Checkpoint
from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.image import Image
from restore_cli.inference.device import low_precisions, pick_device
from restore_cli.inference.options import OnProgress, Precision, RunOptions
from restore_cli.inference.report import Report, Restored, Restoring, StepReport
from restore_cli.inference.restorer import Restorer
from restore_cli.inference.upscaler import STORED_BYTES, resized, run_stages, stored_bytes_of


class ReplayChain:
    """Networks one after the other, each with the tiles and the precision of its report.

    options: all other settings. Raises UsageError, WeightsError, DeviceError.
    """

    def __init__(self, steps: Sequence[tuple[StepReport, Checkpoint]], options: RunOptions):
        self.options = options
        self.report = Report(tuple(step for step, _ in steps))
        self._stages = [_Recorded(step, checkpoint, options) for step, checkpoint in steps]
        self.model, self.device = self.report.model, self._stages[0].restorer.device

    def __call__(self, image: Image, *, on_progress: OnProgress | None = None) -> Restored:
        """Restore an image; the report is the recorded one. Raises OutOfMemory, BrokenOutput."""
        return self.stream(image, on_progress=on_progress).whole(image.device)

    def stream(
        self, image: Image, *, on_progress: OnProgress | None = None, storage: Storage = MEMORY
    ) -> Restoring:
        """Restore an image band by band; storage: of the image between two networks."""
        restoring = run_stages(self._stages, image, on_progress, storage)
        return replace(restoring, report=lambda: self.report)

    def size_after(self, height: int, width: int) -> tuple[int, int]:
        """Return the recorded (H, W) of the result."""
        return self.report.height, self.report.width

    def stored_bytes(self, height: int, width: int) -> int:
        """Return the bytes in `storage` of `stream`, of an image with colours and alpha."""
        return stored_bytes_of(self._stages, height, width)


class _Recorded:
    """A network whose result has the size of its report."""

    def __init__(self, step: StepReport, checkpoint: Checkpoint, options: RunOptions):
        limited = _was_limited(step, options)
        self.restorer = Restorer(checkpoint, _options_for(step, options), limited=limited)
        self._size = step.height, step.width

    def stream(
        self, image: Image, *, on_progress: OnProgress | None = None, storage: Storage = MEMORY
    ) -> Restoring:
        restoring = self.restorer.stream(image, on_progress=on_progress, storage=storage)
        return resized(restoring, *self._size, storage)

    def size_after(self, height: int, width: int) -> tuple[int, int]:
        return self._size

    def stored_bytes(self, height: int, width: int) -> int:
        size = self.restorer.size_after(height, width)
        before_resizing = 0 if size == self._size else STORED_BYTES * size[0] * size[1]
        return self.restorer.stored_bytes(height, width) + before_resizing


def _options_for(step: StepReport, options: RunOptions) -> RunOptions:
    precision = cast("Precision", step.precision)
    if precision == "tf32" and "tf32" not in low_precisions(pick_device(options.device)):
        precision = "fp32"  # which TF32 approximates
    return replace(options, tile=step.tile or "off", precision=precision)


def _was_limited(step: StepReport, options: RunOptions) -> bool:
    """Tell whether the network was a denoiser, whose change was limited to the noise.

    A sigma is given to a denoiser alone; a small image has no estimate.
    """
    return step.noise_sigma is not None or not isinstance(options.noise_limit, str)
