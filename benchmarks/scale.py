"""Predict runs of many images from three small ones, check it, and measure the workers of Ray.

    python benchmarks/scale.py model upscale --model espcn --check 2000
    python benchmarks/scale.py ray --items 2000 --side 128 --workers 1 2

model: fits seconds of the processor for a start, a file and a megapixel to three runs of the
command, and compares its prediction with a run of images of many sizes. With --images, the hours
and the cost of a larger run follow. One thread, so that they add up on a shared machine.
ray: measures what an item costs the process that plans, whatever the workers do.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

FITTED = ((1, 64), (300, 64), (12, 512))  # images and their side, of three runs
SIDES = (32, 48, 80, 128, 192)  # of the run that is predicted, in turns


def draw(folder: Path, sides: list[int]) -> None:
    """Write PNGs of smooth noise."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number, side in enumerate(sides):
        small = random.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:06}.png")


def seconds(command: list[str], sides: list[int]) -> tuple[float, float]:
    """Return the seconds of the processor, and those that passed, of a run of the command."""
    with tempfile.TemporaryDirectory() as temporary:
        sources, out = Path(temporary, "in"), Path(temporary, "out")
        draw(sources, sides)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "restore_cli", *command, str(sources), "-o", str(out), "-q"],
            check=True,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return used, time.perf_counter() - began


def fit(command: list[str]) -> tuple[float, float, float]:
    """Return the seconds of the processor of a start, of a file and of a megapixel."""
    rows, found = [], []
    for count, side in FITTED:
        used, _ = seconds(command, [side] * count)
        rows.append((1, count, count * side**2 / 1e6))
        found.append(used)
    start, file, megapixel = np.linalg.solve(np.array(rows), np.array(found))
    return float(start), float(file), float(megapixel)


def predict(arguments: argparse.Namespace, command: list[str]) -> None:
    start, file, megapixel = fit(command)
    print(
        f"start {start:.2f} s, file {1e3 * file:.2f} ms, megapixel {megapixel:.3f} s of processor"
    )
    sides = [SIDES[number % len(SIDES)] for number in range(arguments.check)]
    if sides:
        expected = start + file * len(sides) + megapixel * sum(side**2 for side in sides) / 1e6
        used, passed = seconds(command, sides)
        error = 100 * (expected / used - 1)
        print(
            f"{len(sides)} images: predicted {expected:.1f} s, measured {used:.1f} s "
            f"({error:+.0f} %), {passed:.0f} s passed"
        )
    if arguments.images:
        each = file + megapixel * arguments.megapixels
        hours = (start + arguments.images / arguments.cores * each) / 3600
        print(
            f"{arguments.images:,} images of {arguments.megapixels:g} megapixels on "
            f"{arguments.cores} cores: {hours:.1f} h, {hours * arguments.cores:.0f} core hours, "
            f"{hours * arguments.cores * arguments.price:.2f} at {arguments.price:g} each"
        )


def measure_ray(arguments: argparse.Namespace) -> None:
    import ray

    from restore_cli.batch.distributed import Cluster, start
    from restore_cli.batch.ledger import Ledger
    from restore_cli.batch.plan import Enlargement, plan
    from restore_cli.batch.run import run_plan
    from restore_cli.inference.options import RunOptions
    from restore_cli.inference.restorer import load_restorer

    load = partial(
        load_restorer, "upscale", RunOptions(model="espcn", weights="espcn.x2", device="cpu")
    )
    with tempfile.TemporaryDirectory() as temporary:
        sources = Path(temporary, "in")
        draw(sources, [arguments.side] * arguments.items)
        for workers in arguments.workers:
            pool = start(load, Cluster(workers=workers))
            book = Ledger(Path(temporary, f"{workers}.sqlite"))
            ready = plan(
                [str(sources)],
                str(Path(temporary, f"out{workers}")),
                task="upscale",
                model="espcn",
                scale=Enlargement(2),
                ledger=book,
            )
            used, began, waited, work = time.process_time(), time.perf_counter(), 0.0, 0.0
            for result in run_plan(ready, pool.run):
                waited = waited or time.perf_counter() - began
                work += result.seconds
            used, passed = time.process_time() - used, time.perf_counter() - began
            assert book.counts() == {"ok": arguments.items}
            print(
                f"{workers} workers: {passed:.1f} s, {waited:.1f} s of them before the first "
                f"result; {1e3 * used / arguments.items:.2f} ms of processor an item in the "
                f"command; {work:.0f} s in the workers"
            )
            ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    model = kinds.add_parser("model")
    model.add_argument("--check", type=int, default=2000, help="images of the check")
    model.add_argument("--images", type=int, help="images of the run to be predicted")
    model.add_argument("--megapixels", type=float, default=12)
    model.add_argument("--cores", type=int, default=64)
    model.add_argument("--price", type=float, default=0.05, help="of a core for an hour")
    workers = kinds.add_parser("ray")
    workers.add_argument("--items", type=int, default=2000)
    workers.add_argument("--side", type=int, default=128)
    workers.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments, command = parser.parse_known_args()
    if arguments.kind == "model":
        predict(arguments, command)
    else:
        measure_ray(arguments)


if __name__ == "__main__":
    main()
