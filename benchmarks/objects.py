"""The project's own set of pictures of one thing each, as a folder for each class.

    python benchmarks/objects.py objects32 --side 32 --count 500
    restore train unet --preset quick --data objects32 --out run

The same arguments, the same files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import Generator

from restore_cli.data.objects import DRAWERS, draw_object
from restore_cli.imaging.files import write
from restore_cli.imaging.image import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=32, help="of the pictures, in pixels")
    parser.add_argument("--count", type=int, default=500, help="of pictures of each class")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    generator = Generator().manual_seed(arguments.seed)
    for name in DRAWERS:
        folder = arguments.out / name
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(arguments.count):
            picture = draw_object(name, arguments.side, generator)
            write(Image(picture), folder / f"{index:05}.png")
        print(f"{folder}: {arguments.count}", flush=True)


if __name__ == "__main__":
    main()
