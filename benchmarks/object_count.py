"""Count the drawn objects in an image, and measure its repetition."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

COLOURFUL = 0.28  # largest minus smallest channel; backgrounds stay below 0.2
DARK = 0.45  # largest channel of a dark part
SMALLEST = 1 / 4  # of the nominal area, for an object to count
NOMINAL = 0.1  # share of the image that an object covers


def foreground(image: Tensor) -> Tensor:
    """Return a mask of the saturated or dark pixels of an image (3, H, W) in [0, 1]."""
    top, bottom = image.amax(0), image.amin(0)
    return (top - bottom > COLOURFUL) | (top < DARK)


def count_objects(image: Tensor, *, trained: int) -> int:
    """Count the connected objects in an image (3, H, W) of a generator.

    trained: side of its training images. Objects count from a quarter of their area at the trained
    size: repeated objects have that size, and an object that grows with the image is larger. A
    ball counts as two, since its white belt divides it.
    """
    least = SMALLEST * NOMINAL * trained**2
    return sum(area >= least for area in areas(foreground(image)))


def areas(mask: Tensor) -> list[int]:
    """Return the number of pixels of each 8-connected part of a mask (H, W).

    Each pixel takes the highest label among its neighbours until nothing changes.
    """
    labels = torch.arange(1, mask.numel() + 1, dtype=torch.float64).view(1, 1, *mask.shape) * mask
    while True:
        grown = F.max_pool2d(labels, 3, stride=1, padding=1) * mask
        if torch.equal(grown, labels):
            break
        labels = grown
    _, counts = torch.unique(labels[labels > 0], return_counts=True)
    return [int(count) for count in counts]


def repetition(image: Tensor, *, trained: int) -> float:
    """Return the largest autocorrelation of the luminance at a distance where objects repeat.

    image: (3, H, W), larger than the trained side. It is blurred by H / 32, without its mean, under
    a Hann window. Shifts are 0.35 of the trained side to 0.75 of the image, each normalized by the
    overlap. 1: as similar as without a shift; values above 1 are possible, since the window weighs
    shifted parts more. A large object resembles itself near the smallest shifts, so the score is
    to be compared with that of drawn images of the same size.
    """
    side = min(image.shape[-2:])
    luminance = _blurred(image.mean(0), side / 32)
    window = torch.outer(*(torch.hann_window(n, periodic=False) for n in luminance.shape))
    weighted = (luminance - (luminance * window).sum() / window.sum()) * window
    correlation = _correlate(weighted, weighted)
    overlap = _correlate(window, window)
    height, width = luminance.shape
    dy, dx = torch.arange(-height + 1, height), torch.arange(-width + 1, width)
    distance = torch.hypot(dy[:, None].double(), dx[None, :].double())
    valid = (distance >= 0.35 * trained) & (distance <= 0.75 * side)
    # With little overlap the quotient is noise.
    valid &= overlap > 0.02 * overlap.max()
    centre = (correlation / overlap.clamp(min=1e-9))[height - 1, width - 1]
    share: Tensor = (correlation / overlap.clamp(min=1e-9))[valid].max() / centre.clamp(min=1e-12)
    return share.item()


def _blurred(image: Tensor, sigma: float) -> Tensor:
    reach = max(1, round(3 * sigma))
    bell = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    bell = bell / bell.sum()
    padded = F.pad(image[None, None], (reach,) * 4, mode="replicate")
    across = F.conv2d(padded, bell[None, None, None, :])
    blurred: Tensor = F.conv2d(across, bell[None, None, :, None])[0, 0]
    return blurred


def _correlate(a: Tensor, b: Tensor) -> Tensor:
    """Correlate a with all shifts of b: (2 H - 1, 2 W - 1), shift 0 in the middle."""
    height, width = a.shape
    size = (2 * height - 1, 2 * width - 1)
    spectrum = torch.fft.rfft2(a, s=size) * torch.fft.rfft2(b, s=size).conj()
    shifted: Tensor = torch.fft.fftshift(torch.fft.irfft2(spectrum, s=size))
    return shifted
