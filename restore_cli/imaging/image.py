"""Images in memory: pixels, alpha and metadata."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from restore_cli.imaging.curves import Curve, LightCurve
from restore_cli.imaging.planes import Planes
from restore_cli.storage import Location

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Text(NamedTuple):
    """A text of a PNG, or with the keyword "Comment" of a JPEG."""

    keyword: str
    text: str
    language: str = ""
    translated: str = ""  # the keyword in that language


@dataclass(frozen=True)
class Native:
    """Values of a file that are no levels, and its header, which only its own format holds."""

    format: str  # a `Format`
    curve: Curve  # by which the values became pixels in [0, 1]
    header: Any  # for the encoder of the format


@dataclass(frozen=True)
class Metadata:
    """Metadata as read, except that EXIF and XMP state orientation 1: it is applied already.

    Statements that are no longer true of the image alone, such as thumbnails, are left out.
    """

    icc: bytes | None = None
    exif: bytes | None = None  # starts with the byte order mark
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None  # (x, y) dots per inch
    record: str | None = None  # provenance (JSON), to be written into the XMP
    texts: tuple[Text, ...] = ()
    photoshop: bytes | None = None  # image resources of Photoshop: IPTC captions, clipping paths
    chunks: tuple[tuple[bytes, bytes], ...] = ()  # (kind, body) of a PNG, about its colours
    native: Native | None = None

    @property
    def light(self) -> LightCurve | None:
        """The curve of an image whose values are light."""
        curve = self.native.curve if self.native else None
        return curve if isinstance(curve, LightCurve) else None


@dataclass(frozen=True)
class Image:
    """An upright image: pixels (C, H, W), float32 in [0, 1], C = 3 for RGB or 1 for grey.

    As it was decoded it holds NumPy arrays: `as_tensors` loads torch.
    """

    pixels: Tensor
    alpha: Tensor | None = None  # (1, H, W) in [0, 1]
    bit_depth: int = 8  # 8 or 16, of the source
    metadata: Metadata = field(default_factory=Metadata)
    source: Location | None = None  # file that it was read from
    jpeg_quality: int | None = None  # 1 to 100, of a source in JPEG
    dropped: tuple[str, ...] = ()  # contents of the source that no warning has named yet

    @property
    def height(self) -> int:
        return self.pixels.shape[-2]

    @property
    def width(self) -> int:
        return self.pixels.shape[-1]

    @property
    def planes(self) -> Planes:
        """The pixels, to be read by rows."""
        return Planes.of(self.pixels)

    @property
    def device(self) -> torch.device:
        return self.pixels.device

    def to(self, device: torch.device) -> Image:
        """Return the image with tensors on a device."""
        image = self.as_tensors()
        if image.device == device:
            return image
        alpha = None if image.alpha is None else image.alpha.to(device)
        return replace(image, pixels=image.pixels.to(device), alpha=alpha)

    def rows(self, top: int, bottom: int) -> Image:
        """Return the rows from `top` to `bottom` as an image."""
        alpha = None if self.alpha is None else self.alpha[:, top:bottom]
        return replace(self, pixels=self.pixels[:, top:bottom], alpha=alpha)

    def all_planes(self) -> Tensor:
        """Return pixels and alpha, (C or C + 1, H, W)."""
        import torch

        return self.pixels if self.alpha is None else torch.cat([self.pixels, self.alpha])

    def as_tensors(self) -> Image:
        """Return the image with tensors, which share the memory of arrays."""
        if not isinstance(self.pixels, np.ndarray):
            return self
        alpha = None if self.alpha is None else _tensor(self.alpha)
        return replace(self, pixels=_tensor(self.pixels), alpha=alpha)

    def without_pixels(self, height: int, width: int) -> Image:
        """Return an image of another size, whose pixels have a shape but no values."""

        def empty(channels: int) -> Tensor:
            return self.pixels.new_empty((channels, height, width), device="meta")

        alpha = None if self.alpha is None else empty(1)
        return Image(**self._fields() | {"pixels": empty(len(self.pixels)), "alpha": alpha})

    def banded(self, read: Callable[[int, int], Image], release: Callable[[], None]) -> BandedImage:
        """Return an image like this one, of which `read` returns the rows."""
        return BandedImage(**self._fields(), read=read, release=release)

    def _fields(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(Image)}

    def with_pixels(self, pixels: Tensor) -> Image:
        """Return a copy with other pixels, and all else unchanged."""
        return replace(self, pixels=pixels)

    def displayed(self) -> Image:
        """Return a copy in sRGB, where the values are light: light above 1 is clipped."""
        light = self.metadata.light
        if light is None:
            return self
        from restore_cli.imaging.transfer import CPU

        image = self.to(CPU)
        return replace(image, pixels=_tensor(light.displayed(image.pixels.numpy())))

    def on_scale_of(self, other: Image) -> Image:
        """Return a copy whose measured values became pixels by the curve of another image."""
        own, its = self.metadata.native, other.metadata.native
        if own is None or its is None or own.format != its.format or self.metadata.light:
            return self
        pixels = its.curve.to_unit(own.curve.from_unit(self.pixels.numpy()))
        return replace(self, pixels=_tensor(pixels))

    def visible_colours(self) -> Image:
        """Return a copy with surrounding colours in fully transparent pixels.

        Hidden colours would affect a network along the edge of the visible area.
        """
        if self.alpha is None or bool((self.alpha > 0).all()):
            return self
        visible = (self.alpha > 0).float()
        return replace(self, pixels=_fill(self.pixels * visible, visible))

    def keep_hidden_colours(self, restored: Tensor) -> Tensor:
        """Return `restored` with the original colours in fully transparent pixels."""
        if self.alpha is None:
            return restored
        return restored.where(self.alpha > 0, self.pixels)

    def hidden_colours_of(self, other: Image) -> Image:
        """Return a copy with the colours of `other` where both are fully transparent."""
        if self.alpha is None or other.alpha is None or self.alpha.shape != other.alpha.shape:
            return self
        hidden = (self.alpha == 0) & (other.alpha == 0)
        return replace(self, pixels=other.pixels.where(hidden, self.pixels))

    def has_alpha_of(self, other: Image) -> bool:
        """Return True if both are equally transparent; without alpha an image is opaque."""
        opaque = self.pixels[:1] * 0 + 1
        first, second = (opaque if alpha is None else alpha for alpha in (self.alpha, other.alpha))
        return bool((first == second).all())


@dataclass(frozen=True)
class BandedImage(Image):
    """An image of which rows are read when they are needed; its pixels have only a shape."""

    read: Callable[[int, int], Image] = field(kw_only=True)
    release: Callable[[], None] = field(kw_only=True)  # take what was read out of memory

    @property
    def device(self) -> torch.device:
        return self.read(0, 1).device

    @property
    def planes(self) -> Planes:
        shape = (len(self.pixels), self.height, self.width)
        return Planes(shape, lambda top, bottom: self.read(top, bottom).pixels, self.release)

    def rows(self, top: int, bottom: int) -> Image:
        return self.read(top, bottom)

    def visible_colours(self) -> Image:
        if self.alpha is None:
            return self
        return replace(self, read=BandedFill(self).rows)


def _tensor(array: Any) -> Tensor:
    import torch

    return torch.from_numpy(array)


def _fill(known: Tensor, weight: Tensor) -> Tensor:
    """Fill unknown pixels (weight 0) from coarser averages of known ones (pull-push)."""
    import torch.nn.functional as F

    mean = known / weight.clamp(min=1e-6)
    if max(weight.shape[-2:]) == 1 or bool((weight > 0).all()):
        return mean
    coarse = _fill(
        F.avg_pool2d(known[None], 2, ceil_mode=True)[0],
        F.avg_pool2d(weight[None], 2, ceil_mode=True)[0],
    )
    wide = F.interpolate(coarse[None], weight.shape[-2:], mode="bilinear")[0]
    return mean.where(weight > 0, wide)


IN_MEMORY = 1 << 22  # pixels of a level of coarser averages that is kept in memory


class BandedFill:
    """Pull-push filling (`_fill`) of an image that is read by rows."""

    def __init__(self, image: Image):
        import torch

        self._image = image
        self._sizes = [(image.height, image.width)]
        while max(self._sizes[-1]) > 1:
            height, width = self._sizes[-1]
            self._sizes.append((-(-height // 2), -(-width // 2)))
        small = [height * width <= IN_MEMORY for height, width in self._sizes]
        self._kept = small.index(True)  # first level in memory
        step = max(1, (IN_MEMORY >> 2) // self._sizes[self._kept][1])
        height, parts = self._sizes[self._kept][0], []
        for top in range(0, height, step):
            parts.append(self._averages(self._kept, top, min(top + step, height)))
        self._small = torch.cat(parts, dim=1)

    def rows(self, top: int, bottom: int) -> Image:
        """Return rows of the image with surrounding colours in fully transparent pixels."""
        return replace(self._image.rows(top, bottom), pixels=self._filled(0, top, bottom))

    def _averages(self, level: int, top: int, bottom: int) -> Tensor:
        """Return sums of known colours, and the weight, of rows of a level, (C + 1, h, w)."""
        import torch
        import torch.nn.functional as F

        if level == 0:
            part = self._image.rows(top, bottom)
            assert part.alpha is not None
            visible = (part.alpha > 0).float()
            return torch.cat([part.pixels * visible, visible])
        if level == self._kept and hasattr(self, "_small"):
            return self._small[:, top:bottom]
        finer = self._averages(level - 1, 2 * top, min(2 * bottom, self._sizes[level - 1][0]))
        return F.avg_pool2d(finer[None], 2, ceil_mode=True)[0]

    def _filled(self, level: int, top: int, bottom: int) -> Tensor:
        import torch
        import torch.nn.functional as F

        averages = self._averages(level, top, bottom)
        known, weight = averages[:-1], averages[-1:]
        if level == self._kept and (top, bottom) == (0, self._sizes[level][0]):
            return _fill(known, weight)
        mean = known / weight.clamp(min=1e-6)
        if level == len(self._sizes) - 1 or bool((weight > 0).all()):
            return mean
        (height, width), (rows, _) = self._sizes[level : level + 2]
        place = (torch.arange(top, bottom, device=weight.device) + 0.5) * rows / height - 0.5
        place = place.clamp(0, rows - 1)
        above = place.long()
        below = (above + 1).clamp(max=rows - 1)
        low, high = int(above[0]), int(below[-1]) + 1
        if level + 1 >= self._kept:
            low, high = 0, rows
        coarse = self._filled(level + 1, low, high)[None]
        wide = F.interpolate(coarse, (high - low, width), mode="bilinear")[0]
        part = (place - above)[:, None]
        return torch.where(
            weight > 0, mean, torch.lerp(wide[:, above - low], wide[:, below - low], part)
        )
