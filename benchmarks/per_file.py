"""Measure the processor time that each file of a folder of small images costs a command.

    python benchmarks/per_file.py --files 2000 --side 32

Each command restores a folder of few and one of many PNGs of smooth colours with noise, in a
process of its own; the difference, divided by that of the numbers of files, is the cost of a file:
planning, reading, the network, writing, and telling the result. The start is what is left. The
median of the rounds counts.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from benchmarks.start import cpu_seconds

FEW = 20  # files
COMMANDS = (
    "upscale",
    "upscale --backend torch",
    "derain --precision auto",
    "denoise --precision auto",
)


def make_folder(folder: Path, *, files: int, side: int) -> Path:
    """Write PNGs of smooth colours with noise, all of them different; return the folder."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(files):
        smooth = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).resize((side, side))
        noisy = np.asarray(smooth) + rng.normal(0, 8, (side, side, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commands", nargs="*", default=COMMANDS)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--side", type=int, default=32, help="pixels")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    seconds: dict[str, list[tuple[float, float]]] = {command: [] for command in given.commands}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few = make_folder(folder / "few", files=FEW, side=given.side)
        many = make_folder(folder / "many", files=given.files, side=given.side)
        for _ in range(given.rounds):
            for command, each in seconds.items():
                run = [
                    sys.executable,
                    "-m",
                    "restore_cli",
                    *shlex.split(command),
                    "--device",
                    "cpu",
                ]
                run += ["-q", "--overwrite", "-o", str(folder / "out")]
                each.append((cpu_seconds([*run, str(few)]), cpu_seconds([*run, str(many)])))
    print("| command | start, s | a file, ms |", "|---|---|---|", sep="\n")
    for command, each in seconds.items():
        cost = median((long - short) / (given.files - FEW) for short, long in each)
        start = median(short for short, _ in each) - FEW * cost
        print(f"| `restore {command}` | {start:.2f} | {1000 * cost:.2f} |")


if __name__ == "__main__":
    main()
