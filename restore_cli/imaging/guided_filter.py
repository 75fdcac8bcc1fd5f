"""Fast guided filter: transfers the change of a downsampled image to full resolution.

In each window and channel of the downsampled image the change is modelled as a linear function,
restored = slope * image + offset (He, Sun and Tang 2013). The coefficients are averaged over the
windows of a pixel, upsampled, and applied to the full-size image (He and Sun 2015), which keeps its
detail and edges.

Dark areas need large slopes, which amplify noise. The guided filter regularizes them by a constant.
Here the slope is multiplied by the signal's share of the variance (Wiener), measured on the
full-size image, so that detail too fine for the downsampled image counts as signal. The model card
weights/tml.md compares this with a plain gain, the original guided filter and a bilateral grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from restore_cli.imaging.planes import Planes

RADIUS = 3  # of the windows, in downsampled pixels
FLAT = 1e-7  # variance of a window below which its means determine the slope
LEAST_SLOPE = 0.3  # relative to the gain: networks blur, which looks like a loss of contrast
LEVEL = 1 / 255  # keeps the ratio of two means finite
ROUNDING = LEVEL**2 / 12  # variance of rounding to 8 bits, the least noise of an image
# Factor on the variance, since noise smoothed by a camera or JPEG is underestimated.
UNSEEN_NOISE = 3.0
SAMPLES = 1 << 20  # per channel, for the noise estimate


@dataclass(frozen=True)
class Downsampled:
    """A downsampled image: local means (C, h, w) of pixels and of squared pixels."""

    pixels: Tensor
    squares: Tensor


@dataclass(frozen=True)
class LinearCoefficients:
    """Coefficients of restored = slope * image + offset, each (C, h, w)."""

    slope: Tensor
    offset: Tensor

    def weakened(self, share: float) -> LinearCoefficients:
        """Return coefficients that apply this share of the change."""
        return LinearCoefficients(
            torch.lerp(torch.ones_like(self.slope), self.slope, share), share * self.offset
        )


def downsample(pixels: Tensor | Planes, size: Sequence[int]) -> Downsampled:
    """Downsample `pixels` (C, H, W) to `size` (h, w): bilinear, antialiased, any aspect ratio."""
    height, width = size
    planes = Planes.of(pixels)
    channels = planes.shape[0]
    narrow = [
        F.interpolate(
            torch.cat([strip, strip.square()])[None],
            (strip.shape[-2], width),
            mode="bilinear",
            antialias=True,
        )
        for strip in planes.strips()
    ]
    averages = F.interpolate(
        torch.cat(narrow, dim=-2), (height, width), mode="bilinear", antialias=True
    )[0]
    return Downsampled(averages[:channels], averages[channels:])


def noise_std(pixels: Tensor | Planes) -> Tensor:
    """Estimate the noise std per channel, (C, 1, 1).

    The median of Immerkaer's second difference, which is zero for lines and smooth shades; the
    median ignores edges. Spatially correlated noise is underestimated.
    """
    planes = Planes.of(pixels)
    channels, height, width = planes.shape
    if min(height, width) < 3:
        return torch.zeros(channels, 1, 1, device=planes.device)
    step = max(1, round((height * width / SAMPLES) ** 0.5))
    sample = planes.sampled(step, rows=3)
    differences = torch.zeros(())
    for down, row_weight in enumerate((1, -2, 1)):
        for across, weight in enumerate((1, -2, 1)):
            shifted = sample[:, :, down, across : width - 2 + across]
            differences = differences + row_weight * weight * shifted[..., ::step]
    median = differences.abs().flatten(1).median(1).values
    std = median / 6 * 1.4826  # for a normal distribution
    return std[:, None, None]


def fit_coefficients(
    downsampled: Downsampled, restored: Tensor, noise: Tensor
) -> LinearCoefficients:
    """Fit the change from `downsampled` to `restored` (C, h, w); noise: its std, (C, 1, 1)."""
    mean, target = window_mean(downsampled.pixels), window_mean(restored)
    variance = (window_mean(downsampled.pixels.square()) - mean.square()).clamp(min=0)
    covariance = window_mean(downsampled.pixels * restored) - mean * target
    gain = (target + LEVEL) / (mean + LEVEL)
    slope = (covariance + FLAT * gain) / (variance + FLAT)
    slope = torch.maximum(slope, LEAST_SLOPE * gain)

    noise_variance = UNSEEN_NOISE * noise.square() + ROUNDING
    total = (window_mean(downsampled.squares) - mean.square()).clamp(min=0)  # with fine detail
    signal = (total - noise_variance).clamp(min=0)
    slope = slope * signal / (signal + noise_variance)
    return LinearCoefficients(window_mean(slope), window_mean(target - slope * mean))


def apply(coefficients: LinearCoefficients, pixels: Tensor | Planes, result: Tensor) -> Tensor:
    """Upsample coefficients bilinearly, apply them to `pixels` (C, H, W), and fill `result`."""
    planes = Planes.of(pixels)
    height, width = planes.shape[-2:]
    channels, rows = coefficients.slope.shape[:2]
    wide = F.interpolate(
        torch.cat([coefficients.slope, coefficients.offset])[None], (rows, width), mode="bilinear"
    )[0]
    for top, bottom in planes.spans():
        down = torch.arange(top, bottom, dtype=torch.float32, device=wide.device)
        place = ((down + 0.5) * rows / height - 0.5).clamp(0, rows - 1)
        above = place.long()
        below = (above + 1).clamp(max=rows - 1)
        local = torch.lerp(wide[:, above], wide[:, below], (place - above)[:, None])
        strip = planes.read(top, bottom)
        result[:, top:bottom] = torch.addcmul(local[channels:], local[:channels], strip)
    return result


def window_mean(x: Tensor) -> Tensor:
    """Return the mean of x (C, h, w) in the window of each pixel, cropped at the border."""
    side = 2 * RADIUS + 1
    return F.avg_pool2d(x[None], side, stride=1, padding=RADIUS, count_include_pad=False)[0]
