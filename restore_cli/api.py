"""The Python interface: restore images of any kind, read them and write them.

`import restore_cli` offers these functions; docs/python.md describes them.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args, overload

import torch
from torch import Tensor

from restore_cli.errors import UsageError
from restore_cli.imaging import io
from restore_cli.imaging.convert import Kind, to_image
from restore_cli.imaging.image import Image
from restore_cli.inference import restorer as inference
from restore_cli.inference.factors import usual_network
from restore_cli.inference.options import NoiseLimit, Precision, RunOptions
from restore_cli.inference.report import ImageRestorer
from restore_cli.inference.upscaler import Target, load_upscaler
from restore_cli.memory import enough_memory
from restore_cli.tasks import find_task
from restore_cli.worker import Pending, Worker

if TYPE_CHECKING:
    from typing_extensions import Unpack

FilePath = str | os.PathLike[str]
Tile = int | Literal["auto", "off", "exact"]
Overlap = int | Literal["auto", "exact"]

AHEAD = 2  # images of a batch that are read and restored before they are asked for


class RestoreOptions(TypedDict, total=False):
    """The keywords of `load_restorer`, which describes them."""

    model: str | None
    weights: FilePath | None
    scale: float | None
    device: str
    precision: Precision
    tile: Tile
    overlap: Overlap
    ensemble: bool
    strength: float
    noise_limit: NoiseLimit


def read_image(path: FilePath) -> Image:
    """Read an image file, upright, with its alpha, ICC profile and EXIF.

    Raises InputError.
    """
    return io.read(Path(path))


def write_image(
    image: Image, path: FilePath, *, quality: int | None = None, overwrite: bool = False
) -> None:
    """Write an image file in the format of its suffix. Missing folders are created.

    quality: 1 to 100 for JPEG (default 95) and WebP (default lossless).
    Raises UsageError, OutputError; OutputExists unless `overwrite`.
    """
    if not isinstance(image, Image):
        raise UsageError(
            f"wanted an Image, not {type(image).__name__}",
            hint="Image(pixels) holds a tensor (C, H, W) of floats in [0, 1]",
        )
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(f"quality is {quality}, wanted 1 to 100")
    io.write(image, Path(path), quality=quality, overwrite=overwrite)


def load_restorer(
    task: str,
    *,
    model: str | None = None,
    weights: FilePath | None = None,
    scale: float | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    tile: Tile = "auto",
    overlap: Overlap = "auto",
    ensemble: bool = False,
    strength: float = 1.0,
    noise_limit: NoiseLimit = "auto",
) -> ImageRestorer:
    """Load the network of a task once, for any number of images and threads.

    Calling the result with an Image returns a Restored: the fields `image` and `report`.

    task: "derain", "denoise", "enhance" or "upscale"; with a community model as `weights` any name
    of `restore_cli.tasks.TASKS`.
    model: name of a network; default: that of the task.
    weights: name of weights, or a file; default: those of the network.
    scale: factor of "upscale", such as 2 or 2.5; default: that of the weights.
    device: "auto", "cpu", "cuda", "cuda:N" or "mps".
    precision: "auto", "fp32", "tf32" (CUDA), "bf16" or "fp16".
    tile: side in pixels, "auto", "off", or "exact" for the result of the whole image.
    overlap: context around a tile in pixels, "auto" or "exact".
    ensemble: average the outputs for all flips and rotations, for "derain" and "enhance" those for
    the image and its mirror image.
    strength: from 0, which leaves the image unchanged, to 1.
    noise_limit: for "denoise", the largest sigma to remove, in levels of 255; "auto" estimates it,
    "off" sets no limit.
    Raises UsageError, WeightsError, DeviceError.
    """
    find_task(task)  # a misspelt name is refused before any weights are read
    _refuse_unless("tile", tile, ("auto", "off", "exact"), least=1)
    _refuse_unless("overlap", overlap, ("auto", "exact"), least=0)
    _refuse_beyond("strength", strength, 1)
    if precision not in get_args(Precision):
        raise UsageError(f"precision is {precision!r}, wanted {', '.join(get_args(Precision))}")
    if noise_limit not in ("auto", "off"):
        _refuse_beyond("noise_limit", noise_limit, 255, words="auto, off or ")
    if task != "denoise" and noise_limit != "auto":
        raise UsageError(f"{task} estimates no noise", hint="leave noise_limit out")
    options = RunOptions(
        model=model,
        weights=None if weights is None else os.fspath(weights),
        tile="auto" if tile == "exact" else tile,
        exact=tile == "exact",
        overlap=overlap,
        ensemble=ensemble,
        device=device,
        precision=precision,
        strength=strength,
        noise_limit=noise_limit,
    )
    if scale is None:
        return inference.load_restorer(task, options)
    if task != "upscale":
        raise UsageError(f"{task} keeps the size of an image", hint="leave scale out")
    if not (isinstance(scale, Real) and 1 < scale < math.inf):
        raise UsageError(
            f"scale is {scale!r}, wanted a factor above 1", hint="for example 2 or 2.5"
        )
    if model is None and weights is None:
        options = replace(options, model=usual_network(device, scale))
    return load_upscaler(options, Target(scale))


def _refuse_unless(name: str, value: object, words: tuple[str, ...], *, least: int) -> None:
    """Refuse all but the words and whole numbers of pixels from `least`. Raises UsageError."""
    if value not in words and not (isinstance(value, Integral) and int(value) >= least):
        raise UsageError(
            f"{name} is {value!r}, wanted {', '.join(words)} or a number of pixels, {least} or more"
        )


def _refuse_beyond(name: str, value: object, most: int, *, words: str = "") -> None:
    """Refuse all but numbers from 0 to `most`. Raises UsageError."""
    if not (isinstance(value, Real) and 0 <= float(value) <= most):
        raise UsageError(f"{name} is {value!r}, wanted {words}a number from 0 to {most}")


@overload
def restore(task: str, image: FilePath, **options: Unpack[RestoreOptions]) -> Image: ...
@overload
def restore(task: str, image: Kind, **options: Unpack[RestoreOptions]) -> Kind: ...
def restore(task: str, image: Any, **options: Unpack[RestoreOptions]) -> Any:
    """Restore one image and return the same kind of image.

    image: a tensor (C, H, W) or (B, C, H, W) with C 1 or 3; a NumPy array (H, W) or (H, W, C) with
    C 1, 3 or 4; a PIL image; an Image; or a path, for which an Image is returned. Integers (uint8,
    uint16) are scaled by their type, floats are in [0, 1].
    options: those of `load_restorer`; the default precision is "fp32".
    Raises UsageError, InputError, WeightsError, DeviceError.
    """
    return _restored(image, _load(task, options))


@overload
def restore_batch(
    images: Iterable[FilePath], task: str, **options: Unpack[RestoreOptions]
) -> Iterator[Image]: ...
@overload
def restore_batch(
    images: Iterable[Kind], task: str, **options: Unpack[RestoreOptions]
) -> Iterator[Kind]: ...
def restore_batch(
    images: Iterable[Any], task: str, **options: Unpack[RestoreOptions]
) -> Iterator[Any]:
    """Restore many images with one network, in their order; see `restore`.

    The following images are read and restored while the caller uses the current one.
    Raises what `restore` raises; an image that cannot be restored ends the iteration.
    """
    if isinstance(images, str | os.PathLike):
        raise UsageError(f"images is one path, {os.fspath(images)!r}", hint="pass a list of paths")
    return _overlapped(images, _load(task, options))


def _load(task: str, options: RestoreOptions) -> ImageRestorer:
    options.setdefault("precision", "fp32")
    return load_restorer(task, **options)


def _restored(image: Any, restorer: ImageRestorer) -> Any:
    if isinstance(image, Tensor) and image.ndim == 4 and len(image):
        return torch.stack([_restored(each, restorer) for each in image])
    with enough_memory():
        source, convert_back = to_image(_read(image))
        return convert_back(restorer(source).image)


def _read(image: Any) -> Any:
    return read_image(image) if isinstance(image, str | os.PathLike) else image


def _overlapped(images: Iterable[Any], restorer: ImageRestorer) -> Iterator[Any]:
    """Read in one thread and restore in another, at most AHEAD images in advance."""

    def restored(read: Pending[Any]) -> Any:
        return _restored(read.result(), restorer)

    waiting: deque[Pending[Any]] = deque()
    with Worker() as reader, Worker() as worker:
        for image in images:
            waiting.append(worker.submit(restored, reader.submit(_read, image)))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
