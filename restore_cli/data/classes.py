"""Training images of a generator: a folder for each class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from restore_cli.errors import NothingToDo
from restore_cli.imaging.formats import READABLE_SUFFIXES
from restore_cli.imaging.io import read
from restore_cli.imaging.resize import resize_matlab

HELD_OUT_EVERY = 20  # images of a class whose index modulo 20 is 7 are held out
HELD_OUT_REMAINDER = 7
SMALLEST_CLASS = HELD_OUT_REMAINDER + 1  # images, so that each class has one held out


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
        for index, photo in enumerate(_images(path)):
            held_out = index % HELD_OUT_EVERY == HELD_OUT_REMAINDER
            small = (shrink(photo).clamp(0, 1) * 255).round().to(torch.uint8)
            parts[held_out].append((small, label))
    names = tuple(path.name for path in classes)
    training, validation = (
        ClassImages(names, tuple(image for image, _ in part), tuple(label for _, label in part))
        for part in parts
    )
    return training, validation


def _images(folder: Path) -> Iterator[Tensor]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in READABLE_SUFFIXES)
    if len(paths) < SMALLEST_CLASS:
        raise NothingToDo(
            f"{folder}: {len(paths)} images", hint=f"a class needs at least {SMALLEST_CLASS}"
        )
    for path in paths:
        yield read(path).pixels.expand(3, -1, -1)


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
