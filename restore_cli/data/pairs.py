"""Training pairs made on the fly: clean photographs in, (degraded, clean) crops out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.utils.data import Dataset

from restore_cli.errors import NothingToDo
from restore_cli.imaging.files import READABLE_SUFFIXES, read

Degrade = Callable[[Tensor, Generator], Tensor]

VALIDATION_EVERY = 20  # photographs whose index modulo 20 is 7 are held out
VALIDATION_REMAINDER = 7


def load_photos(folder: Path) -> tuple[list[Tensor], list[Tensor]]:
    """All photographs below `folder`, sorted by path: (training, validation), uint8 (3, H, W).

    Raises NothingToDo where there are too few to hold one out for validation.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in READABLE_SUFFIXES)
    if len(paths) <= VALIDATION_REMAINDER:
        raise NothingToDo(
            f"{folder}: {len(paths)} photographs, at least {VALIDATION_REMAINDER + 1} are needed",
            hint="name a folder of clean photographs with --data",
        )
    training: list[Tensor] = []
    validation: list[Tensor] = []
    for index, path in enumerate(paths):
        held_out = index % VALIDATION_EVERY == VALIDATION_REMAINDER
        photo = (read(path).pixels * 255).round().to(torch.uint8).expand(3, -1, -1)
        (validation if held_out else training).append(photo)
    return training, validation


def augment(photo: Tensor, generator: Generator) -> Tensor:
    """One of the eight flips and rotations by right angles."""
    turn = int(torch.randint(8, (), generator=generator))
    photo = photo.rot90(turn % 4, (-2, -1))
    return photo.flip(-1) if turn >= 4 else photo


def random_crop(photo: Tensor, size: int, generator: Generator) -> Tensor:
    """A `size` x `size` crop as float in [0, 1]; a smaller photo is reflected first."""
    height, width = photo.shape[-2:]
    top = int(torch.randint(max(height - size, 0) + 1, (), generator=generator))
    left = int(torch.randint(max(width - size, 0) + 1, (), generator=generator))
    crop = photo[:, top : top + size, left : left + size].float() / 255
    short = (0, size - crop.shape[-1], 0, size - crop.shape[-2])
    return F.pad(crop, short, mode="reflect") if any(short) else crop


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Pair number i, (degraded, clean) of (3, patch, patch), depends on seed and i alone.

    So a resumed training sees what an uninterrupted one would have seen.
    """

    def __init__(
        self, photos: Sequence[Tensor], degrade: Degrade, *, patch: int, seed: int, length: int
    ):
        self.photos, self.degrade = photos, degrade
        self.patch, self.seed, self.length = patch, seed, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        generator = Generator().manual_seed(self.seed * 1_000_003 + index)
        photo = self.photos[int(torch.randint(len(self.photos), (), generator=generator))]
        # Rotated after cropping: rain that falls sideways is no rain.
        clean = augment(random_crop(photo, self.patch, generator), generator).contiguous()
        return self.degrade(clean, generator), clean
