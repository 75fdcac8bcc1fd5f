"""Measure the PSNR of derained dry crops against the crops, as a Markdown table, worst last.

    python benchmarks/dry_crops.py DATA --weights dpenet.default

Upright, thin objects (lamp posts, masts, columns, window bars, frames, trunks), selected manually
from the photographs of DATA that trainings hold out; dry_crops.csv lists them. Each photograph is
derained as a whole. PSNR of 8-bit RGB; inf: no pixel differs.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

from restore_cli.checkpoints.load import load_checkpoint
from restore_cli.imaging.image import Image
from restore_cli.imaging.io import read, write
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import Restorer
from restore_cli.metrics import psnr

LIST = Path(__file__).with_suffix(".csv")


def rows_by_file() -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    with LIST.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            found.setdefault(row["file"], []).append(row)
    return found


def measured(
    data: Path, restorer: Restorer, save: Path | None
) -> Iterator[tuple[float, dict[str, str]]]:
    """Yield (dB, row) of each crop; save: folder for the crops, before and after side by side."""
    number = 0
    for file, rows in rows_by_file().items():
        before = read(data / file).pixels
        after = (restorer.run(before) * 255).round() / 255
        for row in rows:
            left, top, width, height = (int(row[k]) for k in ("left", "top", "width", "height"))
            box = (slice(None), slice(top, top + height), slice(left, left + width))
            yield psnr(after[box][None], before[box][None]).item(), row
            number += 1
            if save is not None:
                for name, pixels in (("before", before), ("after", after)):
                    target = save / f"{number:02d}_{name}.png"
                    write(Image(pixels[box].contiguous()), target, overwrite=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of the photographs")
    parser.add_argument("--weights", default="dpenet.default")
    parser.add_argument("--save", type=Path, help="folder for the crops")
    chosen = parser.parse_args()
    if chosen.save is not None:
        chosen.save.mkdir(parents=True, exist_ok=True)
    restorer = Restorer(load_checkpoint(chosen.weights), RunOptions(device="cpu", precision="fp32"))
    found = sorted(measured(chosen.data, restorer, chosen.save), key=lambda pair: -pair[0])
    print("| file | left, top | content | dB |", "|---|---|---|---|", sep="\n")
    for value, row in found:
        place = f"{row['left']}, {row['top']}"
        print(f"| {row['file']} | {place} | {row['content']} | {value:.1f} |")
    values = [min(value, 100.0) for value, _ in found]
    mean = sum(values) / len(values)
    print(f"\n{len(found)} crops: mean {mean:.1f} (inf counted as 100), worst {min(values):.1f}")


if __name__ == "__main__":
    main()
