"""A still picture in memory: the pixels a network works on and what must survive beside them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Metadata:
    """What a file carries beside its pixels; each format keeps what it has a place for."""

    icc: bytes | None = None  # describes the colours of `pixels` as they are
    exif: bytes | None = None  # without the "Exif" prefix; Orientation is 1, no thumbnail
    xmp: bytes | None = None  # the packet as it stood; tiff:Orientation is 1
    dpi: tuple[float, float] | None = None  # horizontal, vertical


@dataclass(frozen=True, eq=False)
class Image:
    """One picture, upright. Raises ValueError for tensors that do not fit together."""

    pixels: Tensor  # (C, H, W) float32 in [0, 1]; C is 3 (RGB) or 1 (gray)
    alpha: Tensor | None = None  # (1, H, W) float32 in [0, 1], not premultiplied
    bit_depth: int = 8  # 8 or 16, of the source; kept on writing
    metadata: Metadata = field(default_factory=Metadata)

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[0] not in (1, 3):
            raise ValueError(f"pixels are (3 or 1, H, W), not {tuple(self.pixels.shape)}")
        if min(self.height, self.width) < 1:
            raise ValueError(f"a picture has pixels, not {self.height} x {self.width}")
        if self.alpha is not None and self.alpha.shape != (1, self.height, self.width):
            raise ValueError(
                f"alpha is (1, {self.height}, {self.width}), not {tuple(self.alpha.shape)}"
            )
        planes = (self.pixels,) if self.alpha is None else (self.pixels, self.alpha)
        if any(plane.dtype != torch.float32 for plane in planes):
            raise ValueError("pixels and alpha are float32")
        if self.bit_depth not in (8, 16):
            raise ValueError(f"bit_depth is 8 or 16, not {self.bit_depth}")

    @property
    def height(self) -> int:
        return self.pixels.shape[1]

    @property
    def width(self) -> int:
        return self.pixels.shape[2]

    def with_pixels(self, pixels: Tensor, alpha: Tensor | None = None) -> Image:
        """The same picture with new pixels; its own alpha is kept where none is given.

        A result of another size needs an alpha of that size if the picture has one.
        """
        return replace(self, pixels=pixels, alpha=self.alpha if alpha is None else alpha)
