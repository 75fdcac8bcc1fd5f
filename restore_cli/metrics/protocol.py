"""Evaluation protocols: the processing of two images before they are measured.

PSNR depends on the protocol: luma instead of RGB adds more than 1 dB, a cropped border changes up
to 0.3 dB, rounding some hundredths.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from torch import Tensor

from restore_cli.errors import ImageTooSmall, InputError
from restore_cli.imaging.colour import luma, quantize
from restore_cli.metrics.pixel import psnr
from restore_cli.metrics.structure import MS_SSIM_SIDE, WINDOW, ssim, ssim_and_ms_ssim

Rounding = Literal["uint8", "float"]


@dataclass(frozen=True)
class EvalProtocol:
    """Clamp to [0, 1], round, convert, round luma, crop the border, in this order."""

    name: str
    space: Literal["rgb", "y"]  # y: BT.601 studio range, divided by 255
    rounding: Rounding  # of the given images
    luma_rounding: Rounding | None  # of Y; None in RGB
    border: int  # pixels cropped on each side


PROTOCOLS: Mapping[str, EvalProtocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            # Denoising (C-BSN) and low light; the default.
            EvalProtocol("rgb", "rgb", rounding="uint8", luma_rounding=None, border=0),
            # MIRNet's denoising and enhancement; the only one that measures more than 8 bit.
            EvalProtocol("rgb_float", "rgb", rounding="float", luma_rounding=None, border=0),
            # MATLAB's rgb2ycbcr of 8-bit images: 8-bit luma.
            EvalProtocol("y", "y", rounding="uint8", luma_rounding="uint8", border=0),
            # Deraining (DPENet): luma of 8-bit images, not rounded.
            EvalProtocol("y_float", "y", rounding="uint8", luma_rounding="float", border=0),
            # Super-resolution (ESPCN, MIRNet): the cropped border equals the scale.
            EvalProtocol("sr_x2", "y", rounding="uint8", luma_rounding="uint8", border=2),
            EvalProtocol("sr_x3", "y", rounding="uint8", luma_rounding="uint8", border=3),
            EvalProtocol("sr_x4", "y", rounding="uint8", luma_rounding="uint8", border=4),
        )
    }
)


@dataclass(frozen=True)
class Scores:
    """Scores of one pair of images."""

    psnr: float  # dB; inf for identical images
    ssim: float | None  # None: a side is shorter than 11 px
    ms_ssim: float | None  # None: a side is shorter than 161 px


@dataclass(frozen=True)
class Means:
    """Mean scores over the pairs that have each score; None where none has."""

    psnr: float | None  # without identical pairs; inf where all are identical
    ssim: float | None
    ms_ssim: float | None


def measure(restored: Tensor, reference: Tensor, protocol: EvalProtocol) -> Scores:
    """Return the scores of one image under `protocol`, computed in float64.

    restored, reference: (C, H, W) nominally in [0, 1]; C = 3 RGB or 1 grey, where grey counts as
    three equal channels. Raises InputError where the sizes differ, ImageTooSmall
    where the border leaves nothing.
    """
    if restored.shape[-2:] != reference.shape[-2:]:
        raise InputError(
            f"the restored image is {_size(restored)}, its reference {_size(reference)}",
            hint="measure images of the same width and height",
        )
    x, y = _prepare(restored, protocol), _prepare(reference, protocol)
    if x.shape[0] != y.shape[0]:
        x, y = x.expand(3, -1, -1), y.expand(3, -1, -1)
    return Scores(psnr(x, y).item(), *_structure(x, y))


def means_of(scores: Sequence[Scores]) -> Means:
    """Return the mean of each score over the pairs that have it."""
    finite = [each.psnr for each in scores if not math.isinf(each.psnr)]
    return Means(
        psnr=_mean(finite) if finite or not scores else math.inf,
        ssim=_mean([each.ssim for each in scores if each.ssim is not None]),
        ms_ssim=_mean([each.ms_ssim for each in scores if each.ms_ssim is not None]),
    )


def _structure(x: Tensor, y: Tensor) -> tuple[float | None, float | None]:
    """Return SSIM and MS-SSIM, each None where the image is too small for it."""
    side = min(x.shape[-2:])
    if side < WINDOW:
        return None, None
    if side < MS_SSIM_SIDE:
        return ssim(x, y).item(), None
    single, multi = ssim_and_ms_ssim(x, y)
    return single.item(), multi.item()


def _prepare(pixels: Tensor, protocol: EvalProtocol) -> Tensor:
    # On the CPU, since not every device supports float64.
    pixels = _round(pixels.cpu().double(), protocol.rounding)
    if protocol.space == "y":
        pixels = _round(luma(pixels), protocol.luma_rounding)
    border, (height, width) = protocol.border, pixels.shape[-2:]
    if min(height, width) <= 2 * border:
        raise ImageTooSmall(
            f"the image is {_size(pixels)}: nothing is left when protocol {protocol.name} "
            f"crops {border} px on each side"
        )
    return pixels[:, border : height - border, border : width - border]


def _round(x: Tensor, rounding: Rounding | None) -> Tensor:
    return quantize(x) if rounding == "uint8" else x.clamp(0, 1)


def _size(pixels: Tensor) -> str:
    return f"{pixels.shape[-1]}x{pixels.shape[-2]}"


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
