"""Our pipeline beside plain eager PyTorch: the same DPENet, one picture, one run.

    python benchmarks/derain_speed.py --size 1024 --rounds 5

Plain is the network as anyone would first write it: float32, contiguous, the whole picture at once.
The ways take turns, so that a machine that is busy for a while is so for each; medians are given.
The matrix peak is that of torch.mm in the same run. Beside the wall clock stands the time that the
processors spent, which says more where others use the machine too.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

import torch

from restore_cli.checkpoints import load_checkpoint
from restore_cli.pipelines.device import keep_freed_memory
from restore_cli.pipelines.restorer import RunOptions, load_restorer

GEMM = 2048


@dataclass
class Way:
    name: str
    run: Callable[[], object]
    flops: float
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def time(self) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.run()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


def plain(weights: str, pixels: torch.Tensor) -> Callable[[], object]:
    network = load_checkpoint(weights).module
    return torch.inference_mode()(lambda: network(pixels[None]))


def ours(weights: str, pixels: torch.Tensor, precision: str) -> Callable[[], object]:
    options = RunOptions(weights=weights, device="cpu", precision=precision, overlap="exact")  # type: ignore[arg-type]
    restorer = load_restorer("derain", options)
    return lambda: restorer.run(pixels)


def product(dtype: torch.dtype) -> Callable[[], object]:
    matrix = torch.rand(GEMM, GEMM).to(dtype)
    return lambda: matrix @ matrix


def ways(weights: str, size: int) -> list[Way]:
    pixels = torch.rand(3, size, size)
    network = load_checkpoint(weights).module
    # Each weight of a convolution works once on each pixel, in a multiplication and an addition.
    flops = 2 * size**2 * sum(p.numel() for p in network.parameters() if p.dim() == 4)
    return [
        Way("matrix product, float32", product(torch.float32), 2 * GEMM**3),
        Way("matrix product, bfloat16", product(torch.bfloat16), 2 * GEMM**3),
        Way("plain, float32", plain(weights, pixels), flops),
        Way("ours, float32, exact", ours(weights, pixels, "fp32"), flops),
        Way("ours, bfloat16, exact", ours(weights, pixels, "bf16"), flops),
    ]


def table(measured: list[Way]) -> str:
    peak32, peak16, base, *_ = measured
    lines = [
        "| way | seconds | GFLOP/s | times plain | of the peak | CPU seconds | times plain |",
        "|---|---|---|---|---|---|---|",
    ]
    for way in measured:
        peak = peak16 if "bfloat16" in way.name else peak32
        speed, fastest = way.flops / median(way.wall), peak.flops / median(peak.wall)
        network = way not in (peak32, peak16)
        lines.append(
            f"| {way.name} | {median(way.wall):.2f} | {speed / 1e9:.0f} "
            f"| {median(base.wall) / median(way.wall) if network else float('nan'):.2f} "
            f"| {speed / fastest:.0%} | {median(way.cpu):.2f} "
            f"| {median(base.cpu) / median(way.cpu) if network else float('nan'):.2f} |"
        )
    return "\n".join(lines).replace("nan", "")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="dpenet.default")
    parser.add_argument("--size", type=int, default=1024, help="of the square picture [1024]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep-memory", action="store_true", help="as the command line does")
    arguments = parser.parse_args()
    if arguments.keep_memory:
        keep_freed_memory()
    measured = ways(arguments.weights, arguments.size)
    for way in measured[:2]:
        way.run()  # the first product starts the threads
    for _ in range(arguments.rounds):
        for way in measured:
            way.time()
            print(f"{way.name}: {way.wall[-1]:.2f} s", file=sys.stderr)
    print(
        f"{arguments.size}x{arguments.size}, {torch.get_num_threads()} threads, "
        f"{arguments.rounds} rounds, torch {torch.__version__}\n"
    )
    print(table(measured))


if __name__ == "__main__":
    main()
