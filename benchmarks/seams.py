"""Measure the error of tiles by overlap, for a network whose context exceeds the overlap.

    python benchmarks/seams.py denoise PAIRS --weights mirnet.denoise --overlap 0 --overlap 64

PAIRS holds input/ and target/ with the same file names. Means over the images, in float32:
difference from the untiled output, loss of PSNR against the target, and visibility of seams: the
gradient across the borders of tiles relative to elsewhere, divided by that of the untiled output
(1: invisible). Prints a Markdown table.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from restore_cli.imaging.io import read
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import Restorer, load_restorer
from restore_cli.inference.tiling import Span, plan_tiles
from restore_cli.metrics import psnr

OVERLAPS = (0, 16, 32, 64, 128)


def steepness(pixels: Tensor, rows: tuple[Span, ...], columns: tuple[Span, ...]) -> float:
    """Return the mean gradient across the borders of tiles, relative to that elsewhere."""
    at_lines, elsewhere = [], []
    for spans, axis in ((rows, -2), (columns, -1)):
        steps = pixels.diff(dim=axis).abs().movedim(axis, 0).flatten(1).mean(1)
        lines = torch.zeros(len(steps), dtype=torch.bool)
        # The border lies in the middle of the cross-fade.
        lines[[span.keep_start + span.fade_in // 2 - 1 for span in spans[1:]]] = True
        at_lines.append(steps[lines])
        elsewhere.append(steps[~lines])
    return (torch.cat(at_lines).mean() / torch.cat(elsewhere).mean()).item()


def visibility(tiled: Tensor, whole: Tensor, restorer: Restorer, tile: int) -> float:
    """Return the gradient of `tiled` at the borders of tiles, relative to that of `whole`."""
    height, width = whole.shape[-2:]
    multiple = restorer.facts.multiple
    size = (height + -height % multiple, width + -width % multiple)
    plan = plan_tiles(*size, tile=tile, overlap=0, blend=0, multiple=multiple)
    return steepness(tiled, plan.rows, plan.columns) / steepness(whole, plan.rows, plan.columns)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task")
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--overlap", type=int, action="append")
    parser.add_argument("--limit", type=int, default=10, help="number of images")
    parser.add_argument("--device", default="auto")
    chosen = parser.parse_args()
    paths = sorted((chosen.pairs / "input").iterdir())[: chosen.limit]
    inputs = [read(path).pixels for path in paths]
    targets = [read(chosen.pairs / "target" / path.name).pixels for path in paths]
    options = RunOptions(weights=chosen.weights, tile="off", device=chosen.device, precision="fp32")
    untiled = load_restorer(chosen.task, options)
    whole = [untiled.run(pixels) for pixels in inputs]
    print("| overlap | difference, of 255 | worst | PSNR lost, dB | seams |\n|---|---|---|---|---|")
    for overlap in chosen.overlap or OVERLAPS:
        restorer = load_restorer(chosen.task, replace(options, tile=chosen.tile, overlap=overlap))
        rows = []
        for pixels, target, best in zip(inputs, targets, whole, strict=True):
            tiled = restorer.run(pixels)
            difference = (tiled - best).abs() * 255
            lost = psnr(best[None], target[None]) - psnr(tiled[None], target[None])
            seams = visibility(tiled, best, restorer, chosen.tile)
            rows.append([difference.mean(), difference.max(), lost.item(), seams])
        mean = torch.tensor(rows).mean(0).tolist()
        print(f"| {overlap} | " + " | ".join(f"{value:.3f}" for value in mean) + " |", flush=True)


if __name__ == "__main__":
    main()
