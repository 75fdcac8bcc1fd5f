"""Contact sheets: several images in one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

GAP = 2  # white pixels between images


def contact_sheet(images: Sequence[Tensor], columns: int) -> Tensor:
    """Arrange images (C, H, W) of one size in rows, on white; values in [0, 1]."""
    channels, height, width = images[0].shape
    rows = math.ceil(len(images) / columns)
    sheet = torch.ones(channels, rows * (height + GAP) - GAP, columns * (width + GAP) - GAP)
    for index, image in enumerate(images):
        top, left = index // columns * (height + GAP), index % columns * (width + GAP)
        sheet[:, top : top + height, left : left + width] = image
    return sheet
