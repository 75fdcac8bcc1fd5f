"""Training pairs made on the fly: clean photographs in, (degraded, clean) crops out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.utils.data import Dataset

from restore_cli.data.degrade_real import PhotoDegradation
from restore_cli.errors import NothingToDo
from restore_cli.imaging.colour import luma
from restore_cli.imaging.files import read
from restore_cli.imaging.formats import READABLE_SUFFIXES
from restore_cli.imaging.resize import resize_matlab

Degrade = Callable[[Tensor, Generator], Tensor]
Suits = Callable[[Tensor], bool]

VALIDATION_EVERY = 20  # photographs whose index modulo 20 is 7 are held out
VALIDATION_REMAINDER = 7


def load_photos(
    folder: Path, *, grey: bool = False, suits: Suits | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """All photographs below `folder`, sorted by path: (training, validation), uint8 (3, H, W).

    grey: as 8-bit luma, (1, H, W). suits: leave out photographs of which it is false. Raises
    NothingToDo where there are too few to hold one out for validation.
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
        pixels = read(path).pixels
        photo = to_uint8(luma(pixels) if grey else pixels.expand(3, -1, -1))
        if suits is None or suits(photo):
            (validation if held_out else training).append(photo)
    if not (training and validation):
        raise NothingToDo(
            f"{folder}: none of {len(paths)} photographs suits this training, or one alone",
            hint="name a folder of well-lit photographs with --data",
        )
    return training, validation


def to_uint8(pixels: Tensor) -> Tensor:
    return (pixels * 255).round().to(torch.uint8)


def reduced(photo: Tensor, factor: float) -> Tensor:
    """The photograph made smaller by MATLAB's bicubic, uint8 as it is; as benchmarks are made."""
    height, width = (max(1, round(side / factor)) for side in photo.shape[-2:])
    return to_uint8(resize_matlab(photo.float() / 255, height, width, rounding="uint8"))


def low_resolution(photo: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """(low, high): the photograph cut to a multiple of `scale`, and reduced by it."""
    height, width = (max(side - side % scale, scale) for side in photo.shape[-2:])
    high = photo[:, :height, :width]
    return reduced(high, scale), high


def turned(photo: Tensor, turn: int) -> Tensor:
    """The photo in one of its eight flips and rotations by right angles, number 0 to 7."""
    photo = photo.rot90(turn % 4, (-2, -1))
    return (photo.flip(-1) if turn >= 4 else photo).contiguous()


def crop(photo: Tensor, top: int, left: int, size: int) -> Tensor:
    """A `size` x `size` crop as float in [0, 1]; a photo that ends before repeats its border."""
    inside = photo[:, top : top + size, left : left + size].float() / 255
    short = (0, size - inside.shape[-1], 0, size - inside.shape[-2])
    return F.pad(inside, short, mode="replicate") if any(short) else inside


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Pair number i, (degraded, clean), depends on seed and i alone.

    So a resumed training sees what an uninterrupted one would have seen.
    degraded is (C, patch, patch); clean is `scale` times as large, and degraded is made of the
    photograph reduced so many times. candidates: of so many random crops the one with the highest
    contrast is taken, since much of any photograph is sky. pre_upscaled: degraded is made as large
    as clean again, by bicubic. scene: of a scale of 1, put into clean before it is degraded.
    """

    def __init__(
        self,
        photos: Sequence[Tensor],
        degrade: Degrade,
        *,
        patch: int,
        seed: int,
        length: int,
        scale: int = 1,
        candidates: int = 1,
        pre_upscaled: bool = False,
        scene: Degrade | None = None,
    ):
        self.photos = [low_resolution(p, scale) if scale > 1 else (p, p) for p in photos]
        self.degrade, self.patch, self.scale = degrade, patch, scale
        self.candidates, self.pre_upscaled = candidates, pre_upscaled
        self.scene = scene
        self.seed, self.length = seed, length

    def redrawn(self, *, seed: int, length: int) -> Pairs:
        """Other pairs of the same photographs, which are not reduced again."""
        other = copy.copy(self)
        other.seed, other.length = seed, length
        return other

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        generator = Generator().manual_seed(self.seed * 1_000_003 + index)
        low, high = self.photos[int(torch.randint(len(self.photos), (), generator=generator))]
        top, left = self._place(low, generator)
        turn = int(torch.randint(8, (), generator=generator))
        # Turned before it is degraded: rain that falls sideways is no rain.
        start = clean = turned(
            crop(high, top * self.scale, left * self.scale, self.patch * self.scale), turn
        )
        if self.scale > 1:
            start = turned(crop(low, top, left, self.patch), turn)
        elif self.scene is not None:
            start = clean = self.scene(clean, generator)
        if isinstance(self.degrade, PhotoDegradation):  # it reduces by itself
            degraded = self.degrade(clean, generator, self.scale)
        else:
            degraded = self.degrade(start, generator)
        if self.pre_upscaled:
            degraded = resize_matlab(degraded, *clean.shape[-2:]).clamp(0, 1)
        return degraded, clean

    def _place(self, photo: Tensor, generator: Generator) -> tuple[int, int]:
        """Top and left of a crop: of the candidates the one with the highest contrast."""
        height, width = photo.shape[-2:]
        best, most = (0, 0), -1.0
        for _ in range(self.candidates):
            top = int(torch.randint(max(height - self.patch, 0) + 1, (), generator=generator))
            left = int(torch.randint(max(width - self.patch, 0) + 1, (), generator=generator))
            if self.candidates == 1:
                return top, left
            contrast = crop(photo, top, left, self.patch).std().item()
            if contrast > most:
                best, most = (top, left), contrast
        return best
