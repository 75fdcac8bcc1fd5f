"""MIRNet: multi-scale residual network for denoising, enhancement and super-resolution.

Zamir et al., "Learning Enriched Features for Real Image Restoration and Enhancement", ECCV 2020,
arXiv 2003.06792. Reference code: swz30/MIRNet at 6934e83.
Input: degraded RGB (B, 3, H, W) in [0, 1], H and W multiples of 2^(height - 1); for
super-resolution already enlarged by bicubic, as published, or in low resolution with the
sub-pixel layer of ESPCN (Shi et al., CVPR 2016, eq. 3-4) behind the trunk.
Output: (B, 3, H, W), with the sub-pixel layer (B, 3, rH, rW), not clamped.
Checked against: golden cases mirnet-small, mirnet-small-h2w3, mirnet-default.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore_cli.networks.layers import GlobalAverage


@dataclass(frozen=True)
class MIRNetConfig:
    n_feat: int = 64  # channels of the finest stream
    n_RRG: int = 3
    n_MSRB: int = 2  # multi-scale residual blocks in each group; the paper's MRB
    height: int = 3  # streams of an MRB, each half the size and twice the channels of the one above
    width: int = 2  # columns of an MRB; between two columns the streams are fused
    scale: int = 1  # r, output size / size of the low-resolution image
    # "bicubic": the input was enlarged before, the network keeps its size. "subpixel": the network
    # sees the low-resolution image; the same arithmetic per input pixel, so r^2 times faster.
    upsampler: Literal["bicubic", "subpixel"] = "bicubic"


REDUCTION = 8  # of the channels inside channel attention and SKFF
LEAST_SQUEEZED = 4  # channels in SKFF; channel attention has no such floor


def conv(in_channels: int, out_channels: int, size: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False)


class SpatialAttention(nn.Module):
    """One weight a pixel, from the largest and the mean channel there."""

    def __init__(self) -> None:
        super().__init__()
        self.weigh = conv(2, 1, 5)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)
        weights: Tensor = self.weigh(pooled)  # (B, 2, H, W) -> (B, 1, H, W)
        return x * weights.sigmoid()


class ChannelAttention(nn.Module):
    """One weight a channel, from the means of all channels over the image."""

    def __init__(self, channels: int):
        super().__init__()
        self.average = GlobalAverage()
        self.squeeze = conv(channels, channels // REDUCTION, 1)
        self.excite = conv(channels // REDUCTION, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.excite(F.relu(self.squeeze(self.average(x))))  # (B, C, 1, 1)
        return x * weights.sigmoid()


class DAU(nn.Module):
    """Dual attention unit: what to pass on, by place and by channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.embed = conv(channels, channels, 3)
        self.refine = conv(channels, channels, 3)
        self.spatial = SpatialAttention()
        self.channel = ChannelAttention(channels)
        self.merge = conv(2 * channels, channels, 1)

    def forward(self, x: Tensor, prelu: nn.PReLU) -> Tensor:
        r = self.refine(prelu(self.embed(x)))
        merged: Tensor = self.merge(torch.cat([self.spatial(r), self.channel(r)], dim=1))
        return merged + x


class SKFF(nn.Module):
    """Selective kernel feature fusion: a sum of streams weighted channel by channel."""

    def __init__(self, channels: int, streams: int):
        super().__init__()
        squeezed = max(channels // REDUCTION, LEAST_SQUEEZED)
        self.average = GlobalAverage()
        self.squeeze = conv(channels, squeezed, 1)
        self.prelu = nn.PReLU()
        self.score = nn.ModuleList(conv(squeezed, channels, 1) for _ in range(streams))

    def forward(self, streams: Sequence[Tensor]) -> Tensor:
        pooled = torch.stack([self.average(stream) for stream in streams]).sum(0)  # (B, C, 1, 1)
        z = self.prelu(self.squeeze(pooled))
        weights = torch.stack([score(z) for score in self.score]).softmax(0)  # (K, B, C, 1, 1)
        total = weights[0] * streams[0]
        for k in range(1, len(streams)):
            total = total + weights[k] * streams[k]
        return total


def binomial_kernel(channels: int) -> Tensor:
    """The same 3x3 low-pass filter for each channel, (C, 1, 3, 3), sum 1."""
    taps = torch.tensor([0.25, 0.5, 0.25])
    return torch.outer(taps, taps).repeat(channels, 1, 1, 1)


class Blur(nn.Module):
    """Anti-aliased subsampling: a 3x3 binomial filter at every second pixel."""

    kernel: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("kernel", binomial_kernel(channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # Of even sizes the first row and column alone see the reflection: the rest needs no copy.
        inner = self._filtered(x, padding=1)  # (B, C, H, W) -> (B, C, H/2, W/2)
        top, left = self._reflected(x[..., :2, :]), self._reflected(x[..., :2])
        return torch.cat([left, torch.cat([top, inner[..., 1:, :]], -2)[..., 1:]], -1)

    def _reflected(self, x: Tensor) -> Tensor:
        return self._filtered(F.pad(x, (1, 1, 1, 1), mode="reflect"), padding=0)

    def _filtered(self, x: Tensor, padding: int) -> Tensor:
        return F.conv2d(x, self.kernel, stride=2, padding=padding, groups=x.shape[1])


class Down(nn.Module):
    """Half the size, twice the channels, with a plain blur as the shortcut."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            conv(channels, channels, 1),
            nn.PReLU(),
            conv(channels, channels, 3),
            nn.PReLU(),
            Blur(channels),
            conv(channels, 2 * channels, 1),
        )
        self.shortcut = nn.Sequential(Blur(channels), conv(channels, 2 * channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        half: Tensor = self.body(x) + self.shortcut(x)  # (B, C, H, W) -> (B, 2C, H/2, W/2)
        return half


class Up(nn.Module):
    """Twice the size, half the channels, with bilinear enlargement as the shortcut."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            conv(channels, channels, 1),
            nn.PReLU(),
            nn.ConvTranspose2d(
                channels, channels, 3, stride=2, padding=1, output_padding=1, bias=False
            ),
            nn.PReLU(),
            conv(channels, channels // 2, 1),
        )
        self.shortcut = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            conv(channels, channels // 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        enlarge, mix = self.shortcut
        # The 1x1 convolution comes to the same before the enlargement, with a quarter of the work.
        double: Tensor = enlarge(mix(x)) + self.body(x)  # (B, C, H, W) -> (B, C/2, 2H, 2W)
        return double


def resize(n_feat: int, source: int, target: int) -> nn.Sequential:
    """Build the steps from stream `source` to stream `target`; none if they are the same."""
    if source < target:
        return nn.Sequential(*(Down(n_feat * 2**j) for j in range(source, target)))
    return nn.Sequential(*(Up(n_feat * 2**j) for j in range(source, target, -1)))


def radius_of(config: MIRNetConfig) -> int:
    """Return the receptive radius of an MRB, apart from its averages.

    The longest path leads down all streams, through the coarsest in every further column, and up.
    """
    coarsest: int = 2 ** (config.height - 1)
    daus, downs, ups = 4 * (2 * coarsest - 1), 2 * (coarsest - 1), 2 * (coarsest - 1)
    return daus + downs + (config.width - 1) * 4 * coarsest + ups + 1  # its own convolution


class MRB(nn.Module):
    """Multi-scale residual block: parallel streams that tell each other what they see."""

    def __init__(self, config: MIRNetConfig):
        super().__init__()
        c = config
        streams = range(c.height)
        self.width = c.width
        self.radius = radius_of(c)
        # official code: one DAU a stream serves every column; the paper does not say
        self.daus = nn.ModuleList(DAU(c.n_feat * 2**j) for j in streams)
        self.resize = nn.ModuleDict(
            {f"{k}to{j}": resize(c.n_feat, k, j) for k in streams for j in streams}
        )
        self.fuse = nn.ModuleList(SKFF(c.n_feat * 2**j, c.height) for j in streams)
        self.enlarge = nn.ModuleList(resize(c.n_feat, k, 0) for k in streams)
        self.conv = conv(c.n_feat, c.n_feat, 3)

    def forward(self, x: Tensor, prelu: nn.PReLU) -> Tensor:
        features = self._first_column(x, prelu)
        for _ in range(self.width - 1):
            fused = [skff(self._at(j, features)) for j, skff in enumerate(self.fuse)]
            features = [dau(f, prelu) for dau, f in zip(self.daus, fused, strict=True)]
        full_size = [up(f) for up, f in zip(self.enlarge, features, strict=True)]
        merged: Tensor = self.conv(self.fuse[0](full_size))
        return merged + x

    def _first_column(self, x: Tensor, prelu: nn.PReLU) -> list[Tensor]:
        """The features of each stream, stream j (B, 2^j C, H/2^j, W/2^j), made from the finer."""
        features = [self.daus[0](x, prelu)]
        for j in range(1, len(self.daus)):
            features.append(self.daus[j](self.resize[f"{j - 1}to{j}"](features[-1]), prelu))
        return features

    def _at(self, target: int, features: Sequence[Tensor]) -> list[Tensor]:
        """The features of all streams in the shape of stream `target`."""
        return [self.resize[f"{k}to{target}"](feature) for k, feature in enumerate(features)]


class RRG(nn.Module):
    """Recursive residual group: several MRBs and a convolution inside one skip connection."""

    def __init__(self, config: MIRNetConfig):
        super().__init__()
        self.mrbs = nn.ModuleList(MRB(config) for _ in range(config.n_MSRB))
        self.conv = conv(config.n_feat, config.n_feat, 3)

    def forward(self, x: Tensor, prelu: nn.PReLU) -> Tensor:
        h = x
        for mrb in self.mrbs:
            h = mrb(h, prelu)
        correction: Tensor = self.conv(h)
        return correction + x


class SubPixel(nn.Module):
    """ESPCN's sub-pixel convolution: r^2 values a channel, rearranged into r x r pixels.

    It starts at zero, so that an untrained network is bicubic enlargement.
    """

    def __init__(self, n_feat: int, scale: int):
        super().__init__()
        self.conv = conv(n_feat, 3 * scale**2, 3)
        self.shuffle = nn.PixelShuffle(scale)
        nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        details: Tensor = self.shuffle(self.conv(x))  # (B, C, H, W) -> (B, 3, rH, rW)
        return details


class MIRNet(nn.Module):
    """Recursive residual groups that together predict a correction of the (enlarged) input."""

    def __init__(self, config: MIRNetConfig = MIRNetConfig()):
        super().__init__()
        c = config
        if c.n_feat < REDUCTION:
            raise ValueError(f"n_feat is {c.n_feat}, at least {REDUCTION} is needed")
        if c.height < 2 or c.width < 2:
            raise ValueError(f"height x width is {c.height} x {c.width}, at least 2 x 2 is needed")
        self.config = c
        self.embed = conv(3, c.n_feat, 3)
        self.rrgs = nn.ModuleList(RRG(c) for _ in range(c.n_RRG))
        subpixel = c.upsampler == "subpixel"
        self.output = SubPixel(c.n_feat, c.scale) if subpixel else conv(c.n_feat, 3, 3)
        # official code: a PReLU as a default argument, hence the same one in every DAU
        self.prelu = nn.PReLU()

    def forward(self, degraded: Tensor) -> Tensor:
        h = self.embed(degraded)  # (B, C, H, W)
        for rrg in self.rrgs:
            h = rrg(h, self.prelu)
        correction: Tensor = self.output(h)  # (B, 3, H, W) or (B, 3, rH, rW)
        return self._enlarged(degraded) + correction

    def _enlarged(self, degraded: Tensor) -> Tensor:
        if self.config.upsampler == "bicubic":
            return degraded
        # With antialias torch takes the cubic of a = -0.5 that benchmarks are reduced by.
        return F.interpolate(
            degraded, scale_factor=float(self.config.scale), mode="bicubic", antialias=True
        )
