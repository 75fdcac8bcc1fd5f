"""Training images of a generator: a folder for each class."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from restore_cli.data.pairs import VALIDATION_REMAINDER, hold_out, to_uint8
from restore_cli.errors import NothingToDo
from restore_cli.imaging.folders import image_files
from restore_cli.imaging.io import read
from restore_cli.imaging.resize import resize_matlab

SMALLEST_CLASS = VALIDATION_REMAINDER + 1  # images, so that each class has one held out


@dataclass(frozen=True)
class ClassImages:
    """Images (3, H, W), uint8, and the class of each as an index into `names`."""

    names: tuple[str, ...]
    images: tuple[Tensor, ...]
    labels: tuple[int, ...]


def load_classes(
    folder: Path, shrink: Callable[[Tensor], Tensor]
) -> tuple[ClassImages, ClassImages]:
    """Read all images, (training, held out), each reduced by `shrink` from float (3, H, W).

    Classes are the folders in `folder`, in alphabetical order. Raises NothingToDo where there are
    none, or where a class has too few images.
    """
    classes = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not classes:
        raise NothingToDo(f"{folder}: no folders of classes", hint="add a folder for each class")
    parts: tuple[list[tuple[Tensor, int]], list[tuple[Tensor, int]]] = ([], [])
    for label, path in enumerate(classes):
        for part, files in zip(parts, hold_out(_images(path)), strict=True):
            photos = (read(file).pixels.expand(3, -1, -1) for file in files)
            part += [(to_uint8(shrink(photo).clamp(0, 1)), label) for photo in photos]
    names = tuple(path.name for path in classes)
    training, validation = (
        ClassImages(names, tuple(image for image, _ in part), tuple(label for _, label in part))
        for part in parts
    )
    return training, validation


def _images(folder: Path) -> list[Path]:
    paths = image_files(folder)
    if len(paths) < SMALLEST_CLASS:
        raise NothingToDo(
            f"{folder}: {len(paths)} images", hint=f"a class needs at least {SMALLEST_CLASS}"
        )
    return paths


def fit_area(image: Tensor, side: int, multiple: int) -> Tensor:
    """Resize to at most side x side pixels in all, keeping the aspect ratio (FiT's rule).

    Both sides become multiples of `multiple`, rounded down; a smaller image is only rounded.
    """
    height, width = image.shape[-2:]
    shrunk = min(1.0, side / math.sqrt(height * width))
    rows, columns = (max(int(s * shrunk + 1e-6) // multiple, 1) for s in (height, width))
    # In very long images the short side becomes `multiple`, so the other one is limited.
    most = (side // multiple) ** 2
    rows, columns = min(rows, most // columns or 1), min(columns, most // rows or 1)
    return resize_matlab(image, rows * multiple, columns * multiple)


def fit_square(image: Tensor, side: int) -> Tensor:
    """Resize the largest central square to side x side pixels."""
    height, width = image.shape[-2:]
    square = min(height, width)
    top, left = (height - square) // 2, (width - square) // 2
    cut = image[..., top : top + square, left : left + square]
    return resize_matlab(cut, side, side)
