"""Measure the backends on a CPU in one process, in turns, as a Markdown table.

    python benchmarks/backends.py --size 512

Median processor time of the rounds, for an image of random colours: the network alone in plain
eager float32, and the whole pipeline with each backend and precision.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch

from restore_cli.checkpoints.load import load
from restore_cli.checkpoints.onnx import usable_cores
from restore_cli.imaging.image import Image
from restore_cli.inference.options import Backend, Precision, RunOptions
from restore_cli.inference.preprocessing import prepare
from restore_cli.inference.restorer import Restorer, load_network
from restore_cli.inference.tiling import pad_to_multiple

VARIANTS: tuple[tuple[Backend, Precision], ...] = (
    ("torch", "fp32"),
    ("onnx", "fp32"),
    ("openvino", "fp32"),
    ("torch", "bf16"),
    ("openvino", "bf16"),
)


def runs_of(weights: str, image: Image) -> dict[str, Callable[[], object]]:
    runs: dict[str, Callable[[], object]] = {}
    for backend, precision in VARIANTS:
        options = RunOptions(device="cpu", backend=backend, precision=precision)
        restorer = Restorer(load_network(weights, options), options)
        runs[f"{backend} {precision}"] = lambda restorer=restorer: restorer(image)  # type: ignore[misc]
    facts, network = restorer.facts, load(weights)
    x = pad_to_multiple(prepare(facts.preprocessing, image.pixels)[0], facts.multiple).contiguous()
    return {"eager": lambda: network(x)} | runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    usual = ["espcn.x2", "dpenet.default", "cbsn.default", "mirnet.denoise", "mirnet.fast_x2"]
    parser.add_argument("--weights", nargs="+", default=usual)
    arguments = parser.parse_args()
    torch.set_num_threads(usable_cores())  # that of `taskset`, as for the other runtimes
    pixels = torch.rand(3, arguments.size, arguments.size)
    names = ["eager", *(" ".join(variant) for variant in VARIANTS)]
    print(f"| weights | {' | '.join(names)} |", f"|---|{'---|' * len(names)}", sep="\n")
    for weights in arguments.weights:
        runs = runs_of(weights, Image(pixels))
        times: dict[str, list[float]] = {name: [] for name in runs}
        with torch.inference_mode():
            for run in runs.values():
                run()
            for _ in range(arguments.rounds):
                for name, run in runs.items():
                    began = time.process_time()
                    run()
                    times[name].append(time.process_time() - began)
        cells = " | ".join(f"{median(times[name]):.3f}" for name in names)
        print(f"| {weights} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
