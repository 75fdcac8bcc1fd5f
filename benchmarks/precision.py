"""Measure the error of 16-bit arithmetic relative to float32, as a Markdown table.

    python benchmarks/precision.py derain PAIRS --weights Rain100H.pth --set rain100h

PAIRS holds input/ and target/ with the same file names; --set selects a prefix of the
names. Distance: dB between both outputs before rounding. Loss: PSNR (RGB) of the float32 output
against the clean image, minus that of the 16-bit one, both rounded to 8 bit.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from restore_cli.imaging.io import read
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import load_restorer


def decibel(x: Tensor, y: Tensor) -> float:
    return -10 * (x - y).square().mean().clamp(min=1e-12).log10().item()


def rounded(x: Tensor) -> Tensor:
    return (x * 255).round() / 255


def centre(pixels: Tensor, side: int | None) -> Tensor:
    if side is None:
        return pixels
    top, left = (max(0, size - side) // 2 for size in pixels.shape[-2:])
    return pixels[:, top : top + side, left : left + side]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task")
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--set", default="", help="prefix of the file names")
    parser.add_argument("--crop", type=int, help="side of a central crop, pixels")
    parser.add_argument("--precision", choices=["bf16", "fp16"], default="bf16")
    arguments = parser.parse_args()
    options = RunOptions(weights=arguments.weights, precision="fp32", device="cpu")
    exact = load_restorer(arguments.task, options)
    low = load_restorer(arguments.task, replace(options, precision=arguments.precision))
    distances, losses, largest = [], [], 0.0
    for path in sorted((arguments.pairs / "input").glob(f"{arguments.set}*")):
        degraded, clean = (
            centre(read(file).pixels, arguments.crop)
            for file in (path, arguments.pairs / "target" / path.name)
        )
        wanted, got = exact.run(degraded), low.run(degraded)
        distances.append(decibel(wanted, got))
        losses.append(decibel(rounded(wanted), clean) - decibel(rounded(got), clean))
        largest = max(largest, (wanted - got).abs().max().item())
    print(f"torch {torch.__version__}, {len(losses)} pairs\n")
    print("| distance, least | mean | loss, worst | mean | largest difference |")
    print("|---|---|---|---|---|")
    print(
        f"| {min(distances):.1f} dB | {mean(distances):.1f} dB "
        f"| {max(losses):.3f} dB | {mean(losses):.3f} dB | {largest:.3f} |"
    )


if __name__ == "__main__":
    main()
