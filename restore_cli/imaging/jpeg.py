"""What a JPEG file does to a picture, without a file."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor


def through_jpeg(pixels: Tensor, quality: int) -> Tensor:
    """(3, H, W) in [0, 1] as JPEG gives it back; chroma at half size (4:2:0), as cameras do."""
    levels = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    data = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(levels.numpy())).save(
        data, "JPEG", quality=quality, subsampling=2
    )
    decoded = np.array(Pillow.open(data))
    return torch.from_numpy(decoded).permute(2, 0, 1).float() / 255
