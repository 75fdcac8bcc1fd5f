"""Measure the processor time of short commands, each in a process of its own, in turns.

    python benchmarks/start.py

An image of 256 x 256 random colours is enlarged twofold; the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

SIDE = 256  # pixels


def cpu_seconds(command: list[str]) -> float:
    """Return user and system time of a process. Raises CalledProcessError."""
    before = os.times()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    user = after.children_user - before.children_user
    return user + after.children_system - before.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    python, restore = [sys.executable, "-c"], [sys.executable, "-m", "restore_cli"]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.png"), Path(folder, "out.png")
        levels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(levels).save(source)
        upscale = [*restore, "upscale", str(source), "-o", str(target), "--overwrite", "-q"]
        commands = {
            "python": [*python, "pass"],
            "import torch": [*python, "import torch"],
            "import onnxruntime": [*python, "import onnxruntime"],
            "restore --help": [*restore, "--help"],
            "restore upscale --backend torch": [*upscale, "--device", "cpu", "--backend", "torch"],
            "restore upscale": [*upscale, "--device", "cpu"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                times[name].append(cpu_seconds(command))
    print("| command | CPU s |", "|---|---|", sep="\n")
    for name, each in times.items():
        print(f"| `{name}` | {median(each):.2f} |")


if __name__ == "__main__":
    main()
