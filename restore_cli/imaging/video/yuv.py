"""Video frames as planes of luma and chroma, and their conversion to network inputs and back.

Networks take RGB, or luma alone. Subsampled chroma does not survive a conversion to RGB and back.
A frame that keeps its size is therefore converted by its change: old planes plus the change of the
network, so that unchanged samples stay bit-equal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from restore_cli.imaging.resize import CENTRE, resize_matlab

Matrix = Literal["bt601", "bt709", "bt2020"]

RED_AND_BLUE: dict[Matrix, tuple[float, float]] = {  # weights of R and B in luma; ITU-T H.273
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
LEFT = 0.25  # position of a chroma sample in its two columns since MPEG-2, 0 to 1


@dataclass(frozen=True)
class Layout:
    """Storage of samples; `down`, `across`: rows and columns that share a chroma sample."""

    down: int = 2
    across: int = 2
    bits: int = 8
    full_range: bool = False
    matrix: Matrix = "bt709"

    @property
    def unit(self) -> int:
        """Return the number of levels per level of 8 bits."""
        return 1 << (self.bits - 8)

    @property
    def black(self) -> float:
        return 0.0 if self.full_range else 16.0 * self.unit

    @property
    def luma_span(self) -> float:
        """Return the number of levels from black to white."""
        return (1 << self.bits) - 1.0 if self.full_range else 219.0 * self.unit

    @property
    def chroma_span(self) -> float:
        return (1 << self.bits) - 1.0 if self.full_range else 224.0 * self.unit

    @property
    def neutral(self) -> float:
        """Return the chroma level of grey."""
        return 128.0 * self.unit

    def chroma_size(self, height: int, width: int) -> tuple[int, int]:
        return -(-height // self.down), -(-width // self.across)

    @property
    def anchor(self) -> float:
        """Return the position of a chroma sample in its columns, 0 (left) to 1 (right)."""
        return LEFT if self.across == 2 else CENTRE


@dataclass(frozen=True)
class Planes:
    """Integer levels of one frame: luma (H, W), chroma (2, h, w) with Cb first."""

    luma: Tensor
    chroma: Tensor
    layout: Layout

    def to(self, device: torch.device) -> Planes:
        """Return the planes on a device, within `transfer.beside` of it."""
        luma, chroma = (each.to(device, non_blocking=True) for each in (self.luma, self.chroma))
        return replace(self, luma=luma, chroma=chroma)

    @property
    def height(self) -> int:
        return self.luma.shape[0]

    @property
    def width(self) -> int:
        return self.luma.shape[1]


def to_luma(planes: Planes) -> Tensor:
    """Return luma (1, H, W) in the range of `colour.luma`: black 16 / 255, white 235 / 255."""
    layout = planes.layout
    scale = 219 / layout.luma_span / 255
    return (planes.luma.float() * scale + (16 / 255 - layout.black * scale))[None]


def with_luma(planes: Planes, luma: Tensor) -> Planes:
    """Replace luma by (1, H', W') in the range of `to_luma`; resize chroma by bicubic."""
    layout = planes.layout
    scale = 255 / 219 * layout.luma_span
    levels = _levels(luma[0] * scale + (layout.black - 16 / 255 * scale), layout)
    height, width = layout.chroma_size(*levels.shape)
    # The chroma sample of an odd last row or column extends beyond the image.
    grown = [
        math.ceil(old * new / was)
        for old, new, was in zip(
            planes.chroma.shape[1:], levels.shape, planes.luma.shape, strict=True
        )
    ]
    anchors = (layout.anchor, layout.anchor)
    chroma = resize_matlab(planes.chroma.float(), grown[0], grown[1], anchors=anchors)
    return Planes(levels, _levels(chroma[:, :height, :width], layout), layout)


def to_rgb(planes: Planes) -> Tensor:
    """Convert to RGB (3, H, W) in [0, 1]."""
    layout = planes.layout
    red, blue = RED_AND_BLUE[layout.matrix]
    y = (planes.luma.float() - layout.black) / layout.luma_span
    chroma = (planes.chroma.float() - layout.neutral) / layout.chroma_span
    cb, cr = _at_luma(chroma, planes)
    r = y + 2 * (1 - red) * cr
    b = y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / (1 - red - blue)
    return torch.stack([r, g, b]).clamp_(0, 1)


def from_rgb(rgb: Tensor, layout: Layout) -> Planes:
    """Convert RGB (3, H, W) in [0, 1] to planes."""
    luma, chroma = _scaled_planes(rgb, layout)
    return Planes(
        _levels(luma + layout.black, layout), _levels(chroma + layout.neutral, layout), layout
    )


def with_change(planes: Planes, before: Tensor, after: Tensor) -> Planes:
    """Add the change from `before`, the RGB of `planes`, to `after`; both (3, H, W)."""
    luma, chroma = _scaled_planes(after - before, planes.layout)
    return replace(
        planes,
        luma=_levels(planes.luma.float() + luma, planes.layout),
        chroma=_levels(planes.chroma.float() + chroma, planes.layout),
    )


def rotated(planes: Planes, quarters: int, mirrored: bool) -> Planes:
    """Mirror left to right if `mirrored`, then rotate by quarter turns, counter-clockwise.

    No encoder takes chroma shared by two rows alone, as after a quarter turn of 4:2:2: such planes
    get full chroma.
    """

    def rotate(plane: Tensor) -> Tensor:
        return torch.rot90(plane.flip(-1) if mirrored else plane, quarters, (-2, -1))

    if quarters % 2 and planes.layout.down != planes.layout.across:
        planes = with_full_chroma(planes)
    return replace(planes, luma=rotate(planes.luma), chroma=rotate(planes.chroma))


def with_full_chroma(planes: Planes) -> Planes:
    """Return planes with a chroma sample for each pixel."""
    layout = replace(planes.layout, down=1, across=1)
    return Planes(planes.luma, _levels(_at_luma(planes.chroma.float(), planes), layout), layout)


def _at_luma(chroma: Tensor, planes: Planes) -> Tensor:
    """Upsample chroma to the size of luma."""
    layout, (height, width) = planes.layout, chroma.shape[1:]
    full = resize_matlab(
        chroma, height * layout.down, width * layout.across, anchors=(CENTRE, layout.anchor)
    )
    return full[:, : planes.height, : planes.width]


def _subsampled(chroma: Tensor, layout: Layout) -> Tensor:
    """Downsample chroma of full size to the stored size."""
    height, width = layout.chroma_size(*chroma.shape[1:])
    down, across = height * layout.down, width * layout.across
    missing = (0, across - chroma.shape[2], 0, down - chroma.shape[1])
    padded = F.pad(chroma, missing, mode="replicate") if any(missing) else chroma
    return resize_matlab(padded, height, width, anchors=(layout.anchor, CENTRE))


def _scaled_planes(rgb: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Return luma and chroma in levels relative to black and neutral; linear in `rgb`."""
    red, blue = RED_AND_BLUE[layout.matrix]
    r, g, b = rgb
    y = red * r + (1 - red - blue) * g + blue * b
    chroma = torch.stack([(b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))])
    return y * layout.luma_span, _subsampled(chroma, layout) * layout.chroma_span


def _levels(samples: Tensor, layout: Layout) -> Tensor:
    """Round to levels that can be stored, uint8 or int32."""
    rounded = samples.round_().clamp_(0, (1 << layout.bits) - 1)
    return rounded.to(torch.uint8 if layout.bits == 8 else torch.int32)
