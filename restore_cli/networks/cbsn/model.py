"""C-BSN: conditional blind-spot network for self-supervised denoising.

Jang et al., "Self-supervised Image Denoising with Downsampled Invariance Loss and Conditional
Blind-Spot Network", ICCV 2023, arXiv 2304.09507, figure 2. Reference code: jyicu/CBSN at 37da7aa.
Input: noisy RGB (B, 3, H, W), each channel standardised over the whole image; any H, W >= 1.
Output: denoised, like the input. Blind, no output pixel sees the input pixel at its own place.
Checked against: golden cases cbsn-official, cbsn-small, cbsn-loss.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class CBSNConfig:
    in_channels: int = 3
    out_channels: int = 3
    channels: int = 128
    num_module: int = 9  # DCMs in each branch


HEAD = 64  # channels before the output; the official code does not scale it with the rest
TRUNCATED = 0.8796  # standard deviation of a unit normal that is cut at two


def conv1x1(in_channels: int, out_channels: int) -> nn.Conv2d:
    return he_normal(nn.Conv2d(in_channels, out_channels, 1))


def he_normal(conv: nn.Conv2d) -> nn.Conv2d:
    """Initialise as TensorFlow's variance scaling: fan-in, gain 2, truncated at two std."""
    std = math.sqrt(2 / conv.weight[0].numel()) / TRUNCATED
    nn.init.trunc_normal_(conv.weight, std=std, a=-2 * std, b=2 * std)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


class ConditionalConv2d(nn.Conv2d):
    """A square convolution that keeps the size; blind, it does without its centre tap.

    The tap is masked, not lost: it holds what the losses of the full mode teach it.
    """

    ring: Tensor  # ones around a zero, (k, k)

    def __init__(self, channels: int, kernel_size: int):
        super().__init__(channels, channels, kernel_size, padding=kernel_size // 2)
        nn.init.normal_(self.weight, std=math.sqrt(2 / self.weight[0].numel()))
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]
        ring = torch.ones(kernel_size, kernel_size)
        ring[kernel_size // 2, kernel_size // 2] = 0
        self.register_buffer("ring", ring, persistent=False)

    def forward(self, x: Tensor, blind: bool = False) -> Tensor:
        weight = self.weight * self.ring if blind else self.weight
        return F.conv2d(x, weight, self.bias, padding=self.padding)


class DCM(nn.Module):
    """Dilated convolution module: a residual block, its last ReLU before the sum."""

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.spread = he_normal(
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        )
        self.mix = conv1x1(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.mix(F.relu(self.spread(x))))


class Branch(nn.Module):
    """One conditional convolution, then DCMs dilated so widely that none fills its hole again.

    With dilation d the modules see multiples of d away, and the kernel of 2d - 1 reaches d - 1 at
    most: never back to a pixel's own place, which only its centre tap sees.
    """

    def __init__(self, channels: int, dilation: int, num_module: int):
        super().__init__()
        self.look = ConditionalConv2d(channels, 2 * dilation - 1)
        self.mix = nn.Sequential(
            conv1x1(channels, channels), nn.ReLU(), conv1x1(channels, channels), nn.ReLU()
        )
        self.dcm = nn.ModuleList(DCM(channels, dilation) for _ in range(num_module))
        self.end = conv1x1(channels, channels)

    def forward(self, x: Tensor, blind: bool) -> Tensor:
        x = self.mix(F.relu(self.look(x, blind)))
        for dcm in self.dcm:
            x = dcm(x)
        return F.relu(self.end(x))


class CBSN(nn.Module):
    """Two branches of dilation 2 and 3 side by side; one set of weights for both modes."""

    def __init__(self, config: CBSNConfig = CBSNConfig()):
        super().__init__()
        c = config
        self.config = c
        self.embed = conv1x1(c.in_channels, c.channels)
        self.branches = nn.ModuleList(Branch(c.channels, d, c.num_module) for d in (2, 3))
        self.fuse = nn.Sequential(
            conv1x1(2 * c.channels, c.channels),
            nn.ReLU(),
            conv1x1(c.channels, HEAD),
            nn.ReLU(),
            conv1x1(HEAD, HEAD),
            nn.ReLU(),
            conv1x1(HEAD, c.out_channels),
        )

    def forward(self, noisy: Tensor, blind: bool = False) -> Tensor:
        x = F.relu(self.embed(noisy))  # (B, C, H, W)
        x = torch.cat([branch(x, blind) for branch in self.branches], dim=1)  # (B, 2C, H, W)
        denoised: Tensor = self.fuse(x)  # (B, 3, H, W)
        return denoised
