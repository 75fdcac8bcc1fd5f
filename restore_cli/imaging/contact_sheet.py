"""Contact sheets: several images in one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

GAP = 2  # white pixels between images


def columns_for(count: int) -> int:
    """Return the columns of a nearly square sheet."""
    return math.ceil(math.sqrt(count))


def sheet_size(count: int, columns: int, height: int, width: int) -> tuple[int, int]:
    """Return the height and width of a sheet of images of one size."""
    rows = math.ceil(count / columns)
    return rows * (height + GAP) - GAP, columns * (width + GAP) - GAP


def contact_sheet(images: Sequence[Tensor], columns: int) -> Tensor:
    """Arrange images (C, H, W) of one size in rows, on white; values in [0, 1]."""
    channels, height, width = images[0].shape
    sheet = images[0].new_ones(channels, *sheet_size(len(images), columns, height, width))
    for index, image in enumerate(images):
        top, left = index // columns * (height + GAP), index % columns * (width + GAP)
        sheet[:, top : top + height, left : left + width] = image
    return sheet
