"""Images of a page: before and after at a moderate size, and crops at their own size."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from restore_cli.imaging.image import Image
from restore_cli.imaging.io import contents, decode_unreported, encode
from restore_cli.imaging.resize import resize_matlab
from restore_cli.storage import Location

LARGEST_SIDE = 1280  # of an image before or after, pixels
QUALITY = 85  # of these; crops are lossless
CROP = 192  # side of a crop, pixels


@dataclass(frozen=True)
class Side:
    """An image as a data URI."""

    caption: str
    uri: str


@dataclass(frozen=True)
class View:
    """One image: before and after, and crops of all methods at one place."""

    name: str
    rank: str  # such as "worst"; empty where there is no order
    before: Side
    after: Side
    crops: tuple[Side, ...]


def ranked(scores: Sequence[float], words: tuple[str, str, str], count: int = 3) -> dict[int, str]:
    """Return the indices of the lowest, the median and the highest score, with their words.

    count: 1 gives the lowest alone. Of two scores there is no median, and one has no word.
    """
    order = sorted(range(len(scores)), key=scores.__getitem__)
    if len(order) <= 1:
        return dict.fromkeys(order, "")
    lowest, median, highest = words
    chosen = {order[0]: lowest}
    if count > 1:
        chosen |= {order[len(order) // 2]: median} if len(order) > 2 else {}
        chosen |= {order[-1]: highest}
    return chosen


def view_of(
    name: str,
    rank: str,
    before: tuple[str, Tensor],
    after: tuple[str, Tensor],
    reference: Tensor | None = None,
) -> View:
    """Return the view of one image; before and after: caption and pixels (C, H, W) in [0, 1].

    The smaller one of before and after is enlarged. The crop lies where the reference, or without
    one the result, differs most from the image before.
    """
    height, width = after[1].shape[-2:]
    enlarged = at_size(before[1], height, width)
    place = window_of_largest_difference(enlarged, after[1] if reference is None else reference)
    crops = [
        (before[0], enlarged),
        after,
        *([] if reference is None else [("reference", reference)]),
    ]
    return View(
        name,
        rank,
        Side(before[0], fitted(enlarged)),
        Side(after[0], fitted(after[1])),
        tuple(Side(caption, crop(pixels, place)) for caption, pixels in crops),
    )


def visible_pixels(path: Location) -> Tensor:
    """Read an image (C, H, W) in [0, 1], on white where it is transparent. Raises InputError."""
    image = decode_unreported(contents(path), name=str(path)).as_tensors().displayed()
    if image.alpha is None:
        return image.pixels
    return image.pixels * image.alpha + 1 - image.alpha


def change_of(before: Tensor, after: Tensor) -> float:
    """Return the mean absolute difference of two images, the smaller one enlarged."""
    height, width = after.shape[-2:]
    return float((at_size(before, height, width) - after).abs().mean())


def at_size(pixels: Tensor, height: int, width: int) -> Tensor:
    """Return the image at another size, by bicubic interpolation."""
    if pixels.shape[-2:] == (height, width):
        return pixels
    return resize_matlab(pixels, height, width).clamp(0, 1)


def within(pixels: Tensor, side: int) -> Tensor:
    """Return the image reduced to sides of at most `side` pixels."""
    height, width = pixels.shape[-2:]
    factor = min(1.0, side / max(height, width))
    return at_size(pixels, max(1, round(height * factor)), max(1, round(width * factor)))


def window_of_largest_difference(x: Tensor, y: Tensor) -> tuple[int, int]:
    """Return (top, left) of the crop with the largest squared difference of two images."""
    distance = (x - y).square().mean(0, keepdim=True)
    window = [min(CROP, side) for side in distance.shape[-2:]]
    stride = max(1, CROP // 10)
    means = F.avg_pool2d(distance, window, stride)[0]
    row, column = divmod(int(means.argmax()), means.shape[1])
    return row * stride, column * stride


def fitted(pixels: Tensor) -> str:
    """Return the data URI of a whole image at a moderate size."""
    return _uri(within(pixels, LARGEST_SIDE), QUALITY)


def crop(pixels: Tensor, place: tuple[int, int]) -> str:
    """Return the data URI of the crop at (top, left), without loss."""
    return _uri(crop_at(pixels, place), None)


def crop_at(pixels: Tensor, place: tuple[int, int]) -> Tensor:
    top, left = place
    return pixels[:, top : top + CROP, left : left + CROP]


def _uri(pixels: Tensor, quality: int | None) -> str:
    data = encode(Image(pixels), format="webp", quality=quality)
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"
