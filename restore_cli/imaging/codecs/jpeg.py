"""JPEG compression in memory, and detection of its block artefacts."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as Pillow

from restore_cli.imaging.image import Image

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 8  # pixels per side
LUMA_TABLE_SUM = 3688  # of the luma table in the standard, which is that of quality 50

# Chosen on photographs reduced by 0.5 and 0.7 and compressed by through_jpeg
# (benchmarks/jpeg_traces.py): at quality 95 none has traces.
VISIBLE_STEP = 0.55 / 255  # excess of block borders over the mean elsewhere
DISTINCT_STEP = 1.08  # times the mean elsewhere
LARGEST_STEP = 8 / 255  # limits the weight of an edge of the scene
LOW_QUALITY = 85  # of a file; below it the pixels are not examined
EXAMINED = 1024  # pixels per side of the central crop
SMALLEST = 4 * BLOCK  # pixels per side


def through_jpeg(pixels: Tensor, quality: int) -> Tensor:
    """Compress and decode (3, H, W) in [0, 1]; chroma at half size (4:2:0), as in cameras."""
    import torch

    levels = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    data = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(levels.numpy())).save(
        data, "JPEG", quality=quality, subsampling=2
    )
    decoded = np.array(Pillow.open(data))
    return torch.from_numpy(decoded).permute(2, 0, 1).float() / 255


def has_jpeg_traces(image: Image) -> bool:
    """Return True for visible JPEG artefacts: by the quality of the file, or by block borders.

    A JPEG of quality 85 or above, and any other format, is judged by its pixels alone.
    """
    from restore_cli.imaging.colour import luma

    if image.jpeg_quality is not None and image.jpeg_quality < LOW_QUALITY:
        return True
    if min(image.height, image.width) < SMALLEST:
        return False
    step, ratio = block_steps(luma(_central_crop(image))[0])
    return step > VISIBLE_STEP and ratio > DISTINCT_STEP


def block_steps(y: Tensor) -> tuple[float, float]:
    """Return the steps at 8x8 block borders in luma (H, W): (excess over elsewhere, ratio to it).

    Means over both axes. A step is the distance between the difference of two neighbours and the
    mean of the differences beside it. Blocks may begin at any pixel: the largest phase counts.
    """
    import torch

    excess, ratio = [], []
    for lines in (y, y.mT):
        difference = lines.diff(dim=-1)
        beside = (difference[:, :-2] + difference[:, 2:]) / 2
        steps = (difference[:, 1:-1] - beside).abs().clamp(max=LARGEST_STEP).mean(0)
        by_column = torch.stack([steps[start::BLOCK].mean() for start in range(BLOCK)])
        largest = by_column.max()
        elsewhere = (by_column.sum() - largest) / (BLOCK - 1)
        excess.append((largest - elsewhere).item())
        ratio.append((largest / elsewhere.clamp(min=1e-6)).item())
    return sum(excess) / 2, sum(ratio) / 2


def quality_of(tables: Mapping[int, Sequence[int]]) -> int | None:
    """Return the quality, 1 to 100, of quantization tables, from the sum of the luma table.

    libjpeg scales the table of the standard. Tables of other encoders get the quality at which
    libjpeg quantizes as coarsely. None without a table of 64 numbers.
    """
    table = tables.get(0, ())
    if len(table) != BLOCK * BLOCK:
        return None
    percent = 100 * sum(table) / LUMA_TABLE_SUM
    quality = (200 - percent) / 2 if percent <= 100 else 5000 / percent
    return min(100, max(1, round(quality)))


def _central_crop(image: Image) -> Tensor:
    top, left = (max(0, (side - EXAMINED) // 2) for side in (image.height, image.width))
    rows = image.rows(top, min(top + EXAMINED, image.height)).pixels
    return rows[..., left : left + EXAMINED]
