"""Measure the working memory of a network per pixel of a tile: `bytes_per_pixel`.

    python benchmarks/memory.py derain --side 1024
    python benchmarks/memory.py upscale --weights mirnet.sr_x4 --side 256

Each case runs in a subprocess. The image is one tile; the increase of the peak memory is divided by
the pixels of the input of the network. "whole" is the plain network, as on a GPU; "blockwise" is
how `restore` runs it on the CPU. Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # otherwise its memory would be in the baseline
    from restore_cli.inference.options import Precision

CASES = [(mode, precision) for mode in ("whole", "blockwise") for precision in ("fp32", "bf16")]


def status(field: str) -> int:
    """Return the bytes of VmRSS (current) or VmHWM (peak) of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def one_case(task: str, weights: str | None, side: int, mode: str, precision: Precision) -> None:
    import torch

    from restore_cli.inference.options import RunOptions
    from restore_cli.inference.restorer import load_restorer

    options = RunOptions(weights=weights, tile="off", device="cpu", precision=precision)
    restorer = load_restorer(task, options)
    if mode == "whole":
        restorer.runner.network = restorer.checkpoint.module
    restorer.run(torch.rand(3, 64, 64))  # loads libraries and kernels
    pixels = torch.rand(3, side, side)
    before = status("VmRSS")
    restorer.run(pixels)
    input_side = side * restorer.facts.scale // restorer.facts.network_scale
    print(round((status("VmHWM") - before) / input_side**2))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task")
    parser.add_argument("--weights", metavar="NAME|FILE")
    parser.add_argument(
        "--side", type=int, default=1024, help="side of the square image, pixels [1024]"
    )
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        one_case(arguments.task, arguments.weights, arguments.side, *arguments.case)
        return
    print("| run | precision | bytes per pixel |\n|---|---|---|")
    for case in CASES:
        again = [sys.executable, __file__, *sys.argv[1:], "--case", *case]
        found = subprocess.run(again, check=True, capture_output=True, text=True).stdout.strip()
        print(f"| {case[0]} | {case[1]} | {found} |", flush=True)


if __name__ == "__main__":
    main()
