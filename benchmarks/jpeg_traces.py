"""Measure the share of photographs with detected JPEG artifacts, by JPEG quality.

    python benchmarks/jpeg_traces.py ../shared/data/train

Held-out photographs and every tenth of the others are reduced by 0.5 and 0.7 (in full size they
have JPEG artifacts themselves), then compressed with 4:2:0. Blocks begin at pixel 0, or at 3 and 5.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from restore_cli.data.pairs import load_photos, reduced
from restore_cli.imaging.codecs.jpeg import has_jpeg_traces, through_jpeg
from restore_cli.imaging.image import Image

QUALITIES = (None, 100, 95, 92, 90, 85, 80, 75, 60, 40, 20, 10)
ZOOMS = (0.5, 0.7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    training, held_out = load_photos(parser.parse_args().data)
    photos = [*held_out, *training[::10]]
    copies = [reduced(photo, 1 / zoom).float() / 255 for photo in photos for zoom in ZOOMS]
    print("| quality | detected | detected after a crop |", "|---|---|---|", sep="\n")
    for quality in QUALITIES:
        saved = [copy if quality is None else through_jpeg(copy, quality) for copy in copies]
        found = [has_jpeg_traces(Image(copy)) for copy in saved]
        cropped = [has_jpeg_traces(Image(copy[:, 3:, 5:])) for copy in saved]
        shares = [f"{sum(some) / len(copies):.0%}" for some in (found, cropped)]
        print(f"| {quality or 'not compressed'} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
