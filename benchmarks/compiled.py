"""Measure on a CPU from how many images on torch.compile pays, as a Markdown table.

    python benchmarks/compiled.py --weights espcn.x2

Processor seconds of the network alone, in float32, for a tile as the pipeline takes it: compiling
and the first run, a later run, and a run of the fused network of the pipeline. The last column is
the number of such tiles from which on compiling pays; an image of 1 megapixel has about ten.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from statistics import median

import torch

from restore_cli.checkpoints.load import load_checkpoint
from restore_cli.inference.blockwise import blockwise
from restore_cli.inference.fused import fused
from restore_cli.memory import keep_freed_memory


def seconds(run: Callable[[], object]) -> float:
    """Return the processor time of this process and of the compilers that it starts."""
    began = os.times()
    run()
    return sum(os.times()[:4]) - sum(began[:4])


def row(weights: str, side: int, rounds: int) -> str:
    network = load_checkpoint(weights).module.to(memory_format=torch.channels_last)
    channels = next(network.parameters()).shape[1]
    x = torch.rand(1, channels, side, side).contiguous(memory_format=torch.channels_last)
    own, compiled = fused(blockwise(network)), torch.compile(network)
    own(x)
    start = seconds(lambda: compiled(x))
    times: list[tuple[float, float]] = []
    for _ in range(rounds):
        times.append((seconds(lambda: compiled(x)), seconds(lambda: own(x))))
    later, usual = (median(column) for column in zip(*times, strict=True))
    pays = f"{start / (usual - later):.0f}" if later < usual else "never"
    return f"| {weights} | {start:.1f} | {later:.3f} | {usual:.3f} | {pays} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=5)
    usual = ["espcn.x2", "cbsn.fast", "mirnet.denoise", "dpenet.default"]
    parser.add_argument("--weights", nargs="+", default=usual)
    arguments = parser.parse_args()
    keep_freed_memory()
    print(
        "| weights | compiling | compiled | fused | pays from |", "|---|---|---|---|---|", sep="\n"
    )
    with torch.inference_mode():
        for weights in arguments.weights:
            print(row(weights, arguments.side, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
