"""Several pictures on one sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

GAP = 2  # white pixels between pictures


def contact_sheet(pictures: Sequence[Tensor], columns: int) -> Tensor:
    """Pictures (C, H, W) of one size in [0, 1], row by row; white where the last row ends early."""
    channels, height, width = pictures[0].shape
    rows = math.ceil(len(pictures) / columns)
    sheet = torch.ones(channels, rows * (height + GAP) - GAP, columns * (width + GAP) - GAP)
    for index, picture in enumerate(pictures):
        top, left = index // columns * (height + GAP), index % columns * (width + GAP)
        sheet[:, top : top + height, left : left + width] = picture
    return sheet
