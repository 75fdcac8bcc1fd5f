"""Restored images, and the report on how they were made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.image import Image
from restore_cli.imaging.planes import new_planes
from restore_cli.inference.options import OnProgress, RunOptions

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from restore_cli.inference.rain import Rain

Value = TypeVar("Value")


@dataclass(frozen=True)
class StepReport:
    """One network as it ran on one image."""

    network: str
    weights: str
    sha256: str | None  # of the weight file; None: a pipeline of many files
    tile: int | None  # side in pixels; None: the whole image at once
    precision: str
    height: int  # of the output
    width: int
    seconds: float
    backend: Literal["torch", "onnx", "openvino"] = "torch"
    without_torch: bool = False  # in all that was computed around the network, too
    noise_sigma: float | None = None  # estimated, of a range of 1; None: not estimated
    brightness: float | None = None  # mean of the input, where the result depends on it
    grain: float | None = None  # noise sigma of the brightened output, of a range of 1
    rain: Rain | None = None  # removed, where it was measured


@dataclass(frozen=True)
class Report:
    """The networks that an image went through, in their order."""

    steps: tuple[StepReport, ...]

    @property
    def model(self) -> str:
        return _joined(dict.fromkeys(step.network for step in self.steps))

    @property
    def weights(self) -> str:
        return _joined(step.weights for step in self.steps)

    @property
    def sha256(self) -> str | None:
        return _joined(step.sha256 for step in self.steps if step.sha256 is not None) or None

    @property
    def precision(self) -> str:
        return _joined(dict.fromkeys(step.precision for step in self.steps))

    @property
    def backend(self) -> str:
        return _joined(dict.fromkeys(step.backend for step in self.steps))

    @property
    def tile(self) -> int | None:
        """The smallest tile; None where every network took the whole image."""
        return min((step.tile for step in self.steps if step.tile is not None), default=None)

    @property
    def height(self) -> int:
        return self.steps[-1].height

    @property
    def width(self) -> int:
        return self.steps[-1].width

    @property
    def noise_sigma(self) -> float | None:
        return self._first(lambda step: step.noise_sigma)

    @property
    def brightness(self) -> float | None:
        return self._first(lambda step: step.brightness)

    @property
    def grain(self) -> float | None:
        return self._first(lambda step: step.grain)

    @property
    def rain(self) -> Rain | None:
        return self._first(lambda step: step.rain)

    def _first(self, measured: Callable[[StepReport], Value | None]) -> Value | None:
        """Return the value of the first step that has one."""
        values = map(measured, self.steps)
        return next((value for value in values if value is not None), None)


@dataclass(frozen=True)
class Restored:
    """An image out of one or several networks."""

    image: Image
    report: Report


@dataclass(frozen=True)
class Restoring:
    """An image on its way out of one or several networks, band by band from top to bottom."""

    image: Image  # of the size of the result, without pixels
    bands: Iterator[Image]
    report: Callable[[], Report]  # once the last band has come

    def whole(self, device: torch.device | None = None) -> Restored:
        """Return the image in the memory of a device, by default in main memory."""
        from restore_cli.imaging.transfer import CPU, complete

        first = next(self.bands)
        if first.height == self.image.height:
            pixels, alpha, report = first.pixels, first.alpha, self._end()
        else:
            pixels, alpha = self._filled(chain((first,), self.bands), MEMORY)
            report = self.report()
        complete(pixels)
        return Restored(replace(self.image, pixels=pixels, alpha=alpha).to(device or CPU), report)

    def completed(self) -> Iterator[Image]:
        """Yield the bands, each of them once the device has done with it."""
        from restore_cli.imaging.transfer import complete

        for band in self.bands:
            complete(band.pixels)
            yield band

    def stored(self, storage: Storage) -> Image:
        """Return the image in a storage, from which it is read by rows."""
        pixels, alpha = self._filled(self.bands, storage)
        image = replace(self.image, pixels=pixels, alpha=alpha)
        return self.image.banded(image.rows, storage.release)

    def _filled(self, bands: Iterable[Image], storage: Storage) -> tuple[Tensor, Tensor | None]:
        """Return the pixels and the alpha of bands, in a storage."""
        import torch

        colours, height, width = self.image.pixels.shape
        channels = colours + (self.image.alpha is not None)
        planes, bottom = torch.empty(0), 0
        for band in bands:
            if not bottom:
                planes = new_planes(storage, (channels, height, width), band.device)
            top, bottom = bottom, bottom + band.height
            planes[:colours, top:bottom] = band.pixels
            if band.alpha is not None:
                planes[colours:, top:bottom] = band.alpha
            storage.release()
        return planes[:colours], planes[colours:] if channels > colours else None

    def _end(self) -> Report:
        """Let the last step finish, and return the report."""
        further = next(self.bands, None)
        assert further is None
        return self.report()


class Stage(Protocol):
    """A restorer, several as one, or one of them."""

    def stream(
        self, image: Image, *, on_progress: OnProgress | None = None, storage: Storage = MEMORY
    ) -> Restoring:
        """Restore an image band by band; storage: of an image that is needed as a whole."""

    def size_after(self, height: int, width: int) -> tuple[int, int]:
        """Return the (H, W) of the result of an image."""

    def stored_bytes(self, height: int, width: int) -> int:
        """Return the bytes in `storage` of `stream`."""


class ImageRestorer(Stage, Protocol):
    """One network or several, loaded for any number of images: Restorer, Upscaler or Chain."""

    options: RunOptions
    device: torch.device

    @property
    def model(self) -> str: ...

    def __call__(self, image: Image, *, on_progress: OnProgress | None = None) -> Restored: ...


def _joined(names: Iterable[str]) -> str:
    return "+".join(names)
