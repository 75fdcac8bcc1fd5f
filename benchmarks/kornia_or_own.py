"""Compare functions of kornia with own code: largest difference, and ratio of CPU time.

python benchmarks/kornia_or_own.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from kornia import color, filters, metrics, morphology
from torch import Tensor

from restore_cli.data.degrade import gaussian_kernel
from restore_cli.data.noise import _bayer, _demosaic
from restore_cli.imaging import colour, guided_filter, tone
from restore_cli.metrics import psnr, ssim

Variant = Callable[[], Tensor]


def cpu_seconds(run: Variant) -> float:
    """Return the least CPU time of a call, over five rounds."""
    run()
    best = float("inf")
    for _ in range(5):
        start, calls = time.process_time(), 0
        while time.process_time() - start < 0.15:
            run()
            calls += 1
        best = min(best, (time.process_time() - start) / calls)
    return best


def compare(name: str, own: Variant, kornia: Variant) -> None:
    difference = (own() - kornia()).abs().max().item()
    ratio = cpu_seconds(kornia) / cpu_seconds(own)
    print(f"{name:40} {difference:8.1e} {ratio:8.2f}", flush=True)


def convolved(x: Tensor, kernel: Tensor, border: str = "replicate") -> Tensor:
    height, width = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = F.pad(x[None], (width, width, height, height), mode=border)
    return F.conv2d(padded, kernel.expand(len(x), 1, -1, -1), groups=len(x))[0]


def highest(x: Tensor) -> Tensor:
    return F.max_pool2d(F.max_pool2d(x, (1, 5), 1, (0, 2)), (5, 1), 1, (2, 0))


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    crop, image, strip = torch.rand(3, 192, 192), torch.rand(3, 512, 768), torch.rand(1, 72, 4000)
    wide, narrow, square = gaussian_kernel(4.0), gaussian_kernel(0.7), torch.ones(5, 5)
    taps = narrow.sum(0)[None]
    mosaic, raw = crop[:1] * _bayer(192, 192), crop[:1]
    pair = image[None].double(), (image + 0.05 * torch.randn_like(image))[None].double()
    print(f"{'kornia, own':40} {'differ':>8} {'seconds':>8}")
    compare(
        "filter2d, conv2d",
        lambda: convolved(crop, wide),
        lambda: filters.filter2d(crop[None], wide[None], "replicate")[0],
    )
    compare(
        "filter2d_separable, two conv2d",
        lambda: convolved(convolved(crop, taps, "reflect"), taps.T, "reflect"),
        lambda: filters.filter2d_separable(crop[None], taps, taps)[0],
    )
    compare(
        "gaussian_blur2d, conv2d",
        lambda: convolved(raw, narrow),
        lambda: filters.gaussian_blur2d(raw[None], (5, 5), (0.7, 0.7), "replicate")[0],
    )
    compare(
        "closing, max_pool2d",
        lambda: -highest(-highest(strip)),
        lambda: morphology.closing(strip[None], square)[0],
    )
    compare("raw_to_rgb", lambda: _demosaic(mosaic), lambda: color.raw_to_rgb(raw, color.CFA.BG))
    compare(
        "box_blur, window_mean",
        lambda: guided_filter.window_mean(image),
        lambda: filters.box_blur(image[None], 7, separable=True)[0],
    )
    compare(
        "rgb_to_grayscale, luminance",
        lambda: tone.luminance(image),
        lambda: color.rgb_to_grayscale(image),
    )
    compare(
        "rgb_to_ycbcr, rgb_to_full_range",
        lambda: colour.rgb_to_full_range(image),
        lambda: color.rgb_to_ycbcr(image),
    )
    compare(
        "ssim, float64",
        lambda: ssim(*pair),
        lambda: metrics.ssim(*pair, 11, 1.0, 0.0, "valid").mean((1, 2, 3)),
    )
    compare("psnr, float64", lambda: psnr(*pair)[0], lambda: metrics.psnr(*pair, 1.0))


if __name__ == "__main__":
    main()
