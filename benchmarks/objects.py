"""Write the drawn objects as training images, in a folder for each class.

    python benchmarks/objects.py objects32 --side 32 --count 500
    restore train unet --preset quick --data objects32 --out run
    python benchmarks/objects.py objects64 --side 64 --count 500
    restore train unet --preset objects64 --init run/scalecrafter.safetensors --data objects64
    python benchmarks/objects.py mixed32 --side 32 --count 500 --aspects
    restore train fitv2 --preset objects --data mixed32 --out run
    python benchmarks/objects.py mixed64 --side 32 48 64 --count 300 --aspects
    restore train fitv2 --preset objects_hr --init run/fitv2.safetensors --data mixed64 --out run_hr

The same arguments give the same files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from drawn_objects import DRAWERS, draw_object
from torch import Generator

from restore_cli.data.degrade import happens, uniform
from restore_cli.imaging.image import Image
from restore_cli.imaging.io import write

MULTIPLE = 4  # of the sides of non-square images, pixels: the patches of a FiT


def draw_size(side: int, generator: Generator) -> tuple[int, int]:
    """Draw (H, W) of at most side x side pixels: half of them square, the others up to 1:2."""
    if happens(0.5, generator):
        return side, side
    stretch = 2 ** uniform(-0.5, 0.5, generator)
    height, width = (int(s) // MULTIPLE * MULTIPLE for s in (side / stretch, side * stretch))
    return height, width


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--side",
        type=int,
        nargs="+",
        default=[32],
        help="sides of the images in pixels, used in turn",
    )
    parser.add_argument("--count", type=int, default=500, help="images per class")
    parser.add_argument("--aspects", action="store_true", help="include non-square images")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    generator = Generator().manual_seed(arguments.seed)
    for name in DRAWERS:
        folder = arguments.out / name
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(arguments.count):
            side = arguments.side[index % len(arguments.side)]
            size = draw_size(side, generator) if arguments.aspects else (side, side)
            write(Image(draw_object(name, size, generator)), folder / f"{index:05}.png")
        print(f"{folder}: {arguments.count}", flush=True)


if __name__ == "__main__":
    main()
