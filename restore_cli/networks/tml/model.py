"""TML: troublemaker learning for low-light enhancement, and its network UGDC.

Song et al., "Troublemaker Learning for Low-Light Image Enhancement", arXiv 2402.04584, figure 2.
Reference code: Rainbowman0/TML_LLIE at 6a9f952.
Input: low-light RGB (B, 3, H, W) in ImageNet's normalisation, of about the nominal size.
Output: UGDC one image, TML (coarse, enhanced), like the input; the last is the result.
Checked against: golden cases ugdc-official, ugdc-small, gdc-block, tml-chain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore_cli.networks.layers import DropPath


@dataclass(frozen=True)
class UGDCConfig:
    stem_channels: int = 64  # W; the published enhancing model has 32
    nominal_size: Sequence[int] = (400, 640)  # (H, W) that the weights are made for
    patch: int = 5  # side of the squares that make a kernel each
    bilinear: bool = False  # the published code can, no weights of it do
    in_channels: int = 3
    out_channels: int = 3


@dataclass(frozen=True)
class TMLConfig:
    pm_stem: int = 64
    em_stem: int = 32
    nominal_size: Sequence[int] = (400, 640)
    patch: int = 5


DROP_PATH = 0.2  # in training
LEVELS = (2, 3, 4)  # halvings before a map with a GDC; the figure has one at every level


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)


def grid(size: Sequence[int], level: int, patch: int) -> tuple[int, int]:
    """Return (rows, columns) of whole patches of the map of an image after `level` halvings."""
    height, width = size
    return (height >> level) // patch, (width >> level) // patch


class GDC(nn.Module):
    """Global dynamic convolution: 1x1 kernels out of the whole map, one for each of its patches.

    The published code applies the K kernels to every pixel and mixes the K outputs. Nothing
    non-linear is between, so here both are one C x C matrix for each image.
    """

    def __init__(self, channels: int, grid: tuple[int, int], patch: int):
        super().__init__()
        height, width = self.grid = grid
        self.patch = nn.Conv2d(channels, channels, patch, stride=patch, groups=channels)
        self.position = nn.Parameter(torch.randn(channels, height, width))
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.look = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.bias = nn.Parameter(torch.zeros(1))  # one for all kernels
        self.mix = nn.Conv2d(height * width, channels, 1)
        self.drop_path = DropPath(DROP_PATH)

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.mix.weight.flatten(1) @ self.kernels(x)  # (B, C, C)
        bias = self.mix(self.bias.expand(1, self.mix.in_channels, 1, 1))  # (1, C, 1, 1)
        y = matrix @ self.look(x).flatten(2) + bias.flatten(2)  # (B, C, H * W)
        dropped: Tensor = self.drop_path(y.view_as(x))
        return x + dropped

    def kernels(self, x: Tensor) -> Tensor:
        """Return the kernels of each image, (B, K, C), row by row of its patches.

        A map that holds another number of patches is resized to hold K.
        """
        (side, _), (rows, columns) = self.patch.stride, self.grid
        if (x.shape[-2] // side, x.shape[-1] // side) != self.grid:
            x = F.interpolate(x, (rows * side, columns * side), mode="bilinear")
        patches = (self.weighed(x) + self.position).flatten(2).transpose(1, 2)
        return F.gelu(self.norm(patches))

    def weighed(self, x: Tensor) -> Tensor:
        """Apply `patch` to x, (B, C, H, W) -> (B, C, h, w), as a sum over each patch.

        An eighth of a training step less on a CPU, where this convolution is slow to go back.
        """
        (side, _), (height, width) = self.patch.stride, self.grid
        whole = x[..., : height * side, : width * side]
        patches = whole.reshape(*x.shape[:2], height, side, width, side)
        weighed = patches * self.patch.weight.view(-1, 1, side, 1, side)
        assert self.patch.bias is not None
        return weighed.sum((-3, -1)) + self.patch.bias[:, None, None]


class DC(nn.Sequential):
    """Two plain convolutions."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(
            conv3x3(in_channels, out_channels),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            conv3x3(out_channels, out_channels),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class GC(nn.Sequential):
    """A DC whose first convolution is a GDC, which keeps the channels."""

    def __init__(self, in_channels: int, out_channels: int, grid: tuple[int, int], patch: int):
        super().__init__(
            GDC(in_channels, grid, patch),
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
            conv3x3(in_channels, out_channels),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class UGDC(nn.Module):
    """A U-Net of four halvings with global dynamic convolutions in its inner four stages."""

    def __init__(self, config: UGDCConfig = UGDCConfig()):
        super().__init__()
        c, w = config, config.stem_channels
        if c.bilinear:
            raise ValueError("bilinear is True, no weights of such a network were published")
        self.config = c
        self.any_size = False  # see allow_any_size
        self.nominal_grids = self._grids(c.nominal_size)
        at2, at3, at4 = self.nominal_grids
        if 0 in at4:
            least = c.patch << LEVELS[-1]
            raise ValueError(f"nominal_size is {tuple(c.nominal_size)}, each side at least {least}")
        self.enter = DC(c.in_channels, w)
        self.down = nn.ModuleList(
            [
                DC(w, 2 * w),
                DC(2 * w, 4 * w),
                GC(4 * w, 8 * w, at3, c.patch),
                GC(8 * w, 16 * w, at4, c.patch),
            ]
        )
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(2 * n * w, n * w, 2, stride=2) for n in (8, 4, 2, 1)
        )
        self.up = nn.ModuleList(
            [
                GC(16 * w, 8 * w, at3, c.patch),
                GC(8 * w, 4 * w, at2, c.patch),
                DC(4 * w, 2 * w),
                DC(2 * w, w),
            ]
        )
        self.output = nn.Conv2d(w, c.out_channels, 1)

    def forward(self, low: Tensor) -> Tensor:
        """Correct an image. Raises ValueError unless it has as many patches as the nominal size."""
        if not self.any_size and self._grids(low.shape[-2:]) != self.nominal_grids:
            found, nominal = tuple(low.shape[-2:]), tuple(self.config.nominal_size)
            raise ValueError(f"an image of {found} (H, W), the weights are for {nominal}")
        skips = [self.enter(low)]  # (B, W, H, W)
        for stage in self.down:
            skips.append(stage(F.max_pool2d(skips[-1], 2)))  # last (B, 16 W, H / 16, W / 16)
        x = skips.pop()
        for enlarge, stage in zip(self.enlarge, self.up, strict=True):
            skip = skips.pop()
            x = stage(torch.cat([skip, padded(enlarge(x), skip)], dim=1))
        corrected: Tensor = self.output(x)  # (B, 3, H, W)
        return corrected

    def allow_any_size(self) -> None:
        """Accept images from 16 x 16 on: kernels are computed from maps resized to nominal size.

        A choice of this project; where the published code takes an image, the result is the same.
        """
        self.any_size = True

    def _grids(self, size: Sequence[int]) -> list[tuple[int, int]]:
        return [grid(size, level, self.config.patch) for level in LEVELS]


def padded(x: Tensor, skip: Tensor) -> Tensor:
    """Pad x with zeros to the size of `skip`, which was odd before it was halved."""
    down, across = (skip.shape[axis] - x.shape[axis] for axis in (-2, -1))
    return F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))


class TML(nn.Module):
    """The predicting model brightens, the enhancing model says what is then still wrong.

    The troublemaker, which makes low light of normal light, is a third UGDC, for training alone.
    """

    def __init__(self, config: TMLConfig = TMLConfig()):
        super().__init__()
        c = config
        self.config = c
        self.pm = UGDC(UGDCConfig(c.pm_stem, c.nominal_size, c.patch))
        self.em = UGDC(UGDCConfig(c.em_stem, c.nominal_size, c.patch))

    def allow_any_size(self) -> None:
        self.pm.allow_any_size()
        self.em.allow_any_size()

    def forward(self, low: Tensor) -> tuple[Tensor, Tensor]:
        coarse = self.pm(low)
        # The figure draws the enhanced image as the output of EM; the official code subtracts.
        return coarse, coarse - self.em(coarse)
