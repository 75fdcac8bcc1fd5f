"""Noise estimation, and a denoiser that removes no more than the estimated noise.

A network takes detail for noise where an image has none, or less than it was trained for. Noise
is estimated in small windows that the network made flat: where more was removed than is left, the
window held noise and nothing else. Its variance follows the brightness: a line, as Poisson-Gaussian
noise has it, from which brightness levels with many such windows depart, since tone curves bend it.
Where the power of what was removed exceeds that of the noise, the rest is detail. With noise of
variance s^2 and detail of variance d^2 in what was removed, removing the share s^2 / (s^2 + d^2)
of it leaves the least squared error, as Wiener's filter does.

All statistics are of the whole image, whatever the tiles.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from restore_cli.imaging.planes import Planes, strip_rows
from restore_cli.inference.options import NoiseLimit

WINDOW = 4  # pixels a side; two of them make a block of JPEG, so that none crosses its grid
FEWEST_WINDOWS = 128  # in an image, for an estimate
LARGEST_SAMPLE = 1 << 17  # windows
FLAT = 0.9  # std of what is left, at most, in rms of what was removed
FEWEST_FLAT = 16  # windows, for an estimate above 0
CONSTANT = 1e-10  # variance of a window without noise; less than one level of 16 bit
BESIDE_CONSTANT = 0.1  # flat windows to constant ones, at least: fewer are edges of graphics
MOST_REMOVED = 3.0  # std of noise, in rms of what was removed from the median window
QUIET = 0.1  # quantile of the contrast, which noise exceeds by up to
LOUDEST = 6.0  # times, brightness and chance taken together; beyond are edges
FEWEST_LEVELS = 4  # of 256, that noise of std 1 of 255 takes; patterns of few levels are no noise
ON_A_LINE = 0.98  # of the squared variance of colours, at least, where all lie between two colours
GREYISH = 0.8  # of that variance along the greys, at least, where it may be noise of luma
FAINT = 3 * (2 / 255) ** 2  # variance of the channels together, at which rounding hides a line
LEVELS = 16  # of brightness, at which the noise is estimated
PRIOR = 64  # windows that the line weighs beside those of a level
REACH = 4  # pixels to each side in which the removed power is averaged
TOLERANCE = 1.2  # times the estimated sigma, since power averaged over few pixels varies
STRIP = 256  # rows that are worked on at once
TINY = 1e-12  # of a power, so that nothing is divided by 0


def limit_to_noise(
    pixels: Tensor | Planes,
    denoised: Tensor,
    limit: NoiseLimit = "auto",
    tolerance: float = TOLERANCE,
) -> float | None:
    """Return the estimated sigma in [0, 1], and keep in `denoised` (C, H, W) what was no noise.

    limit: "auto" removes as much as the estimated noise explains, up to `tolerance` times its
    sigma; a number is the sigma itself, in levels of 255; "off" leaves `denoised` as it is.
    None where the image is too small for an estimate: "auto" then leaves `denoised` as it is, too.
    """
    planes = Planes.of(pixels)
    sample = _sampled(planes), _sampled(denoised)
    variance = estimate_variance(planes, *sample)
    if isinstance(limit, float | int):
        constant = denoised.new_full((len(denoised), LEVELS), (limit / 255) ** 2)
        keep_detail(planes, denoised, constant)
    elif limit == "auto" and variance is not None:
        keep_detail(planes, denoised, tolerance**2 * variance)
    if variance is None:
        return None
    return _at(variance, sample[1].mean(-1)).mean().sqrt().item()


def estimate_variance(pixels: Tensor | Planes, noisy: Tensor, denoised: Tensor) -> Tensor | None:
    """Return the variance of the noise by channel and brightness, (C, LEVELS).

    noisy, denoised: windows (C, N, WINDOW * WINDOW) of `pixels` (C, H, W) and of the output.
    """
    if noisy.shape[1] < FEWEST_WINDOWS:
        return None
    removed = (noisy - denoised).square().mean(-1)
    contrast, brightness = noisy.var(-1), denoised.mean(-1)
    shift = (noisy.mean(-1) - brightness).square()  # noise wider than a window
    variance = contrast + torch.minimum(shift, contrast)
    constant = contrast < CONSTANT
    flat = ~constant & (denoised.var(-1, correction=0) <= FLAT**2 * removed)
    flat &= ~_is_coloured_edge(noisy)
    unclipped = ((noisy > 0) & (noisy < 1)).all(-1)
    curves = []
    for channel, levels in enumerate(_levels(Planes.of(pixels))):
        usable = unclipped[channel]
        informative = (flat | constant)[channel]
        if (informative & usable).sum() < FEWEST_FLAT:
            usable = torch.ones_like(usable)
        varied = usable & ~constant[channel]
        chosen = flat[channel] & usable & _is_quiet(contrast[channel], varied)
        none = int((constant[channel] & usable).sum())
        if int(chosen.sum()) < max(FEWEST_FLAT, BESIDE_CONSTANT * none):
            curves.append(brightness.new_zeros(LEVELS))
            continue
        curve, mean = _curve(brightness[channel, chosen], variance[channel, chosen])
        usual = removed[channel, varied].median()
        curve = curve * (MOST_REMOVED**2 * usual / mean).clamp(max=1)
        curves.append(curve.clamp(max=(levels / FEWEST_LEVELS / 255).square()))
    return torch.stack(curves)


def _levels(planes: Planes) -> Tensor:
    """Count the levels of 256 that occur in each channel, (C,)."""
    counts = torch.zeros(planes.shape[0], 256, device=planes.device)
    for strip in planes.strips():
        counts += torch.stack([torch.histc(plane, 256, 0, 1) for plane in strip])
    return (counts > 0).sum(1)


def keep_detail(planes: Planes, denoised: Tensor, variance: Tensor) -> None:
    """Scale down what was removed wherever its power exceeds that of the noise, in place.

    variance: of the noise, (C, LEVELS).
    """
    above = denoised[:, :0]  # removed from the last rows of the strip before, as it was
    step = max(STRIP, strip_rows(planes.device, planes.width))
    for top in range(0, planes.height, step):
        bottom = min(top + step, planes.height)
        below = min(bottom + REACH, planes.height)
        pixels = planes.read(top, below)
        removed = torch.cat([above, pixels - denoised[:, top:below]], dim=1)
        rows = slice(above.shape[1], above.shape[1] + bottom - top)
        above = removed[:, max(rows.stop - REACH, 0) : rows.stop]
        noise = _at(variance, denoised[:, top:bottom])
        share = (noise / _power(removed)[:, rows]).clamp(max=1)
        denoised[:, top:bottom] = pixels[:, : bottom - top] - share * removed[:, rows]
        planes.release()


def _sampled(pixels: Tensor | Planes) -> Tensor:
    """Return windows (C, N, WINDOW * WINDOW): all, or of large images evenly spaced rows."""
    planes = Planes.of(pixels)
    channels, height, width = planes.shape
    rows, columns = height // WINDOW, width // WINDOW
    if not rows * columns:
        return torch.empty(channels, 0, WINDOW * WINDOW, device=planes.device)
    step = max(1, rows * columns // LARGEST_SAMPLE)
    sample = planes.sampled(step * WINDOW, WINDOW)[..., : columns * WINDOW]
    grid = sample.reshape(channels, -1, WINDOW, columns, WINDOW)
    return grid.transpose(2, 3).reshape(channels, -1, WINDOW * WINDOW)


def _is_coloured_edge(windows: Tensor) -> Tensor:
    """Tell for each window, (N,), whether its colours are mixtures of two, as at edges of drawings.

    Noise of channels that differ spreads in all directions, noise of luma along the greys.
    """
    centred = windows - windows.mean(-1, keepdim=True)
    products = torch.einsum("cnk,dnk->ncd", centred, centred) / (windows.shape[-1] - 1)
    power = products.diagonal(dim1=1, dim2=2).sum(-1)
    between_two = products.square().sum((1, 2)) > ON_A_LINE * power.square()
    of_luma = products.sum((1, 2)) / len(windows) > GREYISH * power
    return between_two & ~of_luma & (power > FAINT)


def _is_quiet(contrast: Tensor, varied: Tensor) -> Tensor:
    """Tell for each window, (N,), whether its variance may be that of noise."""
    values = contrast[varied]
    if not len(values):
        return varied
    return contrast <= LOUDEST**2 * values.kthvalue(1 + int(QUIET * (len(values) - 1))).values


def _curve(brightness: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return the variance at each level of brightness, (LEVELS,), and its mean."""
    mean, centre = variance.mean(), brightness.mean()
    spread = brightness.var(correction=0) + 1e-4
    slope = ((brightness - centre) * (variance - mean)).mean() / spread
    low, high = brightness.aminmax()
    levels = (torch.arange(LEVELS, device=brightness.device) + 0.5) / LEVELS
    levels = levels.clamp(low, high)  # a line ends where seen
    line = (mean + slope * (levels - centre)).clamp(min=mean / 20)
    index = (brightness * LEVELS).long().clamp(0, LEVELS - 1)
    counts = torch.bincount(index, minlength=LEVELS)
    sums = torch.bincount(index, variance, minlength=LEVELS)
    return (sums + PRIOR * line) / (counts + PRIOR), mean


def _at(curves: Tensor, brightness: Tensor) -> Tensor:
    """Return the values of `curves` (C, LEVELS) at `brightness` (C, ...), linear between levels."""
    position = (brightness * LEVELS - 0.5).clamp(0, LEVELS - 1)
    low = position.long().clamp(max=LEVELS - 2)
    part = position - low
    values = zip(curves, low, part, strict=True)
    return torch.stack([torch.lerp(c[i], c[i + 1], p) for c, i, p in values])


def _power(removed: Tensor) -> Tensor:
    """Return the mean square around each pixel, of what lies inside the image."""
    side = 2 * REACH + 1
    power = F.avg_pool2d(
        removed.square()[None], side, stride=1, padding=REACH, count_include_pad=False
    )
    return power[0].clamp(min=TINY)
