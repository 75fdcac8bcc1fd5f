"""Measure the peak memory of a command by the size of the image.

    python benchmarks/giants.py upscale --megapixels 1 4 16 36 400
    python benchmarks/giants.py derain --megapixels 400 --stub

Each image is a TIFF with holes, so that it takes hardly any disk, and goes through the command in a
process of its own, result included. "Peak" is the resident memory above that of a run on an image
of 64 x 64 px. --stub: a network that returns its input, to measure all but the network. Linux only.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = ("upscale", "derain", "denoise")
HELD = re.compile(r"VmHWM:\s+(\d+) kB")


def run_here(command: str, source: Path, target: Path, weights: str | None, stub: bool) -> None:
    """Restore one image in this process and print its peak memory in MB."""
    from torch import nn

    from restore_cli.batch.jobs import Job
    from restore_cli.batch.run import run
    from restore_cli.inference.options import RunOptions
    from restore_cli.inference.restorer import load_restorer
    from restore_cli.memory import keep_freed_memory

    keep_freed_memory()
    restorer = load_restorer(command, RunOptions(weights=weights, device="cpu"))
    if stub:
        restorer.runner.network = nn.Identity()
    (result,) = run([Job(source, target, "tiff")], restorer)
    if result.error is not None:
        raise result.error
    found = HELD.search(Path("/proc/self/status").read_text())
    assert found is not None
    print(int(found[1]) // 1024)


def peak(
    command: str, side: int, folder: Path, weights: str | None, stub: bool
) -> tuple[int, float]:
    """Return the peak memory in MB and the seconds of one run in a process of its own."""
    import numpy as np
    import tifffile

    source, target = folder / "source.tif", folder / "result.tif"
    levels = tifffile.memmap(source, shape=(side, side, 3), dtype=np.uint8, photometric="rgb")
    levels[:64, :64] = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    del levels
    case = [command, "--case", str(source), str(target)]
    case += ["--weights", weights] if weights else []
    began = time.monotonic()
    found = subprocess.run(
        [sys.executable, __file__, *case, *(["--stub"] if stub else [])],
        check=True,
        capture_output=True,
        text=True,
    )
    seconds = time.monotonic() - began
    source.unlink()
    target.unlink()
    return int(found.stdout.split()[-1]), seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1, 4, 16, 36])
    parser.add_argument("--weights", metavar="NAME|FILE")
    parser.add_argument("--folder", type=Path, help="folder of images and results [temporary]")
    parser.add_argument("--stub", action="store_true", help="a network that returns its input")
    parser.add_argument("--case", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        run_here(given.command, *given.case, given.weights, given.stub)
        return
    print("| megapixels | peak, MB | seconds |\n|---|---|---|")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        idle, _ = peak(given.command, 64, Path(folder), given.weights, given.stub)
        for count in given.megapixels:
            side = round((count * 1e6) ** 0.5)
            held, seconds = peak(given.command, side, Path(folder), given.weights, given.stub)
            print(f"| {count:g} | {held - idle} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
