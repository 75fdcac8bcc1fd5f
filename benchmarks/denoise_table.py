"""Measure denoising of pairs, image by image, as the Markdown table of the model card.

    python benchmarks/denoise_table.py ../shared/data/realnoise-test
    python benchmarks/denoise_table.py ../shared/data/bsd68 --noisy noisy25 --clean original

PSNR and SSIM of 8-bit RGB. For comparison: the network without the limit by the estimated noise, a
Gaussian, a median, and the non-local means of scikit-image (a separate package), whose sigma is the
robust std of the diagonal Haar detail.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from scipy import ndimage
from skimage.restoration import denoise_nl_means
from torch import Tensor

from restore_cli.checkpoints.load import load_checkpoint
from restore_cli.data.noise import blur
from restore_cli.imaging.io import read
from restore_cli.inference.options import Precision, RunOptions
from restore_cli.inference.restorer import Restorer, load_restorer
from restore_cli.metrics import PROTOCOLS, measure

MAD = 0.6745  # of a unit normal


def gaussian(pixels: Tensor) -> Tensor:
    return blur(pixels, 1.0)


def median(pixels: Tensor) -> Tensor:
    return torch.from_numpy(ndimage.median_filter(pixels.numpy(), (1, 3, 3)))


def sigma_of(pixels: Tensor) -> float:
    """Estimate the sigma of white noise, averaged over the channels."""
    p = pixels
    diagonal = (p[:, ::2, ::2][:, : p.shape[1] // 2, : p.shape[2] // 2] + p[:, 1::2, 1::2]) / 2
    across = p[:, ::2, 1::2][:, : p.shape[1] // 2] + p[:, 1::2, ::2][..., : p.shape[2] // 2]
    detail = (diagonal - across / 2).abs().flatten(1)
    return (detail.median(dim=1).values / MAD).mean().item()


def non_local_means(pixels: Tensor) -> Tensor:
    sigma = sigma_of(pixels)
    result = denoise_nl_means(
        pixels.permute(1, 2, 0).numpy(),
        patch_size=5,
        patch_distance=6,
        h=0.8 * sigma,
        sigma=sigma,
        fast_mode=True,
        channel_axis=-1,
    )
    return torch.from_numpy(np.ascontiguousarray(result)).permute(2, 0, 1).float()


def methods(weights: str, precision: Precision) -> dict[str, Callable[[Tensor], Tensor]]:
    options = RunOptions(weights=weights, device="cpu", precision=precision)
    return {
        "input": lambda pixels: pixels,
        "restore denoise": load_restorer("denoise", options).run,
        "network alone": Restorer(load_checkpoint(weights), options).run,
        "non-local means": non_local_means,
        "median 3x3": median,
        "Gaussian, sigma 1": gaussian,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--noisy", default="noisy")
    parser.add_argument("--clean", default="clean")
    parser.add_argument("--weights", default="cbsn.fast")
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32")
    arguments = parser.parse_args()
    chosen = methods(arguments.weights, arguments.precision)
    print(f"| image | {' | '.join(chosen)} |", f"|---|{'---|' * len(chosen)}", sep="\n")
    sums = dict.fromkeys(chosen, torch.zeros(2))
    files = sorted((arguments.data / arguments.noisy).iterdir())
    for file in files:
        pixels = read(file).pixels
        clean = read(arguments.data / arguments.clean / file.name).pixels
        cells = []
        for name, method in chosen.items():
            scores = measure(method(pixels).clamp(0, 1), clean, PROTOCOLS["rgb"])
            sums[name] = sums[name] + torch.tensor([scores.psnr, scores.ssim or 0])
            cells.append(f"{scores.psnr:.2f} / {scores.ssim:.4f}")
        print(f"| {file.stem} | {' | '.join(cells)} |", flush=True)
    means = [f"{psnr:.2f} / {ssim:.4f}" for psnr, ssim in (sums[n] / len(files) for n in chosen)]
    print(f"| mean of {len(files)} | {' | '.join(means)} |")


if __name__ == "__main__":
    main()
