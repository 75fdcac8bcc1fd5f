"""Frames of a video as planes of luma and chroma, and what networks want of them.

Networks take RGB, or luma alone. What leaves a plane and comes back is not what it was, if chroma
is stored at half the size; so an image that keeps its size comes back as its old planes plus what
the network has changed. Where it changed nothing, every sample stays as it was.
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

RED_AND_BLUE: dict[Matrix, tuple[float, float]] = {  # shares of R and B in luma; ITU-T H.273
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
LEFT = 0.25  # where in its pair of columns MPEG-2, H.264 and their successors put a chroma sample


@dataclass(frozen=True)
class Layout:
    """How samples are stored. `down`, `across`: rows and columns that share a chroma sample."""

    down: int = 2
    across: int = 2
    bits: int = 8
    full_range: bool = False
    matrix: Matrix = "bt709"

    @property
    def unit(self) -> int:
        """Levels of this depth to one of 8 bits."""
        return 1 << (self.bits - 8)

    @property
    def black(self) -> float:
        return 0.0 if self.full_range else 16.0 * self.unit

    @property
    def luma_span(self) -> float:
        """Levels from black to white."""
        return (1 << self.bits) - 1.0 if self.full_range else 219.0 * self.unit

    @property
    def chroma_span(self) -> float:
        return (1 << self.bits) - 1.0 if self.full_range else 224.0 * self.unit

    @property
    def neutral(self) -> float:
        """The chroma of grey."""
        return 128.0 * self.unit

    def chroma_size(self, height: int, width: int) -> tuple[int, int]:
        return -(-height // self.down), -(-width // self.across)

    @property
    def anchor(self) -> float:
        """Where a chroma sample sits in the columns that share it, 0 left to 1 right."""
        return LEFT if self.across == 2 else CENTRE


@dataclass(frozen=True)
class Planes:
    """Levels of one frame: luma (H, W), chroma (2, h, w) blue first; whole numbers of any dtype."""

    luma: Tensor
    chroma: Tensor
    layout: Layout

    @property
    def height(self) -> int:
        return self.luma.shape[0]

    @property
    def width(self) -> int:
        return self.luma.shape[1]


def to_luma(planes: Planes) -> Tensor:
    """(1, H, W), as `colour.rgb_to_ycbcr` has it: black is 16 / 255, white 235 / 255."""
    layout = planes.layout
    scale = 219 / layout.luma_span / 255
    return (planes.luma.float() * scale + (16 / 255 - layout.black * scale))[None]


def with_luma(planes: Planes, luma: Tensor) -> Planes:
    """The frame with larger luma (1, H', W'), as `to_luma` has it; chroma grows by bicubic."""
    layout = planes.layout
    scale = 255 / 219 * layout.luma_span
    levels = _levels(luma[0] * scale + (layout.black - 16 / 255 * scale), layout)
    height, width = layout.chroma_size(*levels.shape)
    # An odd last row or column has a sample of its own, which reaches beyond the image.
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
    """(3, H, W) in [0, 1]."""
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
    """Planes of an image (3, H, W) in [0, 1]."""
    luma, chroma = _scaled_planes(rgb, layout)
    return Planes(
        _levels(luma + layout.black, layout), _levels(chroma + layout.neutral, layout), layout
    )


def changed(planes: Planes, before: Tensor, after: Tensor) -> Planes:
    """`planes`, whose `to_rgb` is `before`, with what makes `after` of it; both (3, H, W)."""
    luma, chroma = _scaled_planes(after - before, planes.layout)
    return replace(
        planes,
        luma=_levels(planes.luma.float() + luma, planes.layout),
        chroma=_levels(planes.chroma.float() + chroma, planes.layout),
    )


def turned(planes: Planes, quarters: int, mirrored: bool) -> Planes:
    """Mirrored left to right where asked for, then turned by 90 degrees, counter-clockwise.

    Chroma that two columns share would then be shared by two rows, which no encoder takes: it
    gets a sample for each pixel.
    """

    def turn(plane: Tensor) -> Tensor:
        return torch.rot90(plane.flip(-1) if mirrored else plane, quarters, (-2, -1))

    if quarters % 2 and planes.layout.down != planes.layout.across:
        planes = with_full_chroma(planes)
    return replace(planes, luma=turn(planes.luma), chroma=turn(planes.chroma))


def with_full_chroma(planes: Planes) -> Planes:
    """The same with a chroma sample for each pixel."""
    layout = replace(planes.layout, down=1, across=1)
    return Planes(planes.luma, _levels(_at_luma(planes.chroma.float(), planes), layout), layout)


def _at_luma(chroma: Tensor, planes: Planes) -> Tensor:
    """A value of chroma for each of luma."""
    layout, (height, width) = planes.layout, chroma.shape[1:]
    full = resize_matlab(
        chroma, height * layout.down, width * layout.across, anchors=(CENTRE, layout.anchor)
    )
    return full[:, : planes.height, : planes.width]


def _shared(chroma: Tensor, layout: Layout) -> Tensor:
    """The reverse: as many values as are stored."""
    height, width = layout.chroma_size(*chroma.shape[1:])
    down, across = height * layout.down, width * layout.across
    missing = (0, across - chroma.shape[2], 0, down - chroma.shape[1])
    padded = F.pad(chroma, missing, mode="replicate") if any(missing) else chroma
    return resize_matlab(padded, height, width, anchors=(layout.anchor, CENTRE))


def _scaled_planes(rgb: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Luma and chroma in levels above black and neutral; linear in rgb."""
    red, blue = RED_AND_BLUE[layout.matrix]
    r, g, b = rgb
    y = red * r + (1 - red - blue) * g + blue * b
    chroma = torch.stack([(b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))])
    return y * layout.luma_span, _shared(chroma, layout) * layout.chroma_span


def _levels(samples: Tensor, layout: Layout) -> Tensor:
    """Rounded to what can be stored, uint8 or int32."""
    rounded = samples.round_().clamp_(0, (1 << layout.bits) - 1)
    return rounded.to(torch.uint8 if layout.bits == 8 else torch.int32)
