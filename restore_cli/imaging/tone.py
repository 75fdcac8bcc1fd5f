"""Limits on brightening: hue and black are kept, and low contrast is stretched."""

from __future__ import annotations

import torch
from torch import Tensor

from restore_cli.imaging.colour import mix
from restore_cli.imaging.planes import Planes

LUMINANCE = (0.299, 0.587, 0.114)  # of RGB
LEVEL = 1 / 255  # keeps the ratio of two luminances finite
LEAST_SATURATION = 0.6  # relative to a plain gain; chosen in weights/tml.md
TOE = 6 / 255  # lowest level that is restored completely
TOE_SHARE = 0.5  # limit of the toe, relative to the mean brightness
PURE = 0.5  # highest level of black, relative to the toe
BLACK_SHARE, WHITE_SHARE = 0.002, 0.02  # shares of pixels beyond black and white point
BLACK_POINT, WHITE_POINT = 0.01, 0.95  # targets of the points, unless they lie beyond
LARGEST_SHIFT = 0.5  # of either point, relative to the range between them
SAMPLES = 1 << 20  # pixels from which the points are estimated
TINY = 1e-6


def luminance(pixels: Tensor) -> Tensor:
    """Return the brightness of each pixel of (3, H, W) as (1, H, W)."""
    return mix(pixels, LUMINANCE)


def keep_hue(pixels: Tensor, changed: Tensor) -> Tensor:
    """Return `changed` with the hue of `pixels`, both (C, H, W) in [0, 1].

    Luminance is that of `changed`. Saturation follows `changed` within bounds: a plain gain on
    `pixels` and LEAST_SATURATION of it. It is reduced where a channel would be clipped.
    """
    if pixels.shape[0] == 1:
        return changed
    before, after = luminance(pixels), luminance(changed)
    chroma = pixels - before
    gain = (after + LEVEL) / (before + LEVEL)
    projected = (chroma * (changed - after)).sum(0, keepdim=True)
    scale = projected / chroma.square().sum(0, keepdim=True).clamp(min=TINY)
    chroma = chroma * torch.clamp(scale, LEAST_SATURATION * gain, gain)
    room = torch.where(chroma > 0, 1 - after, after) / chroma.abs().clamp(min=TINY)
    return after + chroma * room.amin(0, keepdim=True).clamp(max=1)


def toe_of(brightness: float) -> float:
    """Return the level below which an image of this mean brightness fades to black."""
    return max(min(TOE, TOE_SHARE * brightness), TINY)


def keep_dark(pixels: Tensor, changed: Tensor, toe: float) -> Tensor:
    """Return `changed` (C, H, W), faded into `pixels` where those are below the toe."""
    return torch.lerp(pixels, changed, _smooth(pixels.amax(0, keepdim=True) / toe))


def keep_black(pixels: Tensor | Planes, changed: Tensor, toe: float) -> None:
    """Fade `changed` (C, H, W) into `pixels` where those are purely black, in place.

    A pixel is black if it lies in 5 x 5 dark pixels: single dark pixels of noise do not count, and
    black areas extend to their edges.
    """
    from kornia.morphology import closing

    planes = Planes.of(pixels)
    for top, bottom in planes.spans():
        above = max(top - 4, 0)
        around = planes.read(above, min(bottom + 4, planes.height))
        closed = closing(around.amax(0)[None, None], around.new_ones(5, 5))[0]
        inner = slice(top - above, bottom - above)
        share = _smooth(closed[:, inner] / (PURE * toe))
        strip = changed[:, top:bottom]
        strip.copy_(torch.lerp(around[:, inner], strip, share))


def _smooth(x: Tensor) -> Tensor:
    """Evaluate the smoothstep curve from 0 to 1."""
    x = x.clamp(0, 1)
    return x.square() * (3 - 2 * x)


def stretch_contrast(pixels: Tensor | Planes, share: float) -> None:
    """Move the black and the white point of `pixels` (C, H, W) by `share` of the way, in place.

    Both are quantiles of the pixels. All channels change alike. Each point moves by at most half
    the range between them, so that a flat image does not change.
    """
    planes = Planes.of(pixels)
    step = max(1, round((planes.height * planes.width / SAMPLES) ** 0.5))
    sample = planes.sampled(step, rows=1)[:, :, 0, ::step].clamp(0, 1)
    black = _quantile(sample.amin(0), BLACK_SHARE)
    white = _quantile(sample.amax(0), 1 - WHITE_SHARE)
    reach = LARGEST_SHIFT * (white - black)
    lower = max(min(black, BLACK_POINT), black - reach)
    upper = min(max(white, WHITE_POINT), white + reach)
    if (lower, upper) == (black, white):
        return
    gain = 1 + share * ((upper - lower) / (white - black) - 1)
    for strip in planes.strips():
        strip.clamp_(0, 1).mul_(gain).add_(black + share * (lower - black) - gain * black)


def _quantile(values: Tensor, share: float) -> float:
    return values.flatten().kthvalue(1 + round(share * (values.numel() - 1))).values.item()
