"""What a denoiser takes away, limited to what the noise of the picture explains.

A network takes detail for noise where a picture has no noise, or less than it was trained for.
Where the picture is flat, what it takes away is noise and nothing else: there the noise is
measured. Elsewhere the removed signal has no more than that power if it is noise; what it has
beyond is detail. With noise of power s^2 and detail of power d^2 in what was removed, taking away
the share s^2 / (s^2 + d^2) of it leaves the least squared error, as Wiener's filter does.

All of it is of the whole picture, in blocks and strips that know nothing of tiles.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 16  # pixels a side, of the places where noise is measured
FLATTEST = 0.15  # share of the blocks, by the contrast of the denoised picture
QUIETEST = 0.1  # quantile of the contrast of the noisy blocks: no noise is above it
DARK, BRIGHT = 0.03, 0.97  # outside, noise is clipped away
FEWEST = 8  # blocks
REACH = 4  # pixels to each side in which the removed power is averaged
TOLERANCE = 1.3  # times the noise, since it is not the same everywhere; see weights/cbsn.md
STRIP = 256  # rows that are worked on at once; a multiple of BLOCK
TINY = 1e-12  # of a power, so that nothing is divided by 0


def limit_to_noise(pixels: Tensor, denoised: Tensor, tolerance: float = TOLERANCE) -> float | None:
    """Give `denoised` (C, H, W) back what was no noise in `pixels`, in place.

    tolerance: up to so many times the noise found, what was removed is taken for noise.
    The deviation of the noise that was found, in the mean of the channels; None where a picture
    is too small to tell, and is left as it was denoised.
    """
    noise = noise_in(pixels, denoised)
    if noise is None:
        return None
    _limit(pixels, denoised, tolerance * noise)
    return noise.mean().item()


def noise_in(pixels: Tensor, denoised: Tensor) -> Tensor | None:
    """Deviation of the noise in each channel, (C,), measured where the picture is flat.

    The median of what was removed from the flattest blocks; but no more than there is in the
    quietest blocks of the picture, flat or not.
    """
    if min(pixels.shape[-2:]) < BLOCK:
        return None
    removed, flatness, contrast, brightness = map(
        torch.cat, zip(*_block_statistics(pixels, denoised), strict=True)
    )
    lit = (brightness > DARK) & (brightness < BRIGHT)
    if lit.sum() < FEWEST:
        lit = torch.ones_like(lit)
    if lit.sum() < FEWEST:
        return None
    removed, flatness, contrast = removed[lit], flatness[lit], contrast[lit]
    flattest = flatness.argsort()[: max(FEWEST, int(FLATTEST * len(flatness)))]
    return torch.minimum(_quantile(removed[flattest], 0.5), _quantile(contrast, QUIETEST))


def _block_statistics(
    pixels: Tensor, denoised: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Of all blocks, strip by strip: the deviation of what was removed (N, C), the contrast of the
    denoised picture (N,) and of the noisy one (N, C), the brightness (N,).
    """
    for top in range(0, pixels.shape[-2] - BLOCK + 1, STRIP):
        noisy, result = (_blocks(p[:, top : top + STRIP]) for p in (pixels, denoised))
        yield (
            (noisy - result).square().mean(-1).sqrt(),
            result.std(-1, correction=0).mean(1),
            noisy.std(-1, correction=0),
            noisy.mean((1, 2)),
        )


def _blocks(strip: Tensor) -> Tensor:
    """(N, C, BLOCK * BLOCK), of what fills whole blocks."""
    channels, height, width = strip.shape
    rows, columns = height // BLOCK, width // BLOCK
    whole = strip[:, : rows * BLOCK, : columns * BLOCK]
    grid = whole.reshape(channels, rows, BLOCK, columns, BLOCK).permute(1, 3, 0, 2, 4)
    return grid.reshape(rows * columns, channels, BLOCK * BLOCK)


def _quantile(values: Tensor, share: float) -> Tensor:
    """Of each column; torch.quantile refuses more than 16 million values."""
    return values.kthvalue(1 + int(share * (len(values) - 1)), dim=0).values


def _limit(pixels: Tensor, denoised: Tensor, noise: Tensor) -> None:
    """Scale down what was removed wherever its power exceeds that of the noise."""
    height = pixels.shape[-2]
    above = pixels[:, :0]  # removed from the last rows of the strip before, as it was
    for top in range(0, height, STRIP):
        bottom = min(top + STRIP, height)
        below = min(bottom + REACH, height)
        removed = torch.cat([above, pixels[:, top:below] - denoised[:, top:below]], dim=1)
        share = (noise.square()[:, None, None] / _power(removed)).clamp(max=1)
        rows = slice(above.shape[1], above.shape[1] + bottom - top)
        above = removed[:, max(rows.stop - REACH, 0) : rows.stop]
        denoised[:, top:bottom] = pixels[:, top:bottom] - (share * removed)[:, rows]


def _power(removed: Tensor) -> Tensor:
    """The mean square around each pixel, of what lies inside the picture."""
    side = 2 * REACH + 1
    power = F.avg_pool2d(
        removed.square()[None], side, stride=1, padding=REACH, count_include_pad=False
    )
    return power[0].clamp(min=TINY)
