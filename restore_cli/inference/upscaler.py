"""Enlargement to any size by networks of a few whole factors.

The next larger network runs and its result is reduced by antialiased bicubic: x2.5 is x3 reduced.
Beyond the largest factor, networks run in sequence (`repeat`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from threading import Lock
from typing import Literal

from torch import Tensor

from restore_cli import registry
from restore_cli.errors import InputError, UsageError, WeightsMissing
from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.codecs.jpeg import has_jpeg_traces
from restore_cli.imaging.image import Image
from restore_cli.imaging.planes import Planes
from restore_cli.imaging.resize import resize_matlab, resized_rows
from restore_cli.imaging.transfer import complete
from restore_cli.inference.factors import (
    LARGEST,
    Repetition,
    factors_of,
    photo_weights_by_scale,
    scale_of,
    weights_by_scale,
)
from restore_cli.inference.options import ImageSize, OnProgress, RunOptions
from restore_cli.inference.report import Report, Restored, Restoring, Stage, StepReport
from restore_cli.inference.restorer import Restorer, load_network

# Weights for damaged photographs, for clean images, or either by what is found in each image.
Purpose = Literal["auto", "photo", "clean"]


@dataclass(frozen=True)
class Target:
    """Requested size of an image: a factor, or exactly a size."""

    scale: float | None = None
    size: ImageSize | None = None
    repeat: Repetition = False

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Return the (H, W) of the output. Raises InputError for an image that is larger."""
        if self.size is None:
            assert self.scale is not None  # one of both is given
            return round(height * self.scale), round(width * self.scale)
        wanted = self.size.of(height, width)
        if wanted[0] < height or wanted[1] < width:
            raise InputError(
                f"the image is {width}x{height}, larger than the wanted {self.size}",
                hint="restore upscale does not reduce images",
            )
        return wanted


STORED_BYTES = 16  # of a pixel between two networks: RGB and alpha in float32


class Upscaler:
    """Networks of several factors as one restorer that reaches any size.

    weights: by their factor. photo: the same for images with JPEG artefacts; the factors that they
    do not reach are left to `weights`.
    """

    def __init__(
        self,
        weights: Mapping[int, str],
        options: RunOptions,
        target: Target,
        photo: Mapping[int, str] | None = None,
    ):
        self.options, self.target = options, target
        self._weights = weights
        self._photo = photo or {}
        self._loaded: dict[str, Restorer] = {}
        self._lock = Lock()  # of the dictionary
        if target.scale is not None:
            first = self._restorer(self._chain(target.scale)[-1])
        else:
            first = self._restorer(weights[min(weights)])
        self.model, self.device = first.model, first.device  # all weights are of one network

    def with_options(self, options: RunOptions) -> Upscaler:
        """Return this upscaler, its networks included, for options with the same `of_loading`."""
        other = copy(self)
        other.options, other._lock = options, Lock()
        with self._lock:
            other._loaded = {
                weights: restorer.with_options(options)
                for weights, restorer in self._loaded.items()
            }
        return other

    def __call__(self, image: Image, *, on_progress: OnProgress | None = None) -> Restored:
        """Enlarge an image. Raises InputError, UsageError, OutOfMemory, BrokenOutput."""
        return self.stream(image, on_progress=on_progress).whole(image.device)

    def stream(
        self, image: Image, *, on_progress: OnProgress | None = None, storage: Storage = MEMORY
    ) -> Restoring:
        """Enlarge an image band by band; storage: of the image between two networks."""
        height, width = self.size_after(image.height, image.width)
        chain = self._chain(max(height / image.height, width / image.width), image)
        stages = [self._restorer(weights) for weights in chain]
        return resized(run_stages(stages, image, on_progress, storage), height, width, storage)

    def size_after(self, height: int, width: int) -> tuple[int, int]:
        """Return the (H, W) of the result of an image. Raises InputError."""
        return self.target.of(height, width)

    def stored_bytes(self, height: int, width: int) -> int:
        """Return the bytes in `storage` of `stream`, of an image with colours and alpha."""
        rows, columns = self.size_after(height, width)
        chain = self._chain(max(rows / height, columns / width))
        stages = [self._restorer(weights) for weights in chain]
        between = stored_bytes_of(stages, height, width)
        for stage in stages:
            height, width = stage.size_after(height, width)
        return between + (
            0 if (height, width) == (rows, columns) else height * width * STORED_BYTES
        )

    def run(self, pixels: Tensor) -> Tensor:
        """Enlarge pixels (C, H, W) in [0, 1]."""
        return self(Image(pixels)).image.pixels

    @property
    def luma_alone(self) -> bool:
        """Return True if every network that may run sees luma alone."""
        scale = self.target.scale
        chain = self._weights.values() if scale is None else self._chain(scale)
        return not self._photo and all(self._restorer(weights).luma_alone for weights in chain)

    def run_luma(self, luma: Tensor) -> tuple[Tensor, Report]:
        """Enlarge luma alone, (1, H, W); see Restorer.run_luma. Raises as `__call__` does."""
        height, width = self.target.of(*luma.shape[-2:])
        steps: list[StepReport] = []
        for weights in self._chain(max(height / luma.shape[-2], width / luma.shape[-1])):
            luma, report = self._restorer(weights).run_luma(luma)
            steps += report.steps
        result = resize_matlab(luma, height, width)
        complete(result)
        return result, _reaching(steps, height, width)

    def _chain(self, factor: float, image: Image | None = None) -> tuple[str, ...]:
        """Return the weights that run in sequence; image: examined for JPEG artefacts, if given."""
        repeat = self.target.repeat
        photo = factors_of(factor, list(self._photo), repeat=repeat)
        if photo and image is not None and has_jpeg_traces(image):
            return tuple(self._photo[scale] for scale in photo)
        chain = factors_of(factor, list(self._weights), repeat=repeat)
        if not chain:
            raise _out_of_reach(factor, list(self._weights), repeat)
        return tuple(self._weights[scale] for scale in chain)

    def _restorer(self, weights: str) -> Restorer:
        with self._lock:
            if weights not in self._loaded:
                self._loaded[weights] = Restorer(load_network(weights, self.options), self.options)
            return self._loaded[weights]


def load_upscaler(options: RunOptions, target: Target, purpose: Purpose = "clean") -> Upscaler:
    """Load the networks that enlarge to `target`: weights of the options, or all that exist.

    purpose: where no weights are named, which there are. Raises UsageError, WeightsError,
    DeviceError.
    """
    spec = registry.find_for_task("upscale", options.model)
    photo: Mapping[int, str] = {}
    if options.weights is not None:
        weights: Mapping[int, str] = {scale_of(options.weights): options.weights}
    elif purpose == "photo":
        weights = photo_weights_by_scale(spec)
        if not weights:
            raise WeightsMissing(
                f"there are no weights of {spec.arch} for photographs",
                hint="use --for clean, or import your own weights: "
                f"restore weights import FILE --as {spec.arch}.real_x2",
            )
    else:
        weights = weights_by_scale(spec)
        photo = photo_weights_by_scale(spec) if purpose == "auto" else {}
    if not weights:
        raise WeightsMissing(
            f"no weights are bundled for {spec.arch}",
            hint="import your own weights: restore weights import FILE",
        )
    return Upscaler(weights, options, target, photo)


def _reaching(steps: Sequence[StepReport], height: int, width: int) -> Report:
    """Return the report of an image whose last step ends at a size."""
    return Report((*steps[:-1], replace(steps[-1], height=height, width=width)))


def _out_of_reach(factor: float, scales: Sequence[int], repeat: Repetition) -> UsageError:
    available = ", ".join(f"x{scale}" for scale in sorted(scales))
    repeated = factors_of(factor, scales, repeat=True)
    if repeated and repeat is False:
        order = " after ".join(f"x{scale}" for scale in repeated)
        steps = ",".join(f"upscale:{scale}" for scale in repeated)
        hint = f"{order} reaches it: upscale --repeat, or run --steps {steps}"
    else:
        hint = f"at most x{LARGEST}"
    return UsageError(f"no weights enlarge x{factor:g}: there are {available}", hint=hint)


def progress_of_stage(on_progress: OnProgress | None, index: int, count: int) -> OnProgress | None:
    """Return the progress callback of network `index` of `count`."""
    if on_progress is None:
        return None
    return lambda done, total: on_progress(index * total + done, count * total)


def run_stages(
    stages: Sequence[Stage], image: Image, on_progress: OnProgress | None, storage: Storage
) -> Restoring:
    """Restore an image by several stages in sequence; between two it is in `storage`."""
    reports: list[Callable[[], Report]] = []

    def bands() -> Iterator[Image]:
        current = image
        for index, stage in enumerate(stages):
            step = stage.stream(
                current,
                on_progress=progress_of_stage(on_progress, index, len(stages)),
                storage=storage,
            )
            reports.append(step.report)
            if index == len(stages) - 1:
                yield from step.bands
            else:
                current = step.stored(storage)

    height, width = image.height, image.width
    for stage in stages:
        height, width = stage.size_after(height, width)
    return Restoring(
        image.without_pixels(height, width),
        bands(),
        lambda: Report(tuple(step for report in reports for step in report().steps)),
    )


def stored_bytes_of(stages: Sequence[Stage], height: int, width: int) -> int:
    """Return the bytes in `storage` of `run_stages`."""
    total = 0
    for index, stage in enumerate(stages):
        total += stage.stored_bytes(height, width)
        height, width = stage.size_after(height, width)
        total += height * width * STORED_BYTES if index < len(stages) - 1 else 0
    return total


def resized(step: Restoring, height: int, width: int, storage: Storage) -> Restoring:
    """Resize the output of a step by bicubic, alpha too, unless it has that size."""
    if (step.image.height, step.image.width) == (height, width):
        return step

    def bands() -> Iterator[Image]:
        image = step.stored(storage)
        colours = len(image.pixels)
        shape = (colours + (image.alpha is not None), image.height, image.width)
        planes = Planes(shape, lambda top, bottom: image.rows(top, bottom).all_planes())
        for band in resized_rows(planes, height, width):
            band.clamp_(0, 1)
            yield Image(band[:colours], None if image.alpha is None else band[colours:])

    def report() -> Report:
        *first, last = step.report().steps
        return Report((*first, replace(last, height=height, width=width)))

    return Restoring(step.image.without_pixels(height, width), bands(), report)
