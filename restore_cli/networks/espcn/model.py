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

import torch
from torch import Tensor, nn

from restore_cli.networks.layers import PixelConv

MID_GREY = 0.45  # mean luma of photographs, in units of 255


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
        self.extract = PixelConv(c.in_channels, c.features, 5, padding=2)
        self.map = nn.Conv2d(c.features, c.mapping, 3, padding=1)
        self.subpixel = PixelConv(c.mapping, c.in_channels * c.scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(c.scale)
        self._initialise()

    def forward(self, y: Tensor) -> Tensor:
        x = self.extract(y).tanh()  # (B, n1, H, W); tanh did better than ReLU, sec. 3.3.1
        x = self.map(x).tanh()  # (B, n2, H, W)
        enlarged: Tensor = self.shuffle(self.subpixel(x))  # (B, C, rH, rW)
        return enlarged

    def _initialise(self) -> None:
        """Start near the identity of grey: mid-grey gives zero features and mid-grey output.

        The paper gives no initialisation; each std keeps the variance. Without the mean of the
        image in the features, training takes large steps without diverging.
        """
        for layer in (self.extract, self.map):
            nn.init.normal_(layer.weight, std=1 / sqrt(layer.weight[0].numel()))
        nn.init.normal_(self.subpixel.weight, std=0.001)
        assert self.extract.bias is not None and self.map.bias is not None
        assert self.subpixel.bias is not None
        with torch.no_grad():
            self.extract.bias.copy_(-MID_GREY * self.extract.weight.sum((1, 2, 3)))
        nn.init.zeros_(self.map.bias)
        nn.init.constant_(self.subpixel.bias, MID_GREY)
