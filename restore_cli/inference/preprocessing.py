"""How a network wants to be fed, and how its answer becomes an image again.

An adapter sees the whole image, before any tile is cut: statistics and colour conversions
computed there do not depend on how the image is tiled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

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
from restore_cli.registry import ModelSpec

Finish = Callable[[Tensor], Tensor]


class Adapter(Protocol):
    def __call__(self, pixels: Tensor, spec: ModelSpec) -> tuple[Tensor, Finish]:
        """What the network is fed, (1, spec.channels, H, W), and what makes pixels of its answer.

        pixels: (C, H, W) in [0, 1], C 1 or 3; what is fed may have another size. The answer
        that `finish` gets is spec.network_scale times as large as what was fed; pixels of C
        channels and of the image's own size times spec.scale come back, not yet clamped.
        """
        ...


def rgb(pixels: Tensor, spec: ModelSpec) -> tuple[Tensor, Finish]:
    """Colours as they are; a grey image goes as three equal channels and comes back grey."""
    if pixels.shape[0] == 3:
        return pixels[None], lambda answer: answer[0]
    return pixels.expand(3, -1, -1)[None], lambda answer: answer[0].mean(0, keepdim=True)


def pre_upscaled(pixels: Tensor, spec: ModelSpec) -> tuple[Tensor, Finish]:
    """As rgb, for a network that keeps the size of what bicubic has enlarged before."""
    height, width = (side * spec.scale for side in pixels.shape[-2:])
    return rgb(resize_matlab(pixels, height, width).clamp(0, 1), spec)


REFLECTED = 32  # pixels around the image, as the official inference of C-BSN has them


def standardized(pixels: Tensor, spec: ModelSpec) -> tuple[Tensor, Finish]:
    """As rgb, each channel with mean 0 and deviation 1 over the whole image, and reflected
    outwards, so that the zeros around it stay out of the network's sight.
    """
    feed, finish_rgb = rgb(pixels, spec)
    height, width = feed.shape[-2:]
    mean = feed.mean((-2, -1), keepdim=True)
    deviation = feed.std((-2, -1), correction=0, keepdim=True).clamp(min=(height * width) ** -0.5)
    down, across = min(REFLECTED, height - 1), min(REFLECTED, width - 1)
    padded = F.pad((feed - mean) / deviation, (across, across, down, down), mode="reflect")

    def finish(answer: Tensor) -> Tensor:
        inner = answer[..., down : down + height, across : across + width]
        return finish_rgb(inner * deviation + mean)

    return padded, finish


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


def fixed_size(pixels: Tensor, spec: ModelSpec) -> tuple[Tensor, Finish]:
    """As rgb, in ImageNet's normalisation, stretched to the one size that the network knows; what
    it changes there is carried to the image, which keeps its own detail, hue and black: see
    imaging.transfer and imaging.tone. The less dark an image is, the less is changed but its black
    and white point: see darkness, dullness. A frame around the image is neither seen nor changed.
    """
    assert spec.fixed_size is not None  # that is what such a network is
    box = (slice(None), *inside_frame(pixels))
    inside = pixels[box]
    copy = downsample(inside, spec.fixed_size)
    feed, finish_small = imagenet(copy.pixels, spec)

    def finish(output: Tensor) -> Tensor:
        brightness = mean_brightness(inside)
        share = darkness(brightness)
        result = pixels.clone()
        changed = result[box]
        if share > 0:
            toe = toe_of(brightness)
            restored = keep_hue(copy.pixels, finish_small(output).clamp(0, 1))
            restored = keep_dark(copy.pixels, restored, toe)
            lines = fit_coefficients(copy, restored, noise_std(inside))
            changed.copy_(apply(lines.weakened(share), inside))
            keep_black(inside, changed, toe)
        if (stretched_share := dullness(brightness)) > 0:
            stretch_contrast(changed.clamp_(0, 1), stretched_share)
        return result

    return feed, finish


def stretched(pixels: Tensor, spec: ModelSpec) -> tuple[Tensor, Finish]:
    """As fixed_size, but the answer itself is stretched back, as the published code does it but
    for its last step: detail finer than that size is lost.
    """
    assert spec.fixed_size is not None
    feed, finish_small = imagenet(downsample(pixels, spec.fixed_size).pixels, spec)

    def finish(answer: Tensor) -> Tensor:
        restored, size = finish_small(answer)[None], pixels.shape[-2:]
        return F.interpolate(restored, size, mode="bilinear", antialias=True)[0]

    return feed, finish


LEAST_SIDE = 16  # a U-Net of four halvings has nothing left of less


def imagenet(pixels: Tensor, spec: ModelSpec) -> tuple[Tensor, Finish]:
    """As rgb, in ImageNet's normalisation; the smallest images repeat their border."""
    feed, finish_rgb = rgb(pixels, spec)
    height, width = pixels.shape[-2:]
    short = (0, max(0, LEAST_SIDE - width), 0, max(0, LEAST_SIDE - height))
    normalised = (F.pad(feed, short, mode="replicate") - IMAGENET_MEAN) / IMAGENET_STD

    def finish(answer: Tensor) -> Tensor:
        inner = answer[..., :height, :width]
        return finish_rgb(inner * IMAGENET_STD + IMAGENET_MEAN)

    return normalised, finish


STRIP = 64  # rows that are converted at once


def luma(pixels: Tensor, spec: ModelSpec) -> tuple[Tensor, Finish]:
    """The network enlarges BT.601 luma, bicubic the chroma; grey is nothing but luma.

    A network of three channels takes all of JPEG's YCbCr instead: public ESPCN weights do.
    """
    if spec.channels == 3:
        return _full_range_ycbcr(pixels, spec)
    ycbcr = rgb_to_ycbcr(pixels)
    padded, crop = extend_border(ycbcr[None, :1], spec)

    def finish(output: Tensor) -> Tensor:
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

    return padded, finish


def _full_range_ycbcr(pixels: Tensor, spec: ModelSpec) -> tuple[Tensor, Finish]:
    padded, crop = extend_border(rgb_to_full_range(pixels)[None], spec)

    def finish(output: Tensor) -> Tensor:
        colours = full_range_to_rgb(crop(output)[0])
        return colours if pixels.shape[0] == 3 else colours.mean(0, keepdim=True)

    return padded, finish


def extend_border(planes: Tensor, spec: ModelSpec) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Planes (1, C, H, W) extended by the receptive radius, and the function that crops the output
    of the network to the image.

    The zeros that convolutions pad with are darker than black: they would dim the border. Pixels
    are mirrored with the outermost repeated, as MATLAB's imresize made the training images.
    """
    assert spec.radius is not None
    height, width = (side * spec.scale for side in planes.shape[-2:])
    start = spec.radius * spec.scale
    for axis in (-2, -1):
        side = planes.shape[axis]
        places = torch.arange(-spec.radius, side + spec.radius) % (2 * side)
        planes = planes.index_select(axis, torch.minimum(places, 2 * side - 1 - places))

    def crop(output: Tensor) -> Tensor:
        return output[..., start : start + height, start : start + width]

    return planes, crop


PREPROCESSING: Mapping[str, Adapter] = MappingProxyType(
    {
        "rgb": rgb,
        "pre_upscaled": pre_upscaled,
        "standardized": standardized,
        "fixed_size": fixed_size,
        "stretched": stretched,
        "imagenet": imagenet,
        "luma": luma,
    }
)
