"""One image through one network: preprocessing, the network in tiles, and back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from restore_cli import registry
from restore_cli.checkpoints.load import Checkpoint, is_onnx, is_path, load_checkpoint
from restore_cli.checkpoints.onnx import bundled_onnx, is_installed
from restore_cli.checkpoints.onnx_network import OnnxNetwork, load_named_onnx, load_onnx_file
from restore_cli.errors import UsageError, WeightsMismatch
from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.image import BandedImage, Image
from restore_cli.imaging.planes import Planes, new_planes
from restore_cli.imaging.resize import REACH, resize_matlab
from restore_cli.imaging.transfer import CPU, complete, home_of
from restore_cli.inference.device import free_memory, pick_device
from restore_cli.inference.noise import limit_to_noise
from restore_cli.inference.options import OnProgress, Resize, RunOptions
from restore_cli.inference.preprocessing import (
    BAND,
    Feed,
    Prepared,
    WholeFeed,
    brightness_and_grain,
    extend_border,
    feed,
)
from restore_cli.inference.rain import Rain, RainMeter
from restore_cli.inference.report import Report, Restored, Restoring, StepReport
from restore_cli.inference.runner import MEMORY_SHARE, NetworkRunner, TileRun
from restore_cli.networks.facts import Facts, FixedSize, Luma, Normalized, Stretched
from restore_cli.tasks import find_task

WORKING_BYTES = 64  # for each pixel of source and result, what is done to them included


class Restorer:
    """A network on a device, ready to restore images of any size, in any number of threads."""

    def __init__(self, checkpoint: Checkpoint, options: RunOptions, *, limited: bool = False):
        """limited: what is removed is limited to the estimated noise, as by a denoiser."""
        facts = checkpoint.spec.facts
        if facts is None:
            raise WeightsMismatch(
                f"{checkpoint.name} does not take images, so it cannot restore any"
            )
        self.checkpoint = checkpoint
        self._refuse_strength(options)
        self.facts = _resized(facts, options.resize, checkpoint.spec.arch)
        self.options = options
        self.device = pick_device(options.device)
        self._home = home_of(self.device)
        self._backend = backend_of(checkpoint, self.device)
        self.limited = limited
        self.runner = NetworkRunner(checkpoint, self.facts, options, self.device)

    @property
    def model(self) -> str:
        return self.checkpoint.spec.arch

    def with_options(self, options: RunOptions) -> Restorer:
        """Return this restorer, its network included, for options with the same `of_loading`.

        Raises UsageError.
        """
        assert options.of_loading == self.options.of_loading
        self._refuse_strength(options)
        other = copy(self)
        other.options, other.runner = options, self.runner.with_options(options)
        return other

    def _refuse_strength(self, options: RunOptions) -> None:
        facts = self.checkpoint.spec.facts
        assert facts is not None
        if facts.scale != 1 and options.strength != 1:
            raise UsageError(f"{self.checkpoint.name} enlarges, so strength has no effect")

    def __call__(self, image: Image, *, on_progress: OnProgress | None = None) -> Restored:
        """Restore an image. Raises OutOfMemory, BrokenOutput."""
        return self.stream(image, on_progress=on_progress).whole(image.device)

    def stream(
        self, image: Image, *, on_progress: OnProgress | None = None, storage: Storage = MEMORY
    ) -> Restoring:
        """Restore an image band by band, as the bands are asked for.

        storage: of the result, where a band of it depends on the others.
        """
        run = _Run(on_progress)
        image = self._placed(image)
        result = image.without_pixels(*self.size_after(image.height, image.width))
        bands = self._with_alpha(
            image, self._restored(image.visible_colours().planes, run, storage)
        )
        return Restoring(result, bands, lambda: Report((self._step(result, run),)))

    def _placed(self, image: Image) -> Image:
        """Return the image on the device, if it has room; else its rows go there band by band."""
        if isinstance(image, BandedImage):
            return image
        if self._home == CPU:
            return image.to(CPU)
        both = image.height * image.width * (1 + self.facts.scale**2)  # source and result
        fits = both * WORKING_BYTES <= free_memory(self._home) * MEMORY_SHARE
        return image.to(self._home if fits else CPU)

    def size_after(self, height: int, width: int) -> tuple[int, int]:
        """Return the (H, W) of the result of an image."""
        return height * self.facts.scale, width * self.facts.scale

    def stored_bytes(self, height: int, width: int) -> int:
        """Return the bytes in `storage` of `stream`, of an image with colours."""
        return height * width * 12 if self.limited or self.facts.tiling == "never" else 0

    def run(self, pixels: Tensor, *, on_progress: OnProgress | None = None) -> Tensor:
        """(C, H, W) in [0, 1] -> (C, scale * H, scale * W) in [0, 1], float32, where it was."""
        return self(Image(pixels), on_progress=on_progress).image.pixels

    @property
    def luma_alone(self) -> bool:
        """True if the network sees luma alone."""
        return isinstance(self.facts.preprocessing, Luma)

    @torch.inference_mode()
    def run_luma(self, luma: Tensor) -> tuple[Tensor, Report]:
        """(1, H, W) -> (1, scale * H, scale * W), not clamped: luma as `rgb_to_ycbcr` has it.

        For a network that sees nothing else: see `luma_alone`.
        """
        assert isinstance(self.facts.preprocessing, Luma)
        run = _Run(None)
        padded, crop = extend_border(luma[None].to(self._home), self.facts.preprocessing)
        bands = [band for _, band in self.runner.output(Prepared(padded), run)]
        result = crop(torch.cat(bands, dim=-2))[0]
        complete(result)
        result = result.to(luma.device)
        return result, Report((self._step(Image(result), run),))

    @torch.inference_mode()
    def _with_alpha(self, image: Image, bands: Iterator[Tensor]) -> Iterator[Image]:
        """Yield the restored bands with alpha, and with the hidden colours of the image."""
        bottom, scale = 0, self.facts.scale
        for pixels in bands:
            top, bottom = bottom, bottom + pixels.shape[-2]
            if scale == 1:
                own = image.rows(top, bottom).to(pixels.device)
                yield own.with_pixels(own.keep_hidden_colours(pixels))
            else:
                alpha = _enlarged_alpha(image, scale, top, bottom)
                yield Image(pixels, None if alpha is None else alpha.to(pixels.device))

    @torch.inference_mode()
    def _restored(self, planes: Planes, run: _Run, storage: Storage) -> Iterator[Tensor]:
        """Yield the restored pixels band by band."""
        source = feed(self.facts, planes, storage, self._home)
        bands = self._clamped(source, run)
        if self.limited:
            bands = self._limited_to_noise(planes, bands, run, storage)
        if "derain" in self.checkpoint.spec.tasks and self.facts.scale == 1:
            bands = _measured_rain(planes, bands, run)
        bottom, strength = 0, self.options.strength
        for band in bands:
            top, bottom = bottom, bottom + band.shape[-2]
            if strength != 1:
                band = torch.lerp(planes.read(top, bottom).to(band.device), band, strength)
            yield band
            planes.release()
        if isinstance(source, WholeFeed):
            run.brightness, run.grain = brightness_and_grain(
                self.facts.preprocessing, planes, source.blended(planes, strength)
            )

    def _clamped(self, source: Feed, run: _Run) -> Iterator[Tensor]:
        for top, output in self.runner.output(source, run):
            for band in source.undo(output, top):
                yield band.clamp_(0, 1)

    def _limited_to_noise(
        self, planes: Planes, bands: Iterator[Tensor], run: _Run, storage: Storage
    ) -> Iterator[Tensor]:
        """Keep what the network took away beyond the noise, once all bands are known."""
        denoised = new_planes(storage, planes.shape, planes.device)
        bottom = 0
        for band in bands:
            top, bottom = bottom, bottom + band.shape[-2]
            denoised[:, top:bottom] = band
            planes.release()
        run.noise_sigma = limit_to_noise(planes, denoised, self.options.noise_limit)
        yield from torch.split(denoised, max(1, BAND // planes.width), dim=1)

    def _step(self, result: Image, run: _Run) -> StepReport:
        return StepReport(
            network=self.model,
            weights=self.checkpoint.name,
            sha256=self.checkpoint.sha256,
            tile=run.tile,
            precision=run.precision,
            height=result.height,
            width=result.width,
            seconds=time.monotonic() - run.began,
            backend=self._backend,
            noise_sigma=run.noise_sigma,
            brightness=run.brightness,
            grain=run.grain,
            rain=run.rain,
        )


def _resized(facts: Facts, resize: Resize, arch: str) -> Facts:
    """Return the facts of a network of one size for another way of resizing.

    Raises UsageError for a network that takes any size.
    """
    if resize == "detail":
        return facts
    way = facts.preprocessing
    if not isinstance(way, FixedSize):
        raise UsageError(
            f"{arch} works at any size, so --resize has no effect",
            hint="leave --resize out",
        )
    resized = Stretched(way.height, way.width) if resize == "fit" else Normalized()
    return replace(facts, preprocessing=resized)


@dataclass
class _Run(TileRun):
    """State of one image on its way through the restorer."""

    began: float = field(default_factory=time.monotonic)
    noise_sigma: float | None = None
    brightness: float | None = None
    grain: float | None = None
    rain: Rain | None = None


def _measured_rain(planes: Planes, bands: Iterator[Tensor], run: _Run) -> Iterator[Tensor]:
    """Yield the bands, and measure the rain that each has lost."""
    meter, bottom = RainMeter(), 0
    for band in bands:
        top, bottom = bottom, bottom + band.shape[-2]
        meter.add(planes.read(top, bottom).to(band.device), band)
        yield band
    run.rain = meter.rain()


def _enlarged_alpha(image: Image, scale: int, top: int, bottom: int) -> Tensor | None:
    """Return the rows of the enlarged alpha of an image."""
    if image.alpha is None:
        return None
    low = max(0, top // scale - REACH)
    alpha = image.rows(low, min(image.height, -(-bottom // scale) + REACH)).alpha
    assert alpha is not None
    height, width = (side * scale for side in alpha.shape[-2:])
    wide = resize_matlab(alpha, height, width).clamp_(0, 1)
    return wide[:, top - low * scale : bottom - low * scale]


def load_network(weights: str, options: RunOptions) -> Checkpoint:
    """Load weights for the backend of the options. Raises UsageError, WeightsError, DeviceError.

    "auto" is onnxruntime, if it is installed, for weights with an ONNX file, on a CPU in float32.
    """
    backend, is_file = options.backend, is_path(weights)
    if is_onnx(weights):
        if backend == "torch":
            raise UsageError(
                f"{weights} is not a PyTorch file", hint="use the weights that it was exported from"
            )
        path = Path(weights).expanduser()
        return load_onnx_file(path, "openvino" if backend == "openvino" else "onnx")
    if backend in ("onnx", "openvino"):
        if is_file:
            raise UsageError(
                f"{weights} is not an ONNX file",
                hint=f"make one: restore export {weights} -o FILE.onnx, then --weights FILE.onnx",
            )
        return load_named_onnx(weights, backend)
    if backend == "auto" and options.precision in ("auto", "fp32") and not is_file:
        there = bundled_onnx(weights) is not None and is_installed()
        if there and pick_device(options.device).type == "cpu":
            return load_named_onnx(weights)
    return load_checkpoint(weights)


def backend_of(
    checkpoint: Checkpoint, device: torch.device
) -> Literal["torch", "onnx", "openvino"]:
    """Return the backend of a network. Raises UsageError for ONNX on another device than a CPU."""
    if not isinstance(checkpoint.module, OnnxNetwork):
        return "torch"
    if device.type != "cpu":
        raise UsageError("ONNX files run on the CPU", hint="add --device cpu")
    return checkpoint.module.runtime


def load_restorer(task: str, options: RunOptions) -> Restorer:
    """Load the network for `task` with the weights and on the device of the options.

    Raises UsageError, WeightsError, DeviceError.
    """
    row = find_task(task)
    usual = ""
    if row.network or options.model or options.weights is None:
        usual = registry.find_for_task(task, options.model).weights[row.name]
    checkpoint = load_network(options.weights or usual, options)
    spec = checkpoint.spec
    if task not in spec.tasks:
        raise WeightsMismatch(
            f"{checkpoint.name} is trained to {' or '.join(spec.tasks)}, not to {task}",
            hint=f"for example --weights {usual}" if usual else None,
        )
    # A community model may be trained for more than noise: only a given limit applies to it.
    checkpoint = replace(checkpoint, spec=replace(spec, tasks=(task,)))
    limits = spec.arch in registry.MODELS or not isinstance(options.noise_limit, str)
    return Restorer(checkpoint, options, limited=task == "denoise" and limits)
