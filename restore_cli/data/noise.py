"""Camera noise and white Gaussian noise.

A sensor counts photons: its noise is Poisson plus Gaussian, independent in each pixel of the
mosaic. Demosaicing, denoising, resizing and JPEG correlate it over neighbours and channels: in
photographs the correlation of noise is 0.6 to 0.7 with the next pixel, 0.3 to 0.45 with the second
next, 0.65 with the other channels (tests/data/test_noise.py checks this).

Unprocessing after Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019.
Every function is a pure function of its arguments and a torch.Generator; images are
(3, H, W) in [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from restore_cli.data.degrade import happens, log_uniform, uniform
from restore_cli.imaging.codecs.jpeg import through_jpeg

LINEAR_SRGB_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
# Of four cameras, from the metadata of their raw files, as listed by Brooks et al.
XYZ_TO_CAMERA = (
    ((1.0234, -0.2969, -0.2266), (-0.5625, 1.6328, -0.0469), (-0.0703, 0.2188, 0.6406)),
    ((0.4913, -0.0541, -0.0202), (-0.6130, 1.3513, 0.2906), (-0.1564, 0.2151, 0.7183)),
    ((0.8380, -0.2630, -0.0639), (-0.2887, 1.0725, 0.2496), (-0.0627, 0.1427, 0.5438)),
    ((0.6596, -0.2079, -0.0562), (-0.4782, 1.3016, 0.1933), (-0.0970, 0.1581, 0.5181)),
)
HIGHLIGHT = 0.9  # brightness from which inverted gains fade out, so that white stays white
LARGEST_SIGMA = 55 / 255  # of white noise, as in the trainings of the denoising papers


@dataclass(frozen=True)
class Camera:
    """Colour processing of one camera."""

    to_camera: Tensor  # (3, 3) linear sRGB -> camera colours, each row of sum 1
    gains: Tensor  # (3, 1, 1) of white balance and exposure


@dataclass(frozen=True)
class NoiseLaw:
    """Distribution of sensor noise: variance = shot * signal + read.

    ln(read) = slope * ln(shot) + offset, plus normal noise of std `log_std`.
    """

    shot: tuple[float, float]  # log-uniform
    slope: float
    offset: float
    log_std: float


LN10 = math.log(10)
DND = NoiseLaw((1e-4, 1.2e-2), 2.18, 1.20, 0.26)  # Brooks et al., natural logarithms
SIDD = NoiseLaw((6.8674e-4, 2.194856e-2), 1.85, 0.30 * LN10, 0.20 * LN10)  # CycleISP, base 10


def random_camera(generator: Generator) -> Camera:
    mix = torch.rand(4, generator=generator)
    xyz_to_camera = (torch.tensor(XYZ_TO_CAMERA) * (mix / mix.sum())[:, None, None]).sum(0)
    to_camera = xyz_to_camera @ torch.tensor(LINEAR_SRGB_TO_XYZ)
    exposure = 1 / (0.8 + 0.1 * torch.randn((), generator=generator).clamp(-3, 3).item())
    red, blue = uniform(1.9, 2.4, generator), uniform(1.5, 1.9, generator)
    gains = torch.tensor([red, 1.0, blue])[:, None, None] * exposure
    return Camera(to_camera / to_camera.sum(1, keepdim=True), gains)


def unprocess(srgb: Tensor, camera: Camera) -> Tensor:
    """Return the linear camera colours of a photograph, before the mosaic."""
    untoned = 0.5 - torch.sin(torch.asin(1 - 2 * srgb.clamp(0, 1)) / 3)  # inverse of smoothstep
    linear = untoned.clamp(min=1e-8) ** 2.2
    raw = _mix(linear, camera.to_camera)
    bright = ((raw.mean(0) - HIGHLIGHT) / (1 - HIGHLIGHT)).clamp(min=0) ** 2
    inverse = 1 / camera.gains
    return (raw * torch.maximum(bright + (1 - bright) * inverse, inverse)).clamp(0, 1)


def process(raw: Tensor, camera: Camera) -> Tensor:
    """Return the photograph that a camera makes of linear camera colours."""
    linear = _mix(raw * camera.gains, torch.linalg.inv(camera.to_camera)).clamp(0, 1)
    encoded = linear.clamp(min=1e-8) ** (1 / 2.2)
    return encoded * encoded * (3 - 2 * encoded)  # smoothstep


def random_levels(law: NoiseLaw, generator: Generator) -> tuple[float, float]:
    """Draw the variances (shot, read) of a sensor."""
    shot = log_uniform(*law.shot, generator)
    offset = law.offset + law.log_std * torch.randn((), generator=generator).item()
    return shot, math.exp(law.slope * math.log(shot) + offset)


def sensor_noise(raw: Tensor, shot: float, read: float, generator: Generator) -> Tensor:
    """Return the noise of a demosaiced image, (3, H, W).

    Bilinear demosaicing is linear, so the noise of an RGGB mosaic is demosaiced separately; the
    image keeps its detail, as with better demosaicing.
    """
    variance = shot * raw.clamp(min=0) + read
    noise = torch.randn(raw.shape, generator=generator) * variance.sqrt()
    return _demosaic(noise * _bayer(*raw.shape[-2:]))


def camera_processed(noise: Tensor, generator: Generator) -> Tensor:
    """Return the noise after the denoising and resizing of a camera.

    Cameras smooth chroma more than luma, which correlates the noise of the channels.
    """
    shared = uniform(0.5, 0.9, generator)
    noise = _shared(noise, shared)
    draw = uniform(0, 1, generator)
    if draw < 0.2:
        return blur(noise, uniform(0.6, 1.4, generator))
    if draw < 0.4:
        return _resampled(noise, uniform(0.5, 1.0, generator))
    return noise


def photograph_noise(clean: Tensor, generator: Generator) -> Tensor:
    """Add camera noise to `clean`: of the sensor, processed, often JPEG; 8 bit."""
    law = DND if happens(0.5, generator) else SIDD
    shot, read = random_levels(law, generator)
    camera = random_camera(generator)
    raw = unprocess(clean, camera)
    sensed = raw + sensor_noise(raw, shot, read, generator)
    noise = process(sensed, camera) - process(raw, camera)
    return to_file(clean + camera_processed(noise, generator), generator)


def correlated_noise(clean: Tensor, shot: float, read: float, generator: Generator) -> Tensor:
    """Add noise of variance shot * clean + read, correlated over pixels and channels.

    A fast approximation of a camera, in sRGB; neither clipped nor rounded.
    """
    others = uniform(0.3, 0.6, generator)  # share of the noise of each other channel
    mixing = torch.full((3, 3), others).fill_diagonal_(1)
    mixing = mixing / mixing.square().sum(1, keepdim=True).sqrt()
    white = torch.randn(clean.shape, generator=generator)
    noise = blur(_mix(white, mixing), uniform(0.4, 1.0, generator), keep_power=True)
    return clean + noise * (shot * clean.clamp(min=0) + read).sqrt()


def blotched_noise(clean: Tensor, sigma: float, generator: Generator) -> Tensor:
    """Add noise as the denoising in cameras leaves it: fine grain, and blotches below it.

    Blotches are coarser than the receptive field of a camera's denoiser, and more colourful than
    the grain. sigma: of all noise at brightness 0.4; it varies with brightness as after a tone
    curve. Neither clipped nor rounded.
    """
    grain = blur(torch.randn(clean.shape, generator=generator), uniform(0.35, 1.1, generator))
    grain = _shared(grain, uniform(0.3, 0.9, generator))
    blotches = _coarse(clean, log_uniform(2, 12, generator), generator)
    blotches = _shared(blotches, uniform(0, 0.8, generator))
    share = uniform(0, 0.5, generator)  # of the blotches in the power
    noise = math.sqrt(1 - share) * _unit_power(grain) + math.sqrt(share) * _unit_power(blotches)
    law = ((clean.mean(0) + 0.1) / 0.5) ** uniform(-0.4, 0.5, generator)
    return clean + sigma * law * noise


def gaussian_noise(clean: Tensor, sigma: float, generator: Generator) -> Tensor:
    """Add white Gaussian noise of std `sigma`; neither clipped nor rounded."""
    return clean + sigma * torch.randn(clean.shape, generator=generator)


def random_gaussian_noise(clean: Tensor, generator: Generator) -> Tensor:
    """Add white noise as in the tables of the denoising papers, any sigma up to 55 of 255."""
    return gaussian_noise(clean, uniform(0, LARGEST_SIGMA, generator), generator)


def random_noise(clean: Tensor, generator: Generator) -> Tensor:
    """Add noise for a general denoiser: 50 % camera, 20 % correlated, 25 % white, 5 % none."""
    draw = uniform(0, 1, generator)
    if draw < 0.50:
        return photograph_noise(clean, generator)
    if draw < 0.70:
        shot, read = uniform(0, 0.02, generator), uniform(0, 6e-4, generator)
        return to_file(correlated_noise(clean, shot, read, generator), generator)
    if draw < 0.95:
        return random_gaussian_noise(clean, generator)
    return clean


def random_weak_noise(clean: Tensor, generator: Generator) -> Tensor:
    """Add noise as in ordinary photographs: mostly weak, and none in one of eight.

    A sigma of 0.6 to 14 of 255 is drawn log-uniformly, so that half is below 3. Strong noise is
    included: a quarter is photograph_noise, 8 % is white up to 50 of 255. Half of the clean images
    are compressed by JPEG of high quality; the network has to leave them unchanged.
    """
    draw = uniform(0, 1, generator)
    if draw < 0.12:
        return through_jpeg(clean, int(uniform(85, 101, generator))) if draw < 0.06 else clean
    if draw < 0.57:
        sigma = log_uniform(0.6, 14, generator) / 255
        return to_file(blotched_noise(clean, sigma, generator), generator)
    if draw < 0.82:
        return photograph_noise(clean, generator)
    if draw < 0.92:
        shot, read = uniform(0, 0.02, generator), uniform(0, 6e-4, generator)
        return to_file(correlated_noise(clean, shot, read, generator), generator)
    return gaussian_noise(clean, log_uniform(1, 50, generator) / 255, generator)


def random_any_noise(clean: Tensor, generator: Generator) -> Tensor:
    """Add random_noise or random_weak_noise with equal probability."""
    if happens(0.5, generator):
        return random_noise(clean, generator)
    return random_weak_noise(clean, generator)


def to_file(pixels: Tensor, generator: Generator) -> Tensor:
    """Quantize to 8 bit; half of the time by JPEG of quality 60 to 95."""
    if happens(0.5, generator):
        return through_jpeg(pixels, int(uniform(60, 96, generator)))
    return (pixels.clamp(0, 1) * 255).round() / 255


def blur(noise: Tensor, sigma: float, *, keep_power: bool = False) -> Tensor:
    """Blur by a 5x5 Gaussian; keep_power: white noise keeps its variance instead of its mean."""
    from kornia.filters import filter2d_separable

    offsets = torch.arange(-2.0, 3.0)[None]
    taps = torch.exp(-(offsets**2) / (2 * sigma**2))
    taps = taps / (taps.square().sum().sqrt() if keep_power else taps.sum())
    blurred: Tensor = filter2d_separable(noise[None], taps, taps, border_type="reflect")[0]
    return blurred


def _mix(pixels: Tensor, matrix: Tensor) -> Tensor:
    """Multiply each pixel (3, H, W) by `matrix` (3, 3)."""
    return torch.einsum("oc,chw->ohw", matrix, pixels)


def _bayer(height: int, width: int) -> Tensor:
    """Return the RGGB mosaic, (3, H, W): 1 where a pixel measures the channel."""
    mask = torch.zeros(3, height, width)
    mask[0, ::2, ::2] = mask[2, 1::2, 1::2] = 1
    mask[1, ::2, 1::2] = mask[1, 1::2, ::2] = 1
    return mask


def _demosaic(mosaic: Tensor) -> Tensor:
    """Demosaic bilinearly; mosaic: (3, H, W), 0 where nothing is measured; H, W at least 2."""
    green = torch.tensor([[0.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 0.0]]) / 4
    other = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 4
    kernels = torch.stack([other, green, other])[:, None]
    # Reflection about the border pixel keeps the pattern of the mosaic.
    padded = F.pad(mosaic[None], (1, 1, 1, 1), mode="reflect")
    return F.conv2d(padded, kernels, groups=3)[0]


def _shared(noise: Tensor, share: float) -> Tensor:
    """Blend the noise of each channel with the mean of all channels, by `share`."""
    return (1 - share) * noise + share * noise.mean(0, keepdim=True)


def _coarse(clean: Tensor, factor: float, generator: Generator) -> Tensor:
    """Return white noise in cells `factor` pixels wide, in the size of `clean`."""
    cells = [math.ceil(side / factor) + 1 for side in clean.shape[-2:]]
    noise = torch.randn(1, 3, *cells, generator=generator)
    return F.interpolate(noise, clean.shape[-2:], mode="bicubic")[0]


def _unit_power(noise: Tensor) -> Tensor:
    return noise / noise.square().mean().sqrt().clamp(min=1e-6)


def _resampled(noise: Tensor, factor: float) -> Tensor:
    height, width = noise.shape[-2:]
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    small = F.interpolate(noise[None], size, mode="bilinear")
    return F.interpolate(small, (height, width), mode="bilinear")[0]
