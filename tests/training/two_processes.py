"""Trainings of tiny networks, in one process or in two that torchrun has started.

torchrun --nproc-per-node 2 -m tests.training.two_processes OUT PHOTOS CLASSES
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch.optim import Adam

from restore_cli.errors import OutputExists
from restore_cli.training import restoration
from restore_cli.training.generation import train_generator
from restore_cli.training.processes import Processes, join_processes
from restore_cli.training.recipes import find_recipe
from restore_cli.training.recipes.dimr import pixels
from restore_cli.training.restoration import train_restoration
from restore_cli.training.trainer import TrainingOptions

SHORT = {"steps": 4, "validate_every": 2, "batch": 3}  # two images in one process, one in the other
TINY = {**SHORT, "patch": 16, "validation_patch": 24}
CBSN = {"patch": 20, "validation_patch": 20, "config": {"channels": 8, "num_module": 1}}
RESTORATION = {
    "dpenet": replace(find_recipe("dpenet"), optimizer=Adam, **TINY),
    "espcn": replace(find_recipe("espcn"), **TINY),  # by SOAP; its last layer is solved
    "cbsn": replace(find_recipe("cbsn"), **TINY | CBSN),  # choices are drawn
    "cbsn_fast": replace(  # by SOAP; groups of images are normalized together
        find_recipe("cbsn", "fast"), **TINY | CBSN | {"batch": 6}
    ),
    "tml": replace(  # batch norms
        find_recipe("tml"),
        **TINY,
        whole_size=(80, 80),
        config={"pm_stem": 2, "em_stem": 2, "nominal_size": (80, 80)},
    ),
}
GENERATION = {
    "unet": replace(
        find_recipe("unet"),
        **SHORT,
        config={
            "sample_size": 8,
            "widths": [8, 8],
            "layers": 1,
            "groups": 4,
            "head_dim": 8,
            "attention_levels": 1,
        },
    ),
    "fitv2": replace(  # images of several sizes
        find_recipe("fitv2"),
        **SHORT,
        config={
            "in_channels": 3,
            "patch_size": 2,
            "context_size": 16,
            "ori_max_pe_len": 4,
            "hidden_size": 32,
            "depth": 1,
            "num_heads": 2,
            "adaln_lora_dim": 8,
        },
    ),
    "dimr": replace(find_recipe("dimr"), **SHORT, config=pixels((16, 8), (3, 1), side=8, heads=2)),
}
INTERRUPTED_AT = 3  # step


def options_of(out: Path, processes: Processes, **changes) -> TrainingOptions:
    return TrainingOptions(out, torch.device("cpu"), processes=processes, **changes)


def train_all(out: Path, photos: Path, classes: Path, processes: Processes) -> None:
    """Train by each recipe, in a folder of its name."""
    restoration.SOLVE_BATCHES = 3
    for name, recipe in RESTORATION.items():
        train_restoration(recipe, photos, options_of(out / name, processes))
    for name, recipe in GENERATION.items():
        train_generator(recipe, classes, options_of(out / name, processes))


def interrupt(out: Path, photos: Path, processes: Processes) -> bool:
    """Train until the last process receives a signal; return whether this one is interrupted."""
    loss_of = restoration.loss_of

    def watched(state, *arguments, **named):
        if state.step == INTERRUPTED_AT - 1 and processes.rank == processes.count - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss_of(state, *arguments, **named)

    restoration.loss_of = watched
    try:
        train_restoration(RESTORATION["dpenet"], photos, options_of(out, processes))
    except KeyboardInterrupt:
        return True
    finally:
        restoration.loss_of = loss_of
    return False


def is_refused(out: Path, photos: Path, processes: Processes) -> bool:
    """Return whether a folder that only the first process sees is refused."""
    own = out if processes.is_first else out / "elsewhere"
    try:
        train_restoration(RESTORATION["dpenet"], photos, options_of(own, processes))
    except OutputExists:
        return True
    return False


def main() -> None:
    out, photos, classes = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    with join_processes("cpu") as (processes, _):
        train_all(out, photos, classes, processes)
        by_clock = options_of(out / "clock", processes, time_limit=4)
        train_restoration(RESTORATION["dpenet"], photos, by_clock)
        interrupted = interrupt(out / "interrupted", photos, processes)
        refused = is_refused(out / "dpenet", photos, processes)
        reports = processes.map(str, [f"{interrupted} {refused}"] * processes.count)
        if processes.is_first:
            (out / "ends.txt").write_text("\n".join(reports))
    # Threads that still free tensors when the interpreter ends would abort the process.
    threads = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]  # on Linux
    assert not any("gloo" in name for name in threads), threads


if __name__ == "__main__":
    main()
