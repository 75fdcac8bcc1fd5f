"""Training pairs of whole photographs, (degraded, normal), stretched to one size.

For a network that corrects global properties such as exposure: a crop of a black coat does not
show how bright the coat should be.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.utils.data import Dataset

from restore_cli.data.degrade import happens, uniform
from restore_cli.data.lowlight import spotlit
from restore_cli.data.pairs import Degrade, Photo, to_uint8

STORED = 1.5  # size of the stored photographs relative to the input of the network
SMALLEST = 0.6  # share of either side of a photograph in a crop
AT_NIGHT = 0.125  # share of night scenes
NORMAL = (0.2, 0.85)  # mean of a photograph that is neither dark nor overexposed


def stretched(photo: Tensor, size: Sequence[int]) -> Tensor:
    """Stretch `photo` (3, H, W) in [0, 1] to `size` (H, W); bilinear, antialiased."""
    small = F.interpolate(photo[None], tuple(size), mode="bilinear", antialias=True)
    return small[0].clamp(0, 1)


def is_normal(photo: Tensor) -> bool:
    """Return True for a photograph (uint8) with a normal exposure."""
    low, high = NORMAL
    return low <= photo.float().mean().item() / 255 <= high


class WholeImages(Dataset[tuple[Tensor, Tensor]]):
    """Pairs (degraded, normal), each (3, H, W) of `size`; number i depends on the seed and i alone.

    A crop is more than a third of a photograph, of any aspect ratio, possibly mirrored. One in
    eight becomes a night scene: the black beside a lamp stays black. Pairs of the user are cropped
    alike, and neither degraded nor turned into night scenes.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        degrade: Degrade,
        *,
        size: Sequence[int],
        seed: int,
        length: int,
    ):
        stored = [round(STORED * side) for side in size]
        self.photos = [
            tuple(
                to_uint8(stretched(image.float() / 255, stored))
                for image in (photo if isinstance(photo, tuple) else (photo,))
            )
            for photo in photos
        ]
        self.degrade, self.size, self.seed, self.length = degrade, size, seed, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        generator = Generator().manual_seed(self.seed * 1_000_003 + index)
        photo = self.photos[int(torch.randint(len(self.photos), (), generator=generator))]
        rows, columns = (_part(side, generator) for side in photo[0].shape[-2:])
        images = [stretched(image[:, rows, columns].float() / 255, self.size) for image in photo]
        if happens(0.5, generator):
            images = [image.flip(-1) for image in images]
        if len(images) == 2:  # a pair of the user
            return images[0], images[1]
        normal = images[0]
        if happens(AT_NIGHT, generator):
            normal = spotlit(normal, generator)
        return self.degrade(normal, generator), normal


def _part(side: int, generator: Generator) -> slice:
    """Draw a range of pixels, at least SMALLEST of the side."""
    length = round(side * uniform(SMALLEST, 1, generator))
    start = int(torch.randint(side - length + 1, (), generator=generator))
    return slice(start, start + length)
