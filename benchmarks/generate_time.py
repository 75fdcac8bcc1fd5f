"""Time of an evaluation of each bundled generator by size and precision, guided, on one core.

    python -m benchmarks.generate_time

An evaluation is that of a batch of two, with and without the class. DiMR has random weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

from restore_cli import registry
from restore_cli.checkpoints.load import load
from restore_cli.inference.samplers.fit import rope_for
from restore_cli.networks.fit.model import grid_of
from restore_cli.training.recipes import find_recipe

REPEATS = 5
Run = Callable[[], object]


def fit(network: nn.Module, side: int) -> Run:
    """Return an evaluation of a FiTv2."""
    tokens = side // network.config.patch_size
    x = torch.randn(2, tokens**2, network.config.in_channels * network.config.patch_size**2)
    grid = grid_of(tokens, tokens).expand(2, -1, -1)
    sizes = torch.tensor([[tokens, tokens]] * 2)
    rope = rope_for(network.config, (tokens, tokens))
    t, labels, mask = torch.full((2,), 0.5), torch.tensor([0, 1]), torch.ones(2, tokens**2)
    return lambda: network(x, t, labels, grid, mask, sizes, rope)


def unet(network: nn.Module, side: int) -> Run:
    """Return an evaluation of the UNet, without ScaleCrafter."""
    x, labels = torch.randn(2, 3, side, side), torch.tensor([0, 1])
    return lambda: network(x, 500, class_labels=labels)


def dimr(network: nn.Module, side: int) -> Run:
    """Return an evaluation of a DiMR."""
    x, n, labels = torch.randn(2, 3, side, side), torch.full((2,), 500), torch.tensor([0, 1])
    return lambda: network(x, n, labels)


def small_dimr() -> nn.Module:
    config = find_recipe("dimr", "objects").config
    return registry.build("dimr", **config, num_classes=10)


def milliseconds(runs: dict[str, Run]) -> dict[str, float]:
    """Return the least processor time of each run, measured in turns."""
    least = dict.fromkeys(runs, float("inf"))
    for turn in range(REPEATS + 1):
        for name, run in runs.items():
            began = time.process_time()
            run()
            if turn:  # the first one is slower
                least[name] = min(least[name], 1000 * (time.process_time() - began))
    return least


def in_bfloat16(run: Run) -> Run:
    def low() -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return run()

    return low


def channels_last(network: nn.Module) -> nn.Module:
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    makers: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module, int], Run]]] = {
        "fitv2": (lambda: load("fitv2.default"), fit),
        "scalecrafter": (lambda: load("scalecrafter.default"), unet),
        "dimr objects": (small_dimr, dimr),
    }
    print("ms of an evaluation; ratios to fp32: channels_last, bf16, both")
    for name, (make, evaluation) in makers.items():
        for side in (32,) if name.startswith("dimr") else (32, 64, 128):
            plain, last = make().eval(), channels_last(make().eval())
            runs = {"fp32": evaluation(plain, side), "channels_last": evaluation(last, side)}
            runs |= {f"{key} bf16": in_bfloat16(run) for key, run in runs.items()}
            least = milliseconds(runs)
            fp32 = least["fp32"]
            ratios = ", ".join(
                f"{least[key] / fp32:.2f}"
                for key in ("channels_last", "fp32 bf16", "channels_last bf16")
            )
            print(f"{name} {side}x{side}: {fp32:.1f} ms; {ratios}", flush=True)


if __name__ == "__main__":
    main()
