"""Training pairs of photographs seen whole: (degraded, normal), stretched to one size.

For a network that corrects what only the whole image tells, such as its exposure: a crop of a
black coat says nothing of how bright the coat should be.
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

STORED = 1.5  # photographs are kept so many times as large as what the network is given
SMALLEST = 0.6  # of either side of a photograph, in a view of it
AT_NIGHT = 0.125
NORMAL = (0.2, 0.85)  # mean of a photograph that is neither dark nor overexposed


def stretched(photo: Tensor, size: Sequence[int]) -> Tensor:
    """`photo` (3, H, W) in [0, 1] as `size` (H, W), proportions not kept; bilinear, antialiased."""
    small = F.interpolate(photo[None], tuple(size), mode="bilinear", antialias=True)
    return small[0].clamp(0, 1)


def is_normal(photo: Tensor) -> bool:
    """Whether a photograph (uint8) is lit well enough to show what should be bright."""
    low, high = NORMAL
    return low <= photo.float().mean().item() / 255 <= high


class WholeImages(Dataset[tuple[Tensor, Tensor]]):
    """Pair number i, (degraded, normal), each (3, H, W) of `size`; of seed and i alone.

    A view is more than a third of a photograph, of any proportions, as it is or mirrored. One in
    eight is made a night scene: what is black beside a lamp stays black. Pairs of one's own are
    seen in the same part, and neither degraded nor made night scenes.
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
        views = [stretched(image[:, rows, columns].float() / 255, self.size) for image in photo]
        if happens(0.5, generator):
            views = [view.flip(-1) for view in views]
        if len(views) == 2:  # a pair of one's own
            return views[0], views[1]
        normal = views[0]
        if happens(AT_NIGHT, generator):
            normal = spotlit(normal, generator)
        return self.degrade(normal, generator), normal


def _part(side: int, generator: Generator) -> slice:
    """A random run of pixels, at least SMALLEST of the side."""
    length = round(side * uniform(SMALLEST, 1, generator))
    start = int(torch.randint(side - length + 1, (), generator=generator))
    return slice(start, start + length)
