"""Does ScaleCrafter keep one object one? The bundled UNet beyond its training size, many seeds.

    python benchmarks/repetition.py --weights scalecrafter.default --ratio 2 --seeds 4
    python benchmarks/repetition.py --ratio 4 --seeds 2 --rows rows.jsonl --picture grid.png

Arms: `direct` (the plain sampler at the large size), `scalecrafter`, `enlarged` (made at the
trained size, then bicubic) and `drawn` (pictures of the set itself, drawn so large). For each the
mean number of objects (1 is right), the share of pictures with exactly one, the repetition score,
and their 95 % intervals. Balls are left out: a belt cuts a large one in two. ROWS keeps what is
measured, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor

from restore_cli.checkpoints.classes import class_weights
from restore_cli.checkpoints.load import load_checkpoint
from restore_cli.data.objects import DRAWERS, draw_object
from restore_cli.imaging.contact import contact_sheet
from restore_cli.imaging.files import write
from restore_cli.imaging.image import Image
from restore_cli.imaging.resize import resize_matlab
from restore_cli.metrics.objects import count_objects, repetition
from restore_cli.pipelines.generator import UNetRequest, UNetSampler

ARMS = ("direct", "scalecrafter", "enlarged", "drawn")
CLASSES = tuple(name for name in DRAWERS if name != "ball")
SHOWN = 2  # seeds of a class in the picture


def pictures(
    sampler: UNetSampler, label: int, name: str, arm: str, side: int, options: argparse.Namespace
) -> Tensor:
    """(seeds, 3, side, side)"""
    seeds = range(options.seed, options.seed + options.seeds)
    if arm == "drawn":
        return torch.stack(
            [draw_object(name, (side, side), Generator().manual_seed(seed)) for seed in seeds]
        )
    trained = sampler.unet.config.sample_size
    request = UNetRequest(
        label=label,
        size=(trained, trained) if arm == "enlarged" else (side, side),
        count=options.seeds,
        seed=options.seed,
        steps=options.steps,
        guidance=options.guidance,
        direct=arm == "direct",
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
        made = sampler(request)
    return resize_matlab(made, side, side).clamp(0, 1) if arm == "enlarged" else made


def measured(options: argparse.Namespace) -> Iterator[tuple[dict[str, object], Tensor]]:
    """A row, and the pictures, for each class and arm."""
    sampler = UNetSampler(load_checkpoint(options.weights).module)
    trained = sampler.unet.config.sample_size
    side = options.ratio * trained
    names = class_weights(options.weights).classes
    done = {key_of(row) for row in read_rows(options.rows)}
    for name in options.classes:
        for arm in ARMS:
            key = {"class": name, "arm": arm, "ratio": options.ratio, "seed": options.seed}
            if key_of(key) in done and not options.picture:
                continue
            made = pictures(sampler, names.index(name), name, arm, side, options)
            row = key | {
                "objects": [count_objects(one, trained=trained) for one in made],
                "repetition": [repetition(one, trained=trained) for one in made],
            }
            yield row, made


def key_of(row: dict[str, object]) -> tuple[object, ...]:
    return row["class"], row["arm"], row["ratio"], row["seed"]


def read_rows(path: Path | None) -> list[dict[str, object]]:
    if path is None or not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def with_interval(values: Sequence[float]) -> str:
    """Mean and half of its 95 % interval."""
    spread = statistics.stdev(values) if len(values) > 1 else math.nan
    return f"{statistics.mean(values):.2f} ± {1.96 * spread / math.sqrt(len(values)):.2f}"


def table(rows: list[dict[str, object]]) -> str:
    """Markdown, a line for each ratio and arm."""
    lines = [
        "| area | arm | pictures | objects | exactly one | repetition |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for ratio in sorted({row["ratio"] for row in rows}):
        for arm in ARMS:
            chosen = [row for row in rows if (row["ratio"], row["arm"]) == (ratio, arm)]
            objects = [n for row in chosen for n in row["objects"]]
            scores = [s for row in chosen for s in row["repetition"]]
            if not objects:
                continue
            one = sum(n == 1 for n in objects) / len(objects)
            lines.append(
                f"| {ratio**2}x | {arm} | {len(objects)} | {with_interval(objects)} | {one:.0%} "
                f"| {with_interval(scores)} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="scalecrafter.default")
    parser.add_argument("--ratio", type=int, default=2, help="of the sides, large to trained")
    parser.add_argument("--seeds", type=int, default=4, help="of each class")
    parser.add_argument("--seed", type=int, default=1000, help="the first one")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--classes", nargs="+", default=CLASSES, choices=DRAWERS)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--rows", type=Path, help="JSON lines, added to")
    parser.add_argument("--picture", type=Path, help="a sheet: a line a class, two of each arm")
    options = parser.parse_args()
    rows, shown = read_rows(options.rows), []
    for row, made in measured(options):
        rows.append(row)
        shown += made[:SHOWN]
        print(json.dumps(row), flush=True)
        if options.rows:
            with options.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
    if options.picture:
        columns = len(ARMS) * min(SHOWN, options.seeds)
        write(Image(contact_sheet(shown, columns)), options.picture, overwrite=True)
    print(table(rows))


if __name__ == "__main__":
    main()
