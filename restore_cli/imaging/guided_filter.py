"""A change that was made to a small copy of an image, carried to the image itself.

Around each pixel of the copy, in each channel, the change is taken for a line: restored =
slope * image + offset. The lines are fitted to the windows of the copy as the guided filter does
it (He, Sun and Tang 2013), averaged over the windows that hold a pixel, and enlarged as in its fast
form (He and Sun 2015); the image goes through them, and its detail and its edges with it.

What is dark needs steep lines, and they multiply its noise. The guided filter flattens them by a
constant. Here they are flattened by the share of the image's own variance that is noise (Wiener),
measured on the full-size image: detail too fine for the copy counts as detail. The card
weights/tml.md compares this with a plain gain, the guided filter as it is, and a bilateral grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

STRIP = 64  # rows that are worked on at once: a large image has no room for copies of itself
RADIUS = 3  # of the windows, in pixels of the copy
FLAT = 1e-7  # variance in a window below which nothing but its means tells the slope
LEAST_SLOPE = 0.3  # of the gain: networks blur, which looks like contrast that was taken away
LEVEL = 1 / 255  # keeps the ratio of two means finite
QUANTISED = LEVEL**2 / 12  # variance of the rounding to 8 bit: the least noise there is
# A difference of neighbours sees too little of noise that a camera or JPEG has smoothed.
UNSEEN_NOISE = 3.0
SAMPLES = 1 << 20  # of the noise, in each channel


@dataclass(frozen=True)
class Copy:
    """An image seen small: (C, h, w) means of its pixels, and of their squares."""

    pixels: Tensor
    squares: Tensor


@dataclass(frozen=True)
class LinearCoefficients:
    """restored = slope * image + offset, each (C, h, w)."""

    slope: Tensor
    offset: Tensor

    def weakened(self, share: float) -> LinearCoefficients:
        """Lines that change an image by that share of what these do."""
        return LinearCoefficients(
            torch.lerp(torch.ones_like(self.slope), self.slope, share), share * self.offset
        )


def downsample(pixels: Tensor, size: Sequence[int]) -> Copy:
    """`pixels` (C, H, W) at `size` (h, w): bilinear, antialiased, proportions not kept."""
    height, width = size
    channels = pixels.shape[0]
    narrow = [
        F.interpolate(
            torch.cat([strip, strip.square()])[None],
            (strip.shape[-2], width),
            mode="bilinear",
            antialias=True,
        )
        for _, strip in strips(pixels)
    ]
    both = F.interpolate(
        torch.cat(narrow, dim=-2), (height, width), mode="bilinear", antialias=True
    )[0]
    return Copy(both[:channels], both[channels:])


def noise_of(pixels: Tensor) -> Tensor:
    """Standard deviation of what is rough from one pixel to the next, (C, 1, 1).

    Immerkaer's second difference, which lines and smooth shades leave at zero; its median, so that
    edges do not count. Noise that is smooth itself is underestimated.
    """
    channels, height, width = pixels.shape
    if min(height, width) < 3:
        return torch.zeros(channels, 1, 1)
    apart = max(1, round((height * width / SAMPLES) ** 0.5))
    rough = torch.zeros(())
    for down, row_weight in enumerate((1, -2, 1)):
        for across, weight in enumerate((1, -2, 1)):
            shifted = pixels[:, down : height - 2 + down, across : width - 2 + across]
            rough = rough + row_weight * weight * shifted[:, ::apart, ::apart]
    deviation = rough.abs().flatten(1).median(1).values / 6 * 1.4826  # of a normal distribution
    return deviation[:, None, None]


def fit_coefficients(copy: Copy, restored: Tensor, noise: Tensor) -> LinearCoefficients:
    """The lines that make `restored` (C, h, w) of the copy, less steep where noise (C, 1, 1) is."""
    mean, wanted = window_mean(copy.pixels), window_mean(restored)
    variance = (window_mean(copy.pixels.square()) - mean.square()).clamp(min=0)
    covariance = window_mean(copy.pixels * restored) - mean * wanted
    gain = (wanted + LEVEL) / (mean + LEVEL)
    slope = (covariance + FLAT * gain) / (variance + FLAT)
    slope = torch.maximum(slope, LEAST_SLOPE * gain)

    noise_variance = UNSEEN_NOISE * noise.square() + QUANTISED
    of_all = (window_mean(copy.squares) - mean.square()).clamp(min=0)  # with the finest detail
    signal = (of_all - noise_variance).clamp(min=0)
    slope = slope * signal / (signal + noise_variance)
    return LinearCoefficients(window_mean(slope), window_mean(wanted - slope * mean))


def through(lines: LinearCoefficients, pixels: Tensor) -> Tensor:
    """What the lines, enlarged by bilinear interpolation, make of `pixels` (C, H, W)."""
    height, width = pixels.shape[-2:]
    channels, rows = lines.slope.shape[:2]
    wide = F.interpolate(
        torch.cat([lines.slope, lines.offset])[None], (rows, width), mode="bilinear"
    )[0]
    result = torch.empty_like(pixels)
    for top, strip in strips(pixels):
        down = torch.arange(top, top + strip.shape[-2], dtype=torch.float32)
        place = ((down + 0.5) * rows / height - 0.5).clamp(0, rows - 1)
        above = place.long()
        below = (above + 1).clamp(max=rows - 1)
        here = torch.lerp(wide[:, above], wide[:, below], (place - above)[:, None])
        torch.addcmul(
            here[channels:], here[:channels], strip, out=result[:, top : top + strip.shape[-2]]
        )
    return result


def strips(pixels: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The first row, and the pixels, of each strip from top to bottom."""
    for top in range(0, pixels.shape[-2], STRIP):
        yield top, pixels[..., top : top + STRIP, :]


def window_mean(x: Tensor) -> Tensor:
    """The mean around each pixel of x (C, h, w), of as many as there are."""
    side = 2 * RADIUS + 1
    return F.avg_pool2d(x[None], side, stride=1, padding=RADIUS, count_include_pad=False)[0]
