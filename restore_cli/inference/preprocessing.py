"""Preprocessing of images for networks, and its inverse: one function for each type of facts.py.

It sees the whole image, before any tile is cut: statistics and colour conversions do not depend on
the tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch

import torch
import torch.nn.functional as F
from torch import Tensor

from restore_cli.imaging.colour import (
    full_range_to_rgb,
    luma_to_grey,
    rgb_to_full_range,
    rgb_to_ycbcr,
    ycbcr_to_rgb,
)
from restore_cli.imaging.frame import inside_frame
from restore_cli.imaging.guided_filter import apply, downsample, fit_coefficients, noise_std
from restore_cli.imaging.resize import resize_matlab
from restore_cli.imaging.tone import (
    LUMINANCE,
    keep_black,
    keep_dark,
    keep_hue,
    stretch_contrast,
    toe_of,
)
from restore_cli.networks.facts import (
    BicubicFirst,
    FixedSize,
    Grey,
    Luma,
    Normalized,
    Preprocessing,
    Rgb,
    Standardized,
    Stretched,
    Ycbcr,
)

Undo = Callable[[Tensor], Tensor]


@singledispatch
def prepare(way: Preprocessing, pixels: Tensor) -> tuple[Tensor, Undo]:
    """Return the input of a network, (1, channels, H, W), and the function that undoes it.

    pixels: (C, H, W) in [0, 1], C 1 or 3; the input may have another size. `undo` takes the output
    of the network, network_scale times as large as the input, and returns C channels in the scaled
    size of the image, not clamped.
    """
    raise TypeError(f"no preprocessing for {way!r}")


@prepare.register
def rgb(way: Rgb, pixels: Tensor) -> tuple[Tensor, Undo]:
    """Colours as they are; a grey image becomes three equal channels, and their mean is grey."""
    if pixels.shape[0] == 3:
        return pixels[None], lambda output: output[0]
    return pixels.expand(3, -1, -1)[None], lambda output: output[0].mean(0, keepdim=True)


@prepare.register
def grey(way: Grey, pixels: Tensor) -> tuple[Tensor, Undo]:
    """Colours as a batch of grey images."""
    return pixels[:, None], lambda output: output[:, 0]


@prepare.register
def bicubic_first(way: BicubicFirst, pixels: Tensor) -> tuple[Tensor, Undo]:
    height, width = (side * way.scale for side in pixels.shape[-2:])
    return rgb(Rgb(), resize_matlab(pixels, height, width).clamp(0, 1))


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and std of each channel of each image (B, C, H, W), the std of one never 0."""
    floor = (x.shape[-2] * x.shape[-1]) ** -0.5
    mean = x.mean((-2, -1), keepdim=True)
    return mean, x.std((-2, -1), correction=0, keepdim=True).clamp(min=floor)


@prepare.register
def standardized(way: Standardized, pixels: Tensor) -> tuple[Tensor, Undo]:
    """Reflection keeps the zeros that convolutions pad with away from the image."""
    colours, undo_rgb = rgb(Rgb(), pixels)
    height, width = colours.shape[-2:]
    mean, std = channel_statistics(colours)
    down, across = min(way.reflect, height - 1), min(way.reflect, width - 1)
    padded = F.pad((colours - mean) / std, (across, across, down, down), mode="reflect")

    def undo(output: Tensor) -> Tensor:
        inner = output[..., down : down + height, across : across + width]
        return undo_rgb(inner * std + mean)

    return padded, undo


IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)  # of RGB
IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


DARK, NOT_DARK = 0.2, 0.4  # mean brightness up to which all, and from which nothing is changed
BRIGHT = 0.55  # mean brightness from which the black and white points stay, too


def mean_brightness(pixels: Tensor) -> float:
    """Mean brightness of an image (C, H, W), C 1 or 3, in [0, 1]."""
    means = pixels.mean((-2, -1)).expand(3)
    return torch.dot(means, means.new_tensor(LUMINANCE)).item()


def darkness(brightness: float) -> float:
    """1 for an image that is dark, 0 for one that is not, in between by steps.

    Networks for low light brighten what is lit well, too. On 162 made pairs of held-out and other
    photographs of the training set it is worth 3 dB, all of them on images that are not dark.
    """
    return min(max((NOT_DARK - brightness) / (NOT_DARK - DARK), 0.0), 1.0)


def dullness(brightness: float) -> float:
    """Return the share of the black and white points that is set: 1 where an image is hardly dark.

    It fades out towards dark images, as far as the network changes them, and towards bright ones.
    """
    return (1 - darkness(brightness)) * min(max((BRIGHT - brightness) / (BRIGHT - NOT_DARK), 0), 1)


@prepare.register
def fixed_size(way: FixedSize, pixels: Tensor) -> tuple[Tensor, Undo]:
    """Carry the change at the size of the network to the image, which keeps its detail.

    Hue and black stay, too: see imaging.guided_filter and imaging.tone. The less dark an image is,
    the less is changed but its black and white points: see darkness, dullness. A frame around the
    image is neither seen nor changed.
    """
    box = (slice(None), *inside_frame(pixels))
    inside = pixels[box]
    copy = downsample(inside, (way.height, way.width))
    small, undo_small = normalized(Normalized(), copy.pixels)

    def undo(output: Tensor) -> Tensor:
        brightness = mean_brightness(inside)
        share = darkness(brightness)
        result = pixels.clone()
        changed = result[box]
        if share > 0:
            toe = toe_of(brightness)
            restored = keep_hue(copy.pixels, undo_small(output).clamp(0, 1))
            restored = keep_dark(copy.pixels, restored, toe)
            lines = fit_coefficients(copy, restored, noise_std(inside))
            changed.copy_(apply(lines.weakened(share), inside))
            keep_black(inside, changed, toe)
        if (stretched_share := dullness(brightness)) > 0:
            stretch_contrast(changed.clamp_(0, 1), stretched_share)
        return result

    return small, undo


def brightness_and_grain(
    way: Preprocessing, pixels: Tensor, result: Tensor
) -> tuple[float | None, float | None]:
    """Return the mean brightness of the image and the noise sigma of the brightened result.

    None where the result does not depend on the brightness, or is not brightened.
    """
    if not isinstance(way, FixedSize):
        return None, None
    box = (slice(None), *inside_frame(pixels))
    brightness = mean_brightness(pixels[box])
    grain = noise_std(result[box]).mean().item() if darkness(brightness) > 0 else None
    return brightness, grain


@prepare.register
def stretched(way: Stretched, pixels: Tensor) -> tuple[Tensor, Undo]:
    """Resize the output, as the published code does but for its last step: fine detail is lost."""
    copy = downsample(pixels, (way.height, way.width))
    small, undo_small = normalized(Normalized(), copy.pixels)

    def undo(output: Tensor) -> Tensor:
        restored, size = undo_small(output)[None], pixels.shape[-2:]
        return F.interpolate(restored, size, mode="bilinear", antialias=True)[0]

    return small, undo


LEAST_SIDE = 16  # a U-Net of four halvings has nothing left of less


@prepare.register
def normalized(way: Normalized, pixels: Tensor) -> tuple[Tensor, Undo]:
    """The smallest images repeat their border."""
    colours, undo_rgb = rgb(Rgb(), pixels)
    height, width = pixels.shape[-2:]
    missing = (0, max(0, LEAST_SIDE - width), 0, max(0, LEAST_SIDE - height))
    padded = (F.pad(colours, missing, mode="replicate") - IMAGENET_MEAN) / IMAGENET_STD

    def undo(output: Tensor) -> Tensor:
        inner = output[..., :height, :width]
        return undo_rgb(inner * IMAGENET_STD + IMAGENET_MEAN)

    return padded, undo


STRIP = 64  # rows that are converted at once


@prepare.register
def luma(way: Luma, pixels: Tensor) -> tuple[Tensor, Undo]:
    """Grey is nothing but luma."""
    ycbcr = rgb_to_ycbcr(pixels)
    padded, crop = extend_border(ycbcr[None, :1], way)

    def undo(output: Tensor) -> Tensor:
        enlarged = crop(output)[0]
        if pixels.shape[0] == 1:
            return luma_to_grey(enlarged)
        height, width = enlarged.shape[-2:]
        colours = torch.empty(3, height, width)  # filled in place: a panorama fits only once
        colours[:1] = enlarged
        del output, enlarged
        for channel in (1, 2):
            colours[channel] = resize_matlab(ycbcr[channel], height, width)
        for top in range(0, height, STRIP):
            strip = colours[:, top : top + STRIP]
            strip.copy_(ycbcr_to_rgb(strip))
        return colours

    return padded, undo


@prepare.register
def ycbcr(way: Ycbcr, pixels: Tensor) -> tuple[Tensor, Undo]:
    """Public ESPCN weights of three channels want this."""
    padded, crop = extend_border(rgb_to_full_range(pixels)[None], way)

    def undo(output: Tensor) -> Tensor:
        colours = full_range_to_rgb(crop(output)[0])
        return colours if pixels.shape[0] == 3 else colours.mean(0, keepdim=True)

    return padded, undo


def extend_border(planes: Tensor, way: Luma | Ycbcr) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Extend planes (1, C, H, W) and return the function that crops the output to the image.

    The zeros that convolutions pad with are darker than black: they would dim the border. Pixels
    are mirrored with the outermost repeated, as MATLAB's imresize made the training images.
    """
    height, width = (side * way.scale for side in planes.shape[-2:])
    start = way.border * way.scale
    for axis in (-2, -1):
        side = planes.shape[axis]
        places = torch.arange(-way.border, side + way.border) % (2 * side)
        planes = planes.index_select(axis, torch.minimum(places, 2 * side - 1 - places))

    def crop(output: Tensor) -> Tensor:
        return output[..., start : start + height, start : start + width]

    return planes, crop
