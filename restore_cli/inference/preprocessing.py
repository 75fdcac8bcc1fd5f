"""Preprocessing of images for networks, and its inverse: one function for each type of facts.py.

An image is prepared band by band (`feed`), so that no copy of the whole is needed. Statistics are
those of the whole image: they do not depend on bands or tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache, partial, singledispatch
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.colour import (
    full_range_to_rgb,
    luma_to_grey,
    rgb_to_full_range,
    rgb_to_ycbcr,
    ycbcr_to_rgb,
)
from restore_cli.imaging.frame import inside_frame
from restore_cli.imaging.guided_filter import apply, downsample, fit_coefficients, noise_std
from restore_cli.imaging.planes import Planes, new_planes, strip_rows
from restore_cli.imaging.resize import REACH, resize_matlab
from restore_cli.imaging.tone import (
    LUMINANCE,
    keep_black,
    keep_dark,
    keep_hue,
    stretch_contrast,
    toe_of,
)
from restore_cli.imaging.transfer import CPU
from restore_cli.inference.tiling import pad_to_multiple, round_up
from restore_cli.networks.facts import (
    BicubicFirst,
    Facts,
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
def prepare(method: Preprocessing, pixels: Tensor) -> tuple[Tensor, Undo]:
    """Return the input of a network, (1, channels, H, W), and the function that undoes it.

    pixels: (C, H, W) in [0, 1], C 1 or 3; the input may have another size. `undo` takes the output
    of the network, network_scale times as large as the input, and returns C channels in the scaled
    size of the image, not clamped.
    """
    raise TypeError(f"no preprocessing for {method!r}")


@prepare.register
def rgb(method: Rgb, pixels: Tensor) -> tuple[Tensor, Undo]:
    """Colours as they are; a grey image becomes three equal channels, and their mean is grey."""
    if pixels.shape[0] == 3:
        return pixels[None], lambda output: output[0]
    return pixels.expand(3, -1, -1)[None], lambda output: output[0].mean(0, keepdim=True)


@prepare.register
def grey(method: Grey, pixels: Tensor) -> tuple[Tensor, Undo]:
    """Colours as a batch of grey images."""
    return pixels[:, None], lambda output: output[:, 0]


@prepare.register
def bicubic_first(method: BicubicFirst, pixels: Tensor) -> tuple[Tensor, Undo]:
    height, width = (side * method.scale for side in pixels.shape[-2:])
    return rgb(Rgb(), resize_matlab(pixels, height, width).clamp(0, 1))


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and std of each channel of each image (B, C, H, W), the std of one never 0."""
    floor = (x.shape[-2] * x.shape[-1]) ** -0.5
    mean = x.mean((-2, -1), keepdim=True)
    return mean, x.std((-2, -1), correction=0, keepdim=True).clamp(min=floor)


def statistics_of(planes: Planes) -> tuple[Tensor, Tensor]:
    """Return `channel_statistics` of an image, (C, 1, 1) each, as read by rows."""
    sums = torch.zeros(2, planes.shape[0], dtype=torch.float64, device=planes.device)
    for strip in planes.strips():
        levels = strip.double()
        sums += torch.stack([levels.sum((-2, -1)), levels.square().sum((-2, -1))])
    mean, square = sums[..., None, None] / (planes.height * planes.width)
    floor = (planes.height * planes.width) ** -0.5
    return mean.float(), (square - mean.square()).clamp(min=floor**2).sqrt().float()


@prepare.register
def standardized(
    method: Standardized, pixels: Tensor, statistics: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Undo]:
    """Reflection keeps the zeros that convolutions pad with away from the image.

    statistics: of the whole image, where the pixels are a band of it.
    """
    mean, std = statistics or statistics_of(Planes.of(pixels))
    colours, undo_rgb = rgb(Rgb(), pixels)
    height, width = colours.shape[-2:]
    down, across = min(method.reflect, height - 1), min(method.reflect, width - 1)
    padded = F.pad((colours - mean) / std, (across, across, down, down), mode="reflect")

    def undo(output: Tensor) -> Tensor:
        inner = output[..., down : down + height, across : across + width]
        return undo_rgb(inner * std + mean)

    return padded, undo


IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)  # of RGB
IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


@lru_cache
def _imagenet(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and std of ImageNet on a device: each copy would wait for a GPU."""
    return IMAGENET_MEAN.to(device), IMAGENET_STD.to(device)


DARK, NOT_DARK = 0.2, 0.4  # mean brightness up to which all, and from which nothing is changed
BRIGHT = 0.55  # mean brightness from which the black and white points stay, too


def mean_brightness(pixels: Tensor | Planes) -> float:
    """Return the mean brightness of an image (C, H, W), C 1 or 3, in [0, 1]."""
    planes = Planes.of(pixels)
    sums = torch.zeros(planes.shape[0], dtype=torch.float64, device=planes.device)
    for strip in planes.strips():
        sums += strip.sum((-2, -1), dtype=torch.float64)
    means: list[float] = (sums / (planes.height * planes.width)).expand(3).cpu().tolist()
    return sum(mean * weight for mean, weight in zip(means, LUMINANCE, strict=True))


def darkness(brightness: float) -> float:
    """Return 1 for a dark image, 0 for one that is not dark, and a linear ramp in between.

    Networks for low light brighten well-lit images too. On 162 synthetic pairs of held-out and
    other photographs of the training set the ramp gains 3 dB, all on images that are not dark.
    """
    return min(max((NOT_DARK - brightness) / (NOT_DARK - DARK), 0.0), 1.0)


def dullness(brightness: float) -> float:
    """Return the share of the black and white points that is set: 1 where an image is hardly dark.

    It fades out towards dark images, as far as the network changes them, and towards bright ones.
    """
    return (1 - darkness(brightness)) * min(max((BRIGHT - brightness) / (BRIGHT - NOT_DARK), 0), 1)


@prepare.register
def fixed_size(
    method: FixedSize, pixels: Tensor | Planes, storage: Storage = MEMORY
) -> tuple[Tensor, Undo]:
    """Carry the change at the size of the network to the image, which keeps its detail.

    Hue and black stay, too: see imaging.guided_filter and imaging.tone. The less dark an image is,
    the less is changed but its black and white points: see darkness, dullness. A frame around the
    image is neither seen nor changed. storage: of the result.
    """
    planes = Planes.of(pixels)
    box = inside_frame(planes)
    inside = planes.inside(*box)
    copy = downsample(inside, (method.height, method.width))
    small, undo_small = normalized(Normalized(), copy.pixels)

    def undo(output: Tensor) -> Tensor:
        brightness = mean_brightness(inside)
        share = darkness(brightness)
        result = new_planes(storage, planes.shape, copy.pixels.device)
        for top, bottom in planes.spans():
            result[:, top:bottom] = planes.read(top, bottom)
        changed = result[:, box[0], box[1]]
        if share > 0:
            toe = toe_of(brightness)
            restored = keep_hue(copy.pixels, undo_small(output.to(result.device)).clamp(0, 1))
            restored = keep_dark(copy.pixels, restored, toe)
            lines = fit_coefficients(copy, restored, noise_std(inside))
            apply(lines.weakened(share), inside, changed)
            keep_black(inside, changed, toe)
        if (stretched_share := dullness(brightness)) > 0:
            stretch_contrast(replace(Planes.of(changed), release=storage.release), stretched_share)
        return result

    return small, undo


def brightness_and_grain(
    method: Preprocessing, pixels: Planes, result: Planes
) -> tuple[float | None, float | None]:
    """Return the mean brightness of the image and the noise sigma of the brightened result.

    None where the result does not depend on the brightness, or is not brightened.
    """
    if not isinstance(method, FixedSize):
        return None, None
    box = inside_frame(pixels)
    brightness = mean_brightness(pixels.inside(*box))
    bright = darkness(brightness) > 0
    grain = noise_std(result.inside(*box)).mean().item() if bright else None
    return brightness, grain


@prepare.register
def stretched(method: Stretched, pixels: Tensor) -> tuple[Tensor, Undo]:
    """Resize the output, as the published code does but for its last step: fine detail is lost."""
    copy = downsample(pixels, (method.height, method.width))
    small, undo_small = normalized(Normalized(), copy.pixels)

    def undo(output: Tensor) -> Tensor:
        restored, size = undo_small(output)[None], pixels.shape[-2:]
        return F.interpolate(restored, size, mode="bilinear", antialias=True)[0]

    return small, undo


# A U-Net of four halvings has nothing left of less, and where zeros are all that a network sees
# beside the image, it takes them for the image: a white line of one pixel came back grey.
LEAST_SIDE = 16


@prepare.register
def normalized(method: Normalized, pixels: Tensor) -> tuple[Tensor, Undo]:
    """The smallest images repeat their border."""
    colours, undo_rgb = rgb(Rgb(), pixels)
    height, width = pixels.shape[-2:]
    missing = (0, max(0, LEAST_SIDE - width), 0, max(0, LEAST_SIDE - height))
    mean, std = _imagenet(pixels.device)
    padded = (F.pad(colours, missing, mode="replicate") - mean) / std

    def undo(output: Tensor) -> Tensor:
        inner = output[..., :height, :width]
        return undo_rgb(inner * std + mean)

    return padded, undo


@prepare.register
def luma(method: Luma, pixels: Tensor) -> tuple[Tensor, Undo]:
    """Grey is nothing but luma."""
    ycbcr = rgb_to_ycbcr(pixels)
    padded, crop = extend_border(ycbcr[None, :1], method)

    def undo(output: Tensor) -> Tensor:
        enlarged = crop(output)[0]
        if pixels.shape[0] == 1:
            return luma_to_grey(enlarged)
        height, width = enlarged.shape[-2:]
        colours = enlarged.new_empty(3, height, width)  # filled in place: a panorama fits only once
        colours[:1] = enlarged
        del output, enlarged
        for channel in (1, 2):
            colours[channel] = resize_matlab(ycbcr[channel], height, width)
        step = strip_rows(colours.device, width)
        for top in range(0, height, step):
            strip = colours[:, top : top + step]
            strip.copy_(ycbcr_to_rgb(strip))
        return colours

    return padded, undo


@prepare.register
def ycbcr(method: Ycbcr, pixels: Tensor) -> tuple[Tensor, Undo]:
    """Public ESPCN weights of three channels want this."""
    padded, crop = extend_border(rgb_to_full_range(pixels)[None], method)

    def undo(output: Tensor) -> Tensor:
        colours = full_range_to_rgb(crop(output)[0])
        return colours if pixels.shape[0] == 3 else colours.mean(0, keepdim=True)

    return padded, undo


def extend_border(
    planes: Tensor, method: Luma | Ycbcr
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Extend planes (1, C, H, W) and return the function that crops the output to the image.

    The zeros that convolutions pad with are darker than black: they would dim the border. Pixels
    are mirrored with the outermost repeated, as MATLAB's imresize made the training images.
    """
    height, width = (side * method.scale for side in planes.shape[-2:])
    start = method.border * method.scale
    for axis in (-2, -1):
        side = planes.shape[axis]
        places = torch.arange(-method.border, side + method.border, device=planes.device)
        places %= 2 * side
        planes = planes.index_select(axis, torch.minimum(places, 2 * side - 1 - places))

    def crop(output: Tensor) -> Tensor:
        return output[..., start : start + height, start : start + width]

    return planes, crop


BAND = 1 << 24  # pixels of the result that are returned at once


class Feed(Protocol):
    """An image as the input of a network, read by rows, and the inverse."""

    @property
    def size(self) -> tuple[int, int]:
        """Size (H, W) of the input, on the grid that the network wants."""

    def rows(self, start: int, stop: int) -> Tensor:
        """Return rows of the input, (1, channels, stop - start, W)."""

    def undo(self, output: Tensor, top: int) -> Iterator[Tensor]:
        """Yield rows of the result, (C, h, W'), from rows of the output that begin at `top`.

        The output is of the rows that were read last, or of a part of them. The next rows of the
        result come from the next rows of the output.
        """


def feed(
    facts: Facts, planes: Planes, storage: Storage = MEMORY, device: torch.device = CPU
) -> Feed:
    """Return an image as the input of a network.

    storage: of all that is kept of the image. device: on which it is prepared.
    """
    if facts.tiling == "never":
        return WholeFeed(facts, planes, storage, device)
    return BandFeed(facts, planes, device)


class Prepared:
    """An input (1, channels, H, W) that needs no preprocessing."""

    def __init__(self, pixels: Tensor):
        self._pixels = pixels
        height, width = pixels.shape[-2:]
        self.size = height, width

    def rows(self, start: int, stop: int) -> Tensor:
        return self._pixels[..., start:stop, :]

    def undo(self, output: Tensor, top: int) -> Iterator[Tensor]:
        yield output[0]


class BandFeed:
    """An image that is prepared band by band."""

    def __init__(self, facts: Facts, planes: Planes, device: torch.device):
        self._planes, self._multiple, self._device = planes, facts.multiple, device
        self._scale, self._network_scale = facts.scale, facts.network_scale
        method = facts.preprocessing
        self._prepare = partial(prepare, method)
        if isinstance(method, Standardized):
            mean, std = (each.to(device) for each in statistics_of(planes))
            self._prepare = partial(standardized, method, statistics=(mean, std))
        self._magnified = method.scale if isinstance(method, BicubicFirst) else 1
        self._border, across = (_border(method, side) for side in planes.shape[1:])
        self._reach = REACH if isinstance(method, Luma | BicubicFirst) else 0
        self._width = planes.width * self._magnified + 2 * across
        height = planes.height * self._magnified + 2 * self._border
        self.size = (self._padded(height), self._padded(self._width))

    def rows(self, start: int, stop: int) -> Tensor:
        """See Feed. A longer band is prepared, without the rows in which its own ends show."""
        self._undo: Undo | None = None  # and what it holds
        height, least = self._planes.height, max(self._border, self._multiple) + 1
        first = (start - self._border) // self._magnified - self._reach
        last = -((self._border - stop) // self._magnified) + self._reach
        low = max(0, min(first, height - least))
        low -= low % self._multiple
        self._low, self._high = low, min(height, max(last, low + least))
        pixels = self._planes.read(self._low, self._high).to(self._device, non_blocking=True)
        prepared, self._undo = self._prepare(pixels)
        self._height = prepared.shape[-2]
        above = start - low * self._magnified
        padded = pad_to_multiple(prepared, self._multiple, LEAST_SIDE)
        return padded[..., above : above + stop - start, :]

    def _padded(self, side: int) -> int:
        """Return the side that `pad_to_multiple` makes of it."""
        return round_up(max(side, LEAST_SIDE), self._multiple)

    def undo(self, output: Tensor, top: int) -> Iterator[Tensor]:
        assert self._undo is not None  # rows were read
        scale, border = self._network_scale, self._border * self._network_scale
        above = top - self._low * self._magnified * scale
        band = output.new_zeros(*output.shape[:2], self._height * scale, self._width * scale)
        computed = output[..., : max(0, band.shape[-2] - above), : band.shape[-1]]
        bottom = above + computed.shape[-2]
        if computed.shape == band.shape:
            band = computed
        elif computed.numel():  # else it lies below the image, in the padding
            band[..., above:bottom, :] = computed
        begin = max(0, above - border)
        end = min((self._high - self._low) * self._scale, bottom - border)
        if begin < end:
            yield self._undo(band)[:, begin:end]


class WholeFeed(Prepared):
    """An image that a network takes as a whole only, at a size of its own or of the image."""

    def __init__(self, facts: Facts, planes: Planes, storage: Storage, device: torch.device):
        method = facts.preprocessing
        if isinstance(method, FixedSize):
            prepared, self._undo = fixed_size(method, planes, storage)
        else:
            prepared, self._undo = prepare(method, planes.read(0, planes.height).to(device))
        super().__init__(pad_to_multiple(prepared.to(device), facts.multiple))
        self._height, self._width = (side * facts.network_scale for side in prepared.shape[-2:])
        self.result: Tensor  # of the image, once there is one

    def undo(self, output: Tensor, top: int) -> Iterator[Tensor]:
        self.result = self._undo(output[..., : self._height, : self._width])
        yield from torch.split(self.result, max(1, BAND // self.result.shape[-1]), dim=1)

    def blended(self, planes: Planes, strength: float) -> Planes:
        """Return the result, as far from the image as `strength` says."""

        def read(top: int, bottom: int) -> Tensor:
            result = self.result[:, top:bottom]
            return torch.lerp(planes.read(top, bottom).to(result.device), result, strength)

        return replace(planes, read=read)


def _border(method: Preprocessing, side: int) -> int:
    """Return the pixels that preprocessing adds at each end of a side."""
    if isinstance(method, Standardized):
        return min(method.reflect, side - 1)
    return method.border if isinstance(method, Luma | Ycbcr) else 0
