"""ESPCN: sub-pixel convolutional network for super-resolution.

Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
Convolutional Neural Network", CVPR 2016, arXiv 1609.05158, section 2.2, figure 1.
Input: luma (B, 1, H, W) in [0, 1], BT.601 studio range, any H, W >= 1.
Output: (B, 1, rH, rW), not clamped.
Checked against: the measured PSNR of published weights (tests/models/test_espcn.py); the authors
published neither code nor weights.
"""

from dataclasses import dataclass
from math import sqrt

from torch import Tensor, nn


@dataclass(frozen=True)
class ESPCNConfig:
    scale: int = 3  # r
    features: int = 64  # n1, sec. 3.2
    mapping: int = 32  # n2
    in_channels: int = 1  # luma; public weights with 3 take all of YCbCr


class ESPCN(nn.Module):
    """Three convolutions in low-resolution space, then one pixel shuffle (eq. 1-4)."""

    def __init__(self, config: ESPCNConfig = ESPCNConfig()):
        super().__init__()
        c = config
        if c.scale < 2:
            raise ValueError(f"scale is {c.scale}, at least 2 is needed")
        self.config = c
        self.extract = nn.Conv2d(c.in_channels, c.features, 5, padding=2)
        self.map = nn.Conv2d(c.features, c.mapping, 3, padding=1)
        self.subpixel = nn.Conv2d(c.mapping, c.in_channels * c.scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(c.scale)
        self._initialise()

    def forward(self, y: Tensor) -> Tensor:
        x = self.extract(y).tanh()  # (B, n1, H, W); tanh did better than ReLU, sec. 3.3.1
        x = self.map(x).tanh()  # (B, n2, H, W)
        enlarged: Tensor = self.shuffle(self.subpixel(x))  # (B, C, rH, rW)
        return enlarged

    def _initialise(self) -> None:
        """As yjn870/ESPCN-pytorch does; the paper does not say."""
        for layer in (self.extract, self.map):
            fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
            nn.init.normal_(layer.weight, std=sqrt(2 / fan_out))
        nn.init.normal_(self.subpixel.weight, std=0.001)
        for layer in (self.extract, self.map, self.subpixel):
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
