"""PSNR and SSIM of weights over folders of pairs, as a Markdown table.

    python benchmarks/quality.py derain PAIRS --weights dpenet.default --weights Rain100H.pth

PAIRS holds input/ and target/ with the same file names; what stands before the first "-" of a name
is the set it belongs to. Computed in float32 and untiled unless said otherwise.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from torch import Tensor

from restore_cli.imaging.files import read
from restore_cli.metrics import PROTOCOLS, EvalProtocol, Scores, measure
from restore_cli.pipelines.restorer import RunOptions, load_restorer

Pictures = list[tuple[str, Tensor, Tensor]]  # set, degraded, clean


def pairs_of(folder: Path) -> Pictures:
    return [
        (path.stem.split("-")[0], read(path).pixels, read(folder / "target" / path.name).pixels)
        for path in sorted((folder / "input").iterdir())
    ]


def means(scores: dict[str, list[Scores]]) -> dict[str, str]:
    """`PSNR / SSIM` of each set and of all pictures."""
    scores = {**scores, "all": [score for group in scores.values() for score in group]}
    return {
        name: f"{sum(s.psnr for s in group) / len(group):.2f} / "
        f"{sum(s.ssim or 0 for s in group) / len(group):.4f}"
        for name, group in scores.items()
    }


def row(
    task: str, weights: str, pictures: Pictures, options: RunOptions, how: EvalProtocol
) -> dict[str, str]:
    restorer = load_restorer(task, options)
    scores = defaultdict(list)
    for name, degraded, clean in pictures:
        scores[name].append(measure(restorer.run(degraded), clean, how))
    return {"weights": weights, **means(scores)}


def input_row(pictures: Pictures, how: EvalProtocol) -> dict[str, str]:
    scores = defaultdict(list)
    for name, degraded, clean in pictures:
        scores[name].append(measure(degraded, clean, how))
    return {"weights": "input", **means(scores)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task")
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--weights", action="append", required=True, metavar="NAME|FILE")
    parser.add_argument("--protocol", default="y", choices=PROTOCOLS)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--tile", type=int, help="pixels; without it the picture goes whole")
    given = parser.parse_args()
    pictures, how = pairs_of(given.pairs), PROTOCOLS[given.protocol]
    table = input_row(pictures, how)
    print(" | ".join(["", *table, ""]).strip())
    print("|" + "---|" * len(table))
    print(" | ".join(["", *table.values(), ""]).strip(), flush=True)
    for weights in given.weights:
        options = RunOptions(weights=weights, tile=given.tile or "off", precision=given.precision)
        line = row(given.task, Path(weights).stem, pictures, options, how)
        print(" | ".join(["", *line.values(), ""]).strip(), flush=True)


if __name__ == "__main__":
    main()
