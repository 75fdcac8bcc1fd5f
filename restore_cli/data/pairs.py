"""Training pairs of (degraded, clean) crops.

Clean photographs are degraded on the fly; pairs of the user are cropped at the same position.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.utils.data import Dataset

from restore_cli.data.degrade_real import PhotoDegradation
from restore_cli.errors import InputError, NothingToDo
from restore_cli.imaging.colour import luma
from restore_cli.imaging.folders import image_files, images_by_name
from restore_cli.imaging.io import read
from restore_cli.imaging.orientations import turned
from restore_cli.imaging.resize import resize_matlab
from restore_cli.storage import Location

Degrade = Callable[[Tensor, Generator], Tensor]
IsUsable = Callable[[Tensor], bool]
ImagePair = tuple[Tensor, Tensor]  # (degraded, clean), uint8
Photo = Tensor | ImagePair  # a clean photograph, or a pair of the user

T = TypeVar("T")

VALIDATION_EVERY = 20  # photographs whose index modulo 20 is 7 are held out
VALIDATION_REMAINDER = 7
MOST_NAMED = 5  # files in a message


def load_photos(
    folder: Path, *, grey: bool = False, is_usable: IsUsable | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """Read all photographs below `folder`, sorted: (training, validation), uint8 (3, H, W).

    grey: as 8-bit luma, (1, H, W). is_usable: photographs of which it is false are left out.
    Raises NothingToDo where there are too few to hold one out for validation.
    """
    if not folder.is_dir():
        raise NothingToDo(f"{folder}: no such folder", hint="check the name")
    paths = image_files(folder, recursive=True)
    if len(paths) <= VALIDATION_REMAINDER:
        raise NothingToDo(
            f"{folder}: at least {VALIDATION_REMAINDER + 1} photographs are needed, "
            f"{len(paths)} found",
            hint="name a folder of clean photographs with --data",
        )
    with ThreadPoolExecutor() as pool:
        photos = list(pool.map(lambda path: read_uint8(path, grey=grey), paths))
    usable = [is_usable is None or is_usable(photo) for photo in photos]
    training, validation = (
        [photo for photo, good in zip(part, fit, strict=True) if good]
        for part, fit in zip(hold_out(photos), hold_out(usable), strict=True)
    )
    if not (training and validation):
        raise NothingToDo(
            f"{folder}: too few of {len(paths)} photographs are usable for this training",
            hint="name a folder of well-lit photographs with --data",
        )
    return training, validation


def load_pairs(
    degraded: Path, clean: Path, *, scale: int = 1, grey: bool = False
) -> tuple[list[ImagePair], list[ImagePair]]:
    """Read pairs of images whose relative paths agree except for the suffix.

    Returns (training, validation), as load_photos. A clean image is `scale` times as large as the
    degraded one; a remainder is cut off. Raises NothingToDo for too few pairs, InputError for an
    image without its counterpart or of another size.
    """
    sides = [images_by_name(folder) for folder in (degraded, clean)]
    for folder, own, other in zip((degraded, clean), sides, reversed(sides), strict=True):
        alone = sorted(own.keys() - other.keys())
        if alone:
            named = ", ".join(own[stem].name for stem in alone[:MOST_NAMED])
            more = f" and {len(alone) - MOST_NAMED} more" if len(alone) > MOST_NAMED else ""
            raise InputError(
                f"{folder}: no counterpart for {named}{more}",
                hint="both images of a pair have the same name; suffixes may differ",
            )
    stems = sorted(sides[0])
    if len(stems) <= VALIDATION_REMAINDER:
        raise NothingToDo(
            f"{degraded}: at least {VALIDATION_REMAINDER + 1} pairs are needed, {len(stems)} found",
            hint="name two folders of images with --data-pairs DEGRADED CLEAN",
        )
    with ThreadPoolExecutor() as pool:
        pairs = list(
            pool.map(
                lambda stem: read_pair(sides[0][stem], sides[1][stem], scale=scale, grey=grey),
                stems,
            )
        )
    return hold_out(pairs)


def read_uint8(path: Location, *, grey: bool = False) -> Tensor:
    """Read an image as uint8, RGB (3, H, W) or luma (1, H, W)."""
    pixels = read(path).displayed().pixels
    return to_uint8(luma(pixels) if grey else pixels.expand(3, -1, -1))


def read_pair(
    degraded: Location, clean: Location, *, scale: int = 1, grey: bool = False
) -> ImagePair:
    """Read (degraded, clean), the clean image cropped to `scale` times the degraded one.

    Raises InputError where the sizes do not agree.
    """
    low, high = (read_uint8(path, grey=grey) for path in (degraded, clean))
    height, width = low.shape[-2:]
    if (high.shape[-2] // scale, high.shape[-1] // scale) != (height, width):
        sizes = [f"{image.shape[-1]}x{image.shape[-2]}" for image in (low, high)]
        times = "as large" if scale == 1 else f"{scale} times as large"
        raise InputError(
            f"{clean} is {sizes[1]} pixels, not {times} as {degraded}: {sizes[0]}",
            hint="set the scale of the training: --scale or --preset",
        )
    return low, high[:, : height * scale, : width * scale]


def hold_out(items: Sequence[T]) -> tuple[list[T], list[T]]:
    """Return (training, validation): every 20th item is for validation."""
    training: list[T] = []
    validation: list[T] = []
    for index, item in enumerate(items):
        held_out = index % VALIDATION_EVERY == VALIDATION_REMAINDER
        (validation if held_out else training).append(item)
    return training, validation


def to_uint8(pixels: Tensor) -> Tensor:
    return (pixels * 255).round().to(torch.uint8)


def reduced(photo: Tensor, factor: float) -> Tensor:
    """Reduce a photograph (uint8) by MATLAB's bicubic, as in the public test sets."""
    if factor == 1:
        return photo
    height, width = (max(1, round(side / factor)) for side in photo.shape[-2:])
    return to_uint8(resize_matlab(photo.float() / 255, height, width, rounding="uint8"))


def low_resolution(photo: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Return (low, high): the photograph cropped to a multiple of `scale`, and reduced by it."""
    height, width = (max(side - side % scale, scale) for side in photo.shape[-2:])
    high = photo[:, :height, :width]
    return reduced(high, scale), high


def crop(photo: Tensor, top: int, left: int, size: int) -> Tensor:
    """Return a `size` x `size` crop as float in [0, 1]; borders are replicated beyond the photo."""
    inside = photo[:, top : top + size, left : left + size].float() / 255
    short = (0, size - inside.shape[-1], 0, size - inside.shape[-2])
    return F.pad(inside, short, mode="replicate") if any(short) else inside


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Pairs (degraded, clean); number i depends on the seed and i alone.

    A resumed training therefore equals an uninterrupted one.
    degraded is (C, patch, patch); clean is `scale` times as large. degraded is made from the
    reduced photograph, or cropped from the degraded image of a pair of the user. candidates: of so
    many random crops, the one with the highest contrast is used, since large parts of photographs
    are flat. pre_upscaled: degraded is enlarged to the size of clean by bicubic. zooms: sizes in
    which photographs are used, each reduced when it is first drawn. scene: added to clean before
    it is degraded, at a scale of 1 only.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        degrade: Degrade,
        *,
        patch: int,
        seed: int,
        length: int,
        scale: int = 1,
        candidates: int = 1,
        pre_upscaled: bool = False,
        scene: Degrade | None = None,
        zooms: Sequence[float] = (1.0,),
    ):
        self.sizes = [(photo, zoom) for zoom in zooms for photo in photos]
        self.cached: dict[int, ImagePair] = {}  # by index; filled when drawn
        self.degrade, self.patch, self.scale = degrade, patch, scale
        self.distinct = scale > 1 or any(isinstance(photo, tuple) for photo in photos)
        self.candidates, self.pre_upscaled = candidates, pre_upscaled
        self.scene = scene
        self.seed, self.length = seed, length

    def prepare(self) -> None:
        """Reduce all photographs, so that worker processes share them."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._photo, range(len(self.sizes))))

    def _photo(self, index: int) -> ImagePair:
        """Return (low, high) of one photograph in one size."""
        if index not in self.cached:
            photo, zoom = self.sizes[index]
            if isinstance(photo, tuple):
                self.cached[index] = photo
            else:
                photo = reduced(photo, 1 / zoom)
                pair = low_resolution(photo, self.scale) if self.scale > 1 else (photo, photo)
                self.cached[index] = pair
        return self.cached[index]

    def redrawn(self, *, seed: int, length: int) -> Pairs:
        """Return other pairs of the same photographs, which are not reduced again."""
        other = copy.copy(self)
        other.seed, other.length = seed, length
        return other

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        generator = Generator().manual_seed(self.seed * 1_000_003 + index)
        low, high = self._photo(int(torch.randint(len(self.sizes), (), generator=generator)))
        top, left = self._position(low, generator)
        turn = int(torch.randint(8, (), generator=generator))
        # Rotated before it is degraded: rain never falls sideways.
        high = crop(high, top * self.scale, left * self.scale, self.patch * self.scale)
        start = clean = turned(high, turn).contiguous()
        if self.distinct:
            start = turned(crop(low, top, left, self.patch), turn).contiguous()
        elif self.scene is not None:
            start = clean = self.scene(clean, generator)
        if isinstance(self.degrade, PhotoDegradation):  # includes the reduction
            degraded = self.degrade(clean, generator, self.scale)
        else:
            degraded = self.degrade(start, generator)
        if self.pre_upscaled:
            degraded = resize_matlab(degraded, *clean.shape[-2:]).clamp(0, 1)
        return degraded, clean

    def _position(self, photo: Tensor, generator: Generator) -> tuple[int, int]:
        """Return top and left of a crop: of all candidates, that with the highest contrast."""
        height, width = photo.shape[-2:]
        best, highest = (0, 0), -1.0
        for _ in range(self.candidates):
            top = int(torch.randint(max(height - self.patch, 0) + 1, (), generator=generator))
            left = int(torch.randint(max(width - self.patch, 0) + 1, (), generator=generator))
            if self.candidates == 1:
                return top, left
            contrast = crop(photo, top, left, self.patch).std().item()
            if contrast > highest:
                best, highest = (top, left), contrast
        return best
