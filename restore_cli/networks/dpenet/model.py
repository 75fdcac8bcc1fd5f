"""DPENet: dual-stage progressive enhancement network for single-image deraining.

Wen et al., "From Heavy Rain Removal to Detail Restoration: A Faster and Better Network",
Pattern Recognition 2023, arXiv 2205.03553. Reference code: chdwyb/DPENet at 4ef5c0c.
Input: rainy RGB (B, 3, H, W) in [0, 1], any H, W >= 1.
Output: (without streaks, restored), each like the input, not clamped; the second is the result.
Checked against: golden cases dpenet-default, dpenet-inter, dpenet-published-relu.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore_cli.networks.layers import PixelConv


@dataclass(frozen=True)
class DPENetConfig:
    in_channels: int = 3
    mid_channels: int = 32  # C
    # The published file has a ReLU behind both output convolutions, yet its own weights only
    # work without: with it, a stage can brighten but never darken a streak.
    out_activation: Literal["none", "relu"] = "none"


REDUCTION = 32  # of the channels inside pixel-wise attention


def conv3x3(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False)


def pixel_conv(in_channels: int, out_channels: int) -> PixelConv:
    """1x1 convolution from or to pixels.

    Under autocast it stays in float32, and thereby the residual trunk too: in bfloat16 both cost
    0.1 dB on heavy rain.
    """
    return PixelConv(in_channels, out_channels, 1, bias=False)


class DDRB(nn.Module):
    """Dilated dense residual block: three dilated pairs, each fed the sum of all before it."""

    radius = 2 * (1 + 2 + 5)  # how far it sees

    def __init__(self, channels: int):
        super().__init__()
        self.pairs = nn.ModuleList(
            nn.Sequential(
                conv3x3(channels, channels, dilation),
                nn.ReLU(inplace=True),
                conv3x3(channels, channels, dilation),
            )
            for dilation in (1, 2, 5)
        )

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.pairs
        total = x + first(x).type_as(x)  # a sum of two types would be slow
        for pair in others:
            total = total + pair(F.relu(total)).type_as(x)
        return F.relu(total)


class ERPAB(nn.Module):
    """Enhanced residual pixel-wise attention block; its attention is local, without pooling."""

    radius = 5 + 1 + 1

    def __init__(self, channels: int):
        super().__init__()
        reduced = channels // REDUCTION
        self.scales = nn.ModuleList(conv3x3(channels, channels, dilation) for dilation in (1, 2, 5))
        self.fuse = nn.Conv2d(3 * channels, channels, 1)
        self.attention = nn.Sequential(
            conv3x3(channels, reduced),
            nn.ReLU(inplace=True),
            conv3x3(reduced, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        fused = F.relu(self.fuse(torch.cat([scale(x) for scale in self.scales], dim=1)))
        return F.relu((fused * self.attention(fused)).type_as(x) + x)


class DPENet(nn.Module):
    """R2Net removes the streaks, DRNet restores the detail; each adds a correction to its input."""

    def __init__(self, config: DPENetConfig = DPENetConfig()):
        super().__init__()
        c = config
        if c.mid_channels < REDUCTION:
            raise ValueError(f"mid_channels is {c.mid_channels}, at least {REDUCTION} is needed")
        self.config = c
        self.embed_rainy = pixel_conv(c.in_channels, c.mid_channels)
        self.r2net = nn.Sequential(*(DDRB(c.mid_channels) for _ in range(10)))
        self.streaks = pixel_conv(c.mid_channels, c.in_channels)
        self.embed_streakless = pixel_conv(c.in_channels, c.mid_channels)
        self.drnet = nn.Sequential(*(ERPAB(c.mid_channels) for _ in range(3)))
        self.detail = pixel_conv(c.mid_channels, c.in_channels)

    def forward(self, rainy: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.embed_rainy(rainy))  # (B, C, H, W)
        streakless = rainy + self._output(self.streaks(self.r2net(h)))  # (B, 3, H, W)
        g = F.relu(self.embed_streakless(F.relu(streakless)))  # (B, C, H, W)
        restored = streakless + self._output(self.detail(self.drnet(g)))  # (B, 3, H, W)
        return streakless, restored

    def _output(self, x: Tensor) -> Tensor:
        return F.relu(x) if self.config.out_activation == "relu" else x
