"""Measure tiles with a small overlap: difference from the whole image, and repeated work.

    python benchmarks/overlap.py derain rainy.png --weights Rain100H.pth --tile 160

Differences are of float32 outputs in 0..1; an 8-bit step is 0.0039. Tiles are cross-faded as in
`restore`. The work is pixels computed / pixels of the image, for the tile of this run and for a
large image in tiles of 2048 px.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from restore_cli.imaging.io import read
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import load_restorer
from restore_cli.inference.runner import LARGEST_TILE
from restore_cli.inference.tiling import plan_axis

OVERLAPS = (0, 8, 16, 32, 48, 64, 96, 128)


def work(sizes: tuple[int, ...], tile: int, overlap: int) -> float:
    """Return the pixels read by the tiles per pixel of the image."""
    product = 1.0
    for size in sizes:
        spans = plan_axis(size, tile, overlap, blend=0)
        product *= sum(span.stop - span.start for span in spans) / size
    return product


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task")
    parser.add_argument("image", type=Path)
    parser.add_argument("--weights")
    parser.add_argument("--tile", type=int, default=160)
    arguments = parser.parse_args()
    options = RunOptions(weights=arguments.weights, precision="fp32", tile="off", device="cpu")
    pixels = read(arguments.image).pixels
    restorer = load_restorer(arguments.task, options)
    whole = restorer.run(pixels)
    print("| overlap | largest difference | mean | work here | work at 12 megapixels |")
    print("|---|---|---|---|---|")
    for overlap in (*OVERLAPS, restorer.facts.receptive_radius):
        if overlap is None:
            continue
        tiled = load_restorer(
            arguments.task, replace(options, tile=arguments.tile, overlap=overlap)
        ).run(pixels)
        difference = (tiled - whole).abs()
        here = work(tuple(pixels.shape[-2:]), arguments.tile, overlap)
        large = work((3000, 4000), LARGEST_TILE, overlap)
        print(
            f"| {overlap} | {difference.max():.1e} | {difference.mean():.1e} "
            f"| {here:.2f} | {large:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
