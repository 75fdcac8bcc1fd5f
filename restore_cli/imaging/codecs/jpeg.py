"""JPEG in memory, and the traces that it leaves in an image."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from restore_cli.imaging.colour import luma
from restore_cli.imaging.image import Image

BLOCK = 8  # pixels a side
LUMA_TABLE_SUM = 3688  # of the standard's table for luma, which is that of quality 50

# Chosen on photographs reduced by 0.5 and 0.7 and compressed by through_jpeg
# (benchmarks/jpeg_traces.py): of quality 95 none has traces.
VISIBLE_STEP = 0.55 / 255  # at the borders of blocks, above the mean elsewhere
DISTINCT_STEP = 1.08  # times the mean elsewhere
LARGEST_STEP = 8 / 255  # an edge of the scene counts no more than this
LOW_QUALITY = 85  # of a file, below which it needs no look at the pixels
EXAMINED = 1024  # pixels a side, of the middle
SMALLEST = 4 * BLOCK  # pixels a side


def through_jpeg(pixels: Tensor, quality: int) -> Tensor:
    """(3, H, W) in [0, 1] as JPEG gives it back; chroma at half size (4:2:0), as cameras do."""
    levels = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    data = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(levels.numpy())).save(
        data, "JPEG", quality=quality, subsampling=2
    )
    decoded = np.array(Pillow.open(data))
    return torch.from_numpy(decoded).permute(2, 0, 1).float() / 255


def has_jpeg_traces(image: Image) -> bool:
    """Return whether JPEG has visibly damaged the image: by its file, or by steps between blocks.

    A file of quality 85 or above, and any other format, is judged by its pixels alone.
    """
    if image.jpeg_quality is not None and image.jpeg_quality < LOW_QUALITY:
        return True
    if min(image.height, image.width) < SMALLEST:
        return False
    step, ratio = block_steps(luma(_middle(image.pixels))[0])
    return step > VISIBLE_STEP and ratio > DISTINCT_STEP


def block_steps(y: Tensor) -> tuple[float, float]:
    """Steps at the borders of 8x8 blocks in luma (H, W): (excess over elsewhere, ratio to it).

    Means over both axes. A step is how far the difference of two neighbours is from the mean of the
    differences beside it; blocks may begin at any pixel, so the columns with the largest count.
    """
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
    """Quality 1 to 100 of a file, by the sum of its luma table, as libjpeg scales the standard's.

    None where there is no table of 64 numbers. Encoders with other tables get the quality at which
    libjpeg would divide as coarsely.
    """
    table = tables.get(0, ())
    if len(table) != BLOCK * BLOCK:
        return None
    percent = 100 * sum(table) / LUMA_TABLE_SUM
    quality = (200 - percent) / 2 if percent <= 100 else 5000 / percent
    return min(100, max(1, round(quality)))


def _middle(pixels: Tensor) -> Tensor:
    tops = [max(0, (side - EXAMINED) // 2) for side in pixels.shape[-2:]]
    return pixels[:, tops[0] : tops[0] + EXAMINED, tops[1] : tops[1] + EXAMINED]
