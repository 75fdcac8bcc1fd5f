"""An image in memory: its pixels, and what else must survive to the output."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Metadata:
    """Carried as read, except that EXIF and XMP say upright: the orientation is applied already."""

    icc: bytes | None = None
    exif: bytes | None = None  # from its byte order mark on
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None  # (x, y) dots per inch
    record: str | None = None  # how the image is made (JSON), to go out in its XMP
    texts: tuple[tuple[str, str], ...] = ()  # (keyword, text); PNG alone takes them, none is read


@dataclass(frozen=True)
class Image:
    """Upright pixels (C, H, W), float32 in [0, 1], C = 3 for RGB or 1 for grey."""

    pixels: Tensor
    alpha: Tensor | None = None  # (1, H, W) in [0, 1]
    bit_depth: int = 8  # 8 or 16, of the source
    metadata: Metadata = field(default_factory=Metadata)
    source: Path | None = None  # the file it was read from
    jpeg_quality: int | None = None  # of that file, 1 to 100

    @property
    def height(self) -> int:
        return self.pixels.shape[-2]

    @property
    def width(self) -> int:
        return self.pixels.shape[-1]

    def with_pixels(self, pixels: Tensor) -> Image:
        """The same image with other pixels of the same size."""
        return replace(self, pixels=pixels)

    def visible_colours(self) -> Image:
        """Fully transparent pixels take the colours around them, so that a network which looks
        across the edge of what is visible finds nothing foreign there.
        """
        if self.alpha is None or bool((self.alpha > 0).all()):
            return self
        visible = (self.alpha > 0).float()
        return replace(self, pixels=_fill(self.pixels * visible, visible))

    def keep_hidden_colours(self, restored: Tensor) -> Tensor:
        """`restored` with the original colours where nothing is visible."""
        if self.alpha is None:
            return restored
        return torch.where(self.alpha > 0, restored, self.pixels)


def _fill(known: Tensor, weight: Tensor) -> Tensor:
    """Pull-push: unknown pixels (weight 0) from ever coarser averages of the known ones."""
    mean = known / weight.clamp(min=1e-6)
    if min(weight.shape[-2:]) == 1 or bool((weight > 0).all()):
        return mean
    coarse = _fill(
        F.avg_pool2d(known[None], 2, ceil_mode=True)[0],
        F.avg_pool2d(weight[None], 2, ceil_mode=True)[0],
    )
    wide = F.interpolate(coarse[None], weight.shape[-2:], mode="bilinear")[0]
    return torch.where(weight > 0, mean, wide)
