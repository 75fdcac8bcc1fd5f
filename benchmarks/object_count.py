"""How many things are in an image of data.objects, and how often an image repeats itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

COLOURFUL = 0.28  # largest minus smallest channel: grounds stay below 0.2, objects lie above
DARK = 0.45  # or the largest channel of a dark part
SMALLEST = 1 / 4  # of the nominal area of an object, to count
NOMINAL = 0.1  # of the image that an object covers


def foreground(image: Tensor) -> Tensor:
    """Where an image (3, H, W) in [0, 1] is coloured strongly, or dark, as no ground is; bool."""
    top, bottom = image.amax(0), image.amin(0)
    return (top - bottom > COLOURFUL) | (top < DARK)


def count_objects(image: Tensor, *, trained: int) -> int:
    """Connected things in an image (3, H, W) of a generator that was trained at a side.

    Counted are those that cover a quarter of what an object covers at the trained size or more:
    what is repeated has that size, and what is grown as it should be is larger. A ball, which its
    white belt cuts in two, counts as two.
    """
    least = SMALLEST * NOMINAL * trained**2
    return sum(area >= least for area in areas(foreground(image)))


def areas(mask: Tensor) -> list[int]:
    """Pixels of each 8-connected part of a mask (H, W).

    Each pixel takes the highest number among its neighbours until nothing changes.
    """
    numbers = torch.arange(1, mask.numel() + 1, dtype=torch.float64).view(1, 1, *mask.shape) * mask
    while True:
        spread = F.max_pool2d(numbers, 3, stride=1, padding=1) * mask
        if torch.equal(spread, numbers):
            break
        numbers = spread
    _, counts = torch.unique(numbers[numbers > 0], return_counts=True)
    return [int(count) for count in counts]


def repetition(image: Tensor, *, trained: int) -> float:
    """The largest autocorrelation of an image's luminance at a distance where objects repeat.

    image: (3, H, W), larger than the trained side. Blurred by H / 32, without its mean, under a
    Hann window; for shifts of 0.35 of the trained side to 0.75 of the image, each normalised by
    what overlaps. 1: as like itself there as without a shift; more is possible, since what lies
    off the middle counts more once it is shifted there. A grown object is like itself near the
    smallest shifts, so the number is to be compared with that of drawn images of the same size.
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
    asked = (distance >= 0.35 * trained) & (distance <= 0.75 * side)
    # Where nearly nothing overlaps the quotient is noise.
    asked &= overlap > 0.02 * overlap.max()
    centre = (correlation / overlap.clamp(min=1e-9))[height - 1, width - 1]
    share: Tensor = (correlation / overlap.clamp(min=1e-9))[asked].max() / centre.clamp(min=1e-12)
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
    """All shifts of b over a: (2 H - 1, 2 W - 1), shift 0 in the middle."""
    height, width = a.shape
    size = (2 * height - 1, 2 * width - 1)
    spectrum = torch.fft.rfft2(a, s=size) * torch.fft.rfft2(b, s=size).conj()
    shifted: Tensor = torch.fft.fftshift(torch.fft.irfft2(spectrum, s=size))
    return shifted
