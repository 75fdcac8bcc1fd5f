"""Measure `restore denoise` on JPEG of low quality, as a Markdown table.

    python benchmarks/deblock_table.py ../shared/data/train --weights mirnet.denoise

Held-out photographs, which no training uses, are reduced by 0.5 (in full size they have JPEG
artifacts themselves), saved by Pillow with 4:2:0 and decoded. Mean PSNR and SSIM. For comparison:
the network without the limit by the estimated noise, and a Gaussian.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from torch import Tensor

from restore_cli.checkpoints.load import load_checkpoint
from restore_cli.data.noise import blur
from restore_cli.data.pairs import load_photos, reduced
from restore_cli.imaging.codecs.jpeg import through_jpeg
from restore_cli.imaging.io import read
from restore_cli.inference.options import Precision, RunOptions
from restore_cli.inference.restorer import Restorer, load_restorer
from restore_cli.metrics import PROTOCOLS, means_of, measure

QUALITIES = (10, 20, 30, 40)
SOFT = 0.6  # sigma of the Gaussian, pixels


def methods(weights: str, precision: Precision) -> dict[str, Callable[[Tensor], Tensor]]:
    options = RunOptions(weights=weights, device="cpu", precision=precision)
    return {
        "input": lambda pixels: pixels,
        "restore denoise": load_restorer("denoise", options).run,
        "network alone": Restorer(load_checkpoint(weights), options).run,
        f"Gaussian, sigma {SOFT}": lambda pixels: blur(pixels, SOFT),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--crops", action="store_true", help="the upper left 512 x 384 pixels of all images in DATA"
    )
    parser.add_argument("--weights", default="mirnet.denoise")
    parser.add_argument("--protocol", choices=("rgb", "y"), default="rgb")
    parser.add_argument("--quality", type=int, nargs="+", default=QUALITIES)
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32")
    arguments = parser.parse_args()
    chosen = methods(arguments.weights, arguments.precision)
    if arguments.crops:
        photos = [read(path).pixels[:, :384, :512] for path in sorted(arguments.data.glob("*.png"))]
    else:
        photos = [reduced(photo, 2).float() / 255 for photo in load_photos(arguments.data)[1]]
    print(f"| quality | {' | '.join(chosen)} |", f"|---|{'---|' * len(chosen)}", sep="\n")
    for quality in arguments.quality:
        cells = []
        for method in chosen.values():
            scores = means_of(
                [
                    measure(
                        method(through_jpeg(photo, quality)).clamp(0, 1),
                        photo,
                        PROTOCOLS[arguments.protocol],
                    )
                    for photo in photos
                ]
            )
            cells.append(f"{scores.psnr:.2f} / {scores.ssim:.4f}")
        print(f"| {quality} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
