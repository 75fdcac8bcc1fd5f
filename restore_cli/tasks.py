"""Table of the restoration tasks: one row each, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal

from restore_cli.errors import UsageError

TaskName = Literal["denoise", "derain", "enhance", "upscale", "deblur", "dejpeg", "dehaze", "face"]


@dataclass(frozen=True)
class Task:
    """One restoration task. A field that a row leaves out is a type error."""

    name: TaskName
    participle: str  # ends the names of its outputs: photo_derained.png
    network: str  # default on a CPU; empty: only community models do it
    gpu_network: str  # default on a GPU
    pair_folders: tuple[tuple[str, str], ...]  # of degraded and of clean test images
    protocol: str  # of its papers, a name of metrics.protocol; {scale} is filled in
    baselines: tuple[str, ...]  # names of bench.baselines; the first shows the degraded image


def _for_community_models(name: TaskName, participle: str, *pair_folders: tuple[str, str]) -> Task:
    """Return the row of a task without a network of ours."""
    return Task(
        name=name,
        participle=participle,
        network="",
        gpu_network="",
        pair_folders=pair_folders,
        protocol="rgb",
        baselines=("input",),
    )


TASKS: Mapping[TaskName, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            Task(
                name="denoise",
                participle="denoised",
                network="mirnet",
                gpu_network="mirnet",
                pair_folders=(("noisy", "clean"), ("noisy25", "original")),
                protocol="rgb",
                baselines=("input", "bilateral"),
            ),
            Task(
                name="derain",
                participle="derained",
                network="dpenet",
                gpu_network="dpenet",
                pair_folders=(("rainy", "clean"),),
                protocol="y_float",
                baselines=("input",),
            ),
            Task(
                name="enhance",
                participle="enhanced",
                network="tml",
                gpu_network="tml",
                pair_folders=(("low", "high"),),
                protocol="rgb",
                baselines=("input", "clahe"),
            ),
            Task(
                name="upscale",
                participle="upscaled",
                network="espcn",
                gpu_network="mirnet",
                pair_folders=(("LR", "HR"),),
                protocol="sr_x{scale}",
                baselines=("bicubic", "lanczos"),
            ),
            Task(
                name="dejpeg",
                participle="dejpegged",
                network="mirnet",
                gpu_network="mirnet",
                pair_folders=(("jpeg", "clean"),),
                protocol="rgb",
                baselines=("input",),
            ),
            _for_community_models("deblur", "deblurred", ("blur", "sharp")),
            _for_community_models("dehaze", "dehazed", ("hazy", "clear")),
            _for_community_models("face", "face"),
        )
    }
)


def find_task(name: str) -> Task:
    """Return the row of a task. Raises UsageError for an unknown name."""
    for task in TASKS.values():
        if task.name == name:
            return task
    nearest = get_close_matches(name, TASKS, 1)
    raise UsageError(
        f"no task is called {name!r}",
        hint=f"the nearest: {nearest[0]}" if nearest else f"one of: {', '.join(TASKS)}",
    )
