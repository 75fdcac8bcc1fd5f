"""Measure whether images of one size cost less as a batch, by networks alone on one thread.

    python -m benchmarks.batches --side 32 --precision bf16

Prints images per CPU second relative to one image at a time; the best of the rounds, in turns.
"""

from __future__ import annotations

import argparse
import time

import torch

from restore_cli.checkpoints.load import load_checkpoint
from restore_cli.inference.device import compute_in
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import Restorer

BATCHES = (1, 2, 4, 8)
WEIGHTS = ("espcn.x2", "dpenet.default", "cbsn.fast", "mirnet.denoise", "mirnet.fast_x2")


@torch.inference_mode()
def ratios(weights: str, side: int, precision: str, rounds: int) -> list[float]:
    restorer = Restorer(load_checkpoint(weights), RunOptions(device="cpu", backend="torch"))
    channels = 1 if restorer.luma_alone else 3
    best = dict.fromkeys(BATCHES, float("inf"))
    for _ in range(rounds + 1):  # the first one warms up
        for batch in BATCHES:
            images = torch.rand(batch, channels, side, side)
            with compute_in(precision, restorer.device):
                began = time.thread_time()
                restorer.runner.network(images)
                best[batch] = min(best[batch], (time.thread_time() - began) / batch)
    return [best[1] / best[batch] for batch in BATCHES[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=32, help="pixels")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| weights | 2 | 4 | 8 |", "|---|---|---|---|", sep="\n")
    for weights in WEIGHTS:
        found = ratios(weights, given.side, given.precision, given.rounds)
        print(f"| {weights} | {' | '.join(f'{ratio:.1f}' for ratio in found)} |")


if __name__ == "__main__":
    main()
