"""Measure time and size of the values of --compress, by format.

    python -m benchmarks.compress PHOTO.png ...

Each image is encoded without its metadata in each way, the ways in turns; the best of the rounds
counts. Sizes are relative to the pixels, of three bytes each.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import get_args

from restore_cli.imaging.formats import ENCODINGS, Compress
from restore_cli.imaging.image import Image
from restore_cli.imaging.io import encode, read


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    images = [Image(read(photo).pixels.expand(3, -1, -1)) for photo in given.photos]
    pixels = sum(image.height * image.width for image in images)
    print("| format | --compress | megapixels per CPU s | size, % |", "|---|---|---|---|", sep="\n")
    for encoding in ENCODINGS.values():
        if encoding.efforts is None:
            continue
        seconds: dict[Compress, float] = {}
        sizes: dict[Compress, int] = {}
        for _ in range(given.rounds):
            for compress in get_args(Compress):
                began = time.process_time()
                files = [encode(each, format=encoding.format, compress=compress) for each in images]
                spent = time.process_time() - began
                seconds[compress] = min(spent, seconds.get(compress, spent))
                sizes[compress] = sum(map(len, files))
        for compress, spent in seconds.items():
            size = sizes[compress] / pixels / 3
            print(f"| {encoding.format} | {compress} | {pixels / 1e6 / spent:.2f} | {size:.1%} |")


if __name__ == "__main__":
    main()
