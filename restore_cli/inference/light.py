"""Enlargement by ESPCN without torch, whose import takes longer than a small image.

onnxruntime runs the network and NumPy does the rest, as `preprocessing` and `resize` do it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from restore_cli import registry
from restore_cli.checkpoints.onnx import OnnxFile, bundled_onnx, is_installed, open_named
from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.image import Image
from restore_cli.imaging.ycbcr import OFFSET, RGB_TO_YCBCR
from restore_cli.inference.factors import may_have_gpu, photo_weights_by_scale, weights_by_scale
from restore_cli.inference.options import OnProgress, RunOptions
from restore_cli.inference.report import ImageRestorer, Report, Restored, Restoring, StepReport
from restore_cli.networks.facts import Luma

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Array = NDArray[Any]

BAND = 1 << 18  # pixels that the network sees at once, which stay in the caches
REACH = 2  # pixels to each side that the cubic kernel sees
TO_YCBCR = np.array(RGB_TO_YCBCR, np.float32)
TO_RGB = np.linalg.inv(np.array(RGB_TO_YCBCR)).astype(np.float32)
OFFSETS = np.array(OFFSET, np.float32)[:, None, None]


@dataclass(frozen=True)
class Cpu:
    """Device of an upscaler without torch; it is used as torch.device is."""

    type: str = "cpu"

    def __str__(self) -> str:
        return self.type


class LightUpscaler:
    """ESPCN as an ImageRestorer.

    load: loads the restorer of images with alpha and of giants, which need torch.
    """

    def __init__(
        self, file: OnnxFile, options: RunOptions, load: Callable[[], ImageRestorer] | None = None
    ):
        assert file.spec.facts is not None and isinstance(file.spec.facts.preprocessing, Luma)
        self.options, self.model = options, file.spec.arch
        self.device = cast("torch.device", Cpu())
        self._file, self._luma = file, file.spec.facts.preprocessing
        self._load, self._lock = load, Lock()
        self._loaded: ImageRestorer | None = None

    def __call__(self, image: Image, *, on_progress: OnProgress | None = None) -> Restored:
        """Enlarge an image. Raises OutOfMemory, BrokenOutput."""
        if image.alpha is not None:
            return self._torch_restorer()(image.as_tensors(), on_progress=on_progress)
        began = time.monotonic()
        pixels = self._enlarged(np.asarray(image.pixels), on_progress)
        step = StepReport(
            network=self.model,
            weights=self._file.name,
            sha256=self._file.weights_sha256,
            tile=None,
            precision="fp32",
            height=pixels.shape[1],
            width=pixels.shape[2],
            seconds=time.monotonic() - began,
            backend="onnx",
            without_torch=True,
        )
        return Restored(replace(image, pixels=cast("Tensor", pixels)), Report((step,)))

    def stream(
        self, image: Image, *, on_progress: OnProgress | None = None, storage: Storage = MEMORY
    ) -> Restoring:
        """Enlarge a giant band by band."""
        return self._torch_restorer().stream(image, on_progress=on_progress, storage=storage)

    def size_after(self, height: int, width: int) -> tuple[int, int]:
        """Return the (H, W) of the result of an image."""
        return height * self._luma.scale, width * self._luma.scale

    def stored_bytes(self, height: int, width: int) -> int:
        """Return the bytes in `storage` of `stream`."""
        return 0

    def _torch_restorer(self) -> ImageRestorer:
        with self._lock:
            if self._loaded is None:
                assert self._load is not None  # given wherever such an image may come
                self._loaded = self._load()
            return self._loaded

    def _enlarged(self, pixels: Array, on_progress: OnProgress | None) -> Array:
        """Enlarge pixels (C, H, W) in [0, 1] to (C, scale * H, scale * W), C 1 or 3."""
        planes = np.tensordot(TO_YCBCR, np.broadcast_to(pixels, (3, *pixels.shape[1:])), 1)
        ycbcr = (planes + OFFSETS) / 255
        luma = self._network(ycbcr[0], on_progress)
        if len(pixels) == 1:
            grey = (255 * luma - OFFSET[0]) / sum(RGB_TO_YCBCR[0])
            return np.clip(grey, 0, 1)[None]
        chroma = bicubic(ycbcr[1:], self._luma.scale)
        levels = 255 * np.concatenate([luma[None], chroma]) - OFFSETS
        return np.clip(np.tensordot(TO_RGB, levels, 1), 0, 1)

    def _network(self, luma: Array, on_progress: OnProgress | None) -> Array:
        """Run the network on (H, W) in bands with their context; return (scale * H, scale * W)."""
        border, scale = self._luma.border, self._luma.scale
        padded = np.pad(luma, border, mode="symmetric")
        height, width = luma.shape
        rows = max(1, BAND // width)
        result = np.empty((height * scale, width * scale), np.float32)
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            output = self._file.run(padded[None, None, top : bottom + 2 * border])[0, 0]
            inside = slice(border * scale, -border * scale)
            result[top * scale : bottom * scale] = output[inside, inside]
            if on_progress is not None:
                on_progress(bottom, height)
        return result


def bicubic(x: Array, scale: int) -> Array:
    """Enlarge (..., H, W), float32, as `resize_matlab` does."""
    for axis in (-2, -1):
        x = _bicubic_along(x, axis, scale)
    return x


def _bicubic_along(x: Array, axis: int, scale: int) -> Array:
    def along_axis(positions: slice) -> tuple[Any, ...]:
        return (..., positions) if axis == -1 else (..., positions, slice(None))

    size = x.shape[axis]
    widths = [(0, 0)] * x.ndim
    widths[axis] = (REACH, REACH)
    padded = np.pad(x, widths, mode="edge")
    shape = list(x.shape)
    shape[axis] *= scale
    result = np.zeros(shape, np.float32)
    for phase in range(scale):
        centre = (phase + 0.5) / scale - 0.5
        outputs = result[along_axis(slice(phase, None, scale))]
        for tap in range(math.floor(centre) - 1, math.floor(centre) + 3):
            start = REACH + tap
            outputs += _cubic(centre - tap) * padded[along_axis(slice(start, start + size))]
    return result


def _cubic(x: float) -> float:
    """Evaluate Keys' cubic kernel with a = -0.5."""
    x = abs(x)
    return (1.5 * x - 2.5) * x**2 + 1 if x <= 1 else ((-0.5 * x + 2.5) * x - 4) * x + 2


def load_light(
    options: RunOptions, factor: float | None, purpose: str, load: Callable[[], ImageRestorer]
) -> LightUpscaler | None:
    """Return the upscaler without torch where it does all that the options ask for, else None.

    factor: None where a size is wanted. purpose, load: see `load_upscaler` and LightUpscaler.
    Raises UsageError, WeightsError.
    """
    weights = _weights(options, factor, purpose)
    if weights is None or bundled_onnx(weights) is None or not is_installed():
        return None
    file = open_named(weights)
    assert file.spec.facts is not None
    is_luma = isinstance(file.spec.facts.preprocessing, Luma)
    return LightUpscaler(file, options, load) if is_luma else None


def _weights(options: RunOptions, factor: float | None, purpose: str) -> str | None:
    """Return the name of the weights of a whole factor, unless an option needs torch."""
    on_cpu = options.device == "cpu" or (options.device == "auto" and not may_have_gpu())
    plain = options.tile in ("auto", "off") and options.overlap == "auto"
    plain = plain and not (options.exact or options.ensemble)
    floats = options.precision in ("auto", "fp32")
    if (
        options.backend in ("torch", "openvino")
        or not (on_cpu and plain and floats)
        or factor is None
    ):
        return None
    spec = registry.find_for_task("upscale", options.model)
    if purpose == "photo" or (purpose == "auto" and photo_weights_by_scale(spec)):
        return None  # each image is examined
    usual = weights_by_scale(spec).get(int(factor)) if factor == int(factor) else None
    return usual if options.weights in (None, usual) else None
