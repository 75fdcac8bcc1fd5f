"""Images in memory: pixels, alpha and metadata."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Text(NamedTuple):
    """A text of a PNG, or with the keyword "Comment" of a JPEG."""

    keyword: str
    text: str
    language: str = ""
    translated: str = ""  # the keyword in that language


@dataclass(frozen=True)
class Metadata:
    """Metadata as read, except that EXIF and XMP state orientation 1: it is applied already.

    Statements that are no longer true of the image alone, such as thumbnails, are left out.
    """

    icc: bytes | None = None
    exif: bytes | None = None  # starts with the byte order mark
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None  # (x, y) dots per inch
    record: str | None = None  # provenance (JSON), to be written into the XMP
    texts: tuple[Text, ...] = ()
    photoshop: bytes | None = None  # image resources of Photoshop: IPTC captions, clipping paths
    chunks: tuple[tuple[bytes, bytes], ...] = ()  # (kind, body) of a PNG, about its colours


@dataclass(frozen=True)
class Image:
    """An upright image: pixels (C, H, W), float32 in [0, 1], C = 3 for RGB or 1 for grey."""

    pixels: Tensor
    alpha: Tensor | None = None  # (1, H, W) in [0, 1]
    bit_depth: int = 8  # 8 or 16, of the source
    metadata: Metadata = field(default_factory=Metadata)
    source: Path | None = None  # file that it was read from
    jpeg_quality: int | None = None  # 1 to 100, of a source in JPEG
    dropped: tuple[str, ...] = ()  # contents of the source that no warning has named yet

    @property
    def height(self) -> int:
        return self.pixels.shape[-2]

    @property
    def width(self) -> int:
        return self.pixels.shape[-1]

    def with_pixels(self, pixels: Tensor) -> Image:
        """Return a copy with other pixels, and all else unchanged."""
        return replace(self, pixels=pixels)

    def visible_colours(self) -> Image:
        """Return a copy with surrounding colours in fully transparent pixels.

        Hidden colours would affect a network along the edge of the visible area.
        """
        if self.alpha is None or bool((self.alpha > 0).all()):
            return self
        visible = (self.alpha > 0).float()
        return replace(self, pixels=_fill(self.pixels * visible, visible))

    def keep_hidden_colours(self, restored: Tensor) -> Tensor:
        """Return `restored` with the original colours in fully transparent pixels."""
        if self.alpha is None:
            return restored
        return torch.where(self.alpha > 0, restored, self.pixels)

    def hidden_colours_of(self, other: Image) -> Image:
        """Return a copy with the colours of `other` where both are fully transparent."""
        if self.alpha is None or other.alpha is None or self.alpha.shape != other.alpha.shape:
            return self
        hidden = (self.alpha == 0) & (other.alpha == 0)
        return replace(self, pixels=torch.where(hidden, other.pixels, self.pixels))


def _fill(known: Tensor, weight: Tensor) -> Tensor:
    """Fill unknown pixels (weight 0) from coarser averages of known ones (pull-push)."""
    mean = known / weight.clamp(min=1e-6)
    if min(weight.shape[-2:]) == 1 or bool((weight > 0).all()):
        return mean
    coarse = _fill(
        F.avg_pool2d(known[None], 2, ceil_mode=True)[0],
        F.avg_pool2d(weight[None], 2, ceil_mode=True)[0],
    )
    wide = F.interpolate(coarse[None], weight.shape[-2:], mode="bilinear")[0]
    return torch.where(weight > 0, mean, wide)
