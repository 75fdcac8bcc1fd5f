"""Factors of networks and weights, without their tensors: none of this loads torch."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Literal

from restore_cli.checkpoints import manifest
from restore_cli.checkpoints.load import is_path, spec_of
from restore_cli.errors import WeightsMismatch
from restore_cli.networks.facts import Restoration
from restore_cli.registry import MODELS
from restore_cli.tasks import TASKS

# Whether networks run one after the other: never, as many as there can be, or as few as reach a
# factor that is beyond the largest.
Repetition = bool | Literal["beyond"]
LARGEST = 16  # times, by repetition; what is invented beyond has nothing to do with the image
GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # CUDA, CUDA in WSL, ROCm
FASTER, BETTER = TASKS["upscale"].network, TASKS["upscale"].gpu_network


def usual_network(device: str, factor: float | None, *, repeat: Repetition = False) -> str:
    """Return the network that enlarges images where none is named.

    The better one on a GPU, where it has weights that reach the factor: x4 reduced to x3 is better
    than the faster network's own x3 (weights/mirnet.sr.md). The faster one on a CPU.
    device: as an option names it. factor: None where it differs from image to image.
    """
    if _device_type(device) == "cpu":
        return FASTER
    better, faster = (list(weights_by_scale(MODELS[name])) for name in (BETTER, FASTER))
    if factor is None:
        factor = max(faster, default=1)
    return BETTER if factors_of(factor, better, repeat=repeat) else FASTER


def _device_type(device: str) -> str:
    """Return the type of a device, "cuda" for "cuda:1"; of "auto", that of the chosen device."""
    if device != "auto":
        return device.partition(":")[0]
    if not may_have_gpu():
        return "cpu"
    from restore_cli.inference.device import pick_device

    return pick_device(device).type


def may_have_gpu() -> bool:
    """Return False on a Linux without the device file of any GPU driver that PyTorch knows."""
    return sys.platform != "linux" or any(map(os.path.exists, GPU_FILES))


def factors_of(target: float, scales: Sequence[int], *, repeat: Repetition) -> tuple[int, ...]:
    """Return the scales of networks in sequence, whose product is the least that reaches `target`.

    Empty where none reaches it.
    """
    longest = 1 if repeat is False else math.ceil(math.log2(LARGEST))
    chains = [
        chain
        for length in range(1, longest + 1)
        for chain in combinations_with_replacement(sorted(scales), length)
        if target <= math.prod(chain) <= LARGEST
    ]
    if repeat == "beyond":
        return min(
            chains, key=lambda chain: (len(chain) > 1, math.prod(chain), len(chain)), default=()
        )
    return min(chains, key=lambda chain: (math.prod(chain), -len(chain)), default=())


def photo_weights_by_scale(spec: Restoration) -> dict[int, str]:
    """Return the names `arch.real_xN` of weights for damaged photographs, by their factor."""
    found: dict[int, str] = {}
    for entry in manifest.entries().values():
        scale = spec.facts(**entry.config).scale if entry.arch == spec.arch else 1
        if entry.name == f"{spec.arch}.real_x{scale}":
            found[scale] = entry.name
    return found


def weights_by_scale(spec: Restoration) -> dict[int, str]:
    """Return the names of the weights of a network that enlarge, by their factor.

    Of several with one factor `arch.xN` or `arch.sr_xN` is taken, else the first. Those for
    damaged photographs, `arch.real_xN`, are left out.
    """
    found: dict[int, str] = {}
    photographs = photo_weights_by_scale(spec).values()
    for entry in manifest.entries().values():
        if entry.arch == spec.arch and entry.name not in photographs:
            scale = spec.facts(**entry.config).scale
            usual = (f"{spec.arch}.x{scale}", f"{spec.arch}.sr_x{scale}")
            if scale > 1 and (scale not in found or entry.name in usual):
                found[scale] = entry.name
    return found


def scale_of(weights: str) -> int:
    """Return the factor of some weights, a name or a file. Raises WeightsError."""
    spec = spec_of(weights)
    if spec.facts is None or "upscale" not in spec.tasks or spec.facts.scale == 1:
        name = Path(weights).stem if is_path(weights) else weights
        raise WeightsMismatch(
            f"{name} is trained to {' or '.join(spec.tasks)}, not to upscale",
            hint="for example --weights espcn.x2",
        )
    return spec.facts.scale
