"""Measure weights on pairs: scores, time, memory and crops.

The weights or the peer of a row are measured in a subprocess (bench/isolated.py), so that the peak
memory is their own, and a process that dies affects no other row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from restore_cli.bench.baselines import Baseline, baselines_of
from restore_cli.bench.isolated import OnProgress
from restore_cli.bench.machine import peak_memory
from restore_cli.bench.peers import Peer
from restore_cli.bench.suite import Candidate
from restore_cli.data.sets import PairSet, load_pair
from restore_cli.errors import InputError, RestoreError
from restore_cli.imaging.image import Image
from restore_cli.imaging.io import encode
from restore_cli.inference.report import StepReport
from restore_cli.inference.restorer import RunOptions, load_restorer
from restore_cli.metrics import PROTOCOLS, Scores, measure

CROP = 160  # side of a crop, pixels
CROPS = 4  # images of a set with crops


@dataclass(frozen=True)
class MeasuredImage:
    """Measurement of one pair."""

    name: str
    part: str | None
    scores: Scores
    seconds: float
    cpu_seconds: float  # user and system time of all threads of this process
    pixels: int  # of the result
    crop: bytes | None = None  # PNG


@dataclass(frozen=True)
class Measured:
    """Measurement of all pairs of a set by some weights or a baseline."""

    images: tuple[MeasuredImage, ...]
    failed: tuple[str, ...] = ()  # a message for each of the other images
    details: Mapping[str, object] = field(default_factory=dict)  # device, precision and the like


def measure_weights(
    candidate: Candidate,
    pairs: PairSet,
    options: RunOptions,
    protocol: str,
    crops: bool,
    on_progress: OnProgress,
) -> Measured:
    """Measure the weights on all pairs. Raises RestoreError where the network cannot be loaded."""
    restorer = load_restorer(pairs.task, replace(options, weights=candidate.weights))
    steps: list[StepReport] = []

    def run(pixels: Tensor) -> Tensor:
        restored = restorer(Image(pixels))
        steps[:] = restored.report.steps
        return restored.image.pixels

    _warm_up(run, pairs)
    measured = _over_pairs(pairs, run, protocol, crops, on_progress)
    details: dict[str, object] = {
        "weights_sha256": restorer.checkpoint.sha256,
        "device": str(restorer.device),
        "peak_memory_mb": peak_memory(restorer.device),
    }
    if steps:
        details |= {"precision": steps[0].precision, "tile": steps[0].tile}
    return replace(measured, details=details)


def measure_peer(
    peer: Peer,
    pairs: PairSet,
    options: RunOptions,
    protocol: str,
    crops: bool,
    on_progress: OnProgress,
) -> Measured:
    """Measure the peer on all pairs, on the CPU in float32. Raises the errors of Peer.load."""
    enlarge = peer.load()
    _warm_up(enlarge, pairs)
    measured = _over_pairs(pairs, enlarge, protocol, crops, on_progress)
    cpu = torch.device("cpu")
    details = {
        "weights_sha256": peer.sha256(),
        "device": str(cpu),
        "precision": "fp32",
        "peak_memory_mb": peak_memory(cpu),
    }
    return replace(measured, details=details)


def measure_baselines(
    pairs: PairSet, protocol: str, crops: bool, on_progress: OnProgress
) -> dict[str, Measured]:
    """Measure the baselines of the task, by name."""
    chosen = baselines_of(pairs.task)
    found = {}
    for number, (name, baseline) in enumerate(chosen.items()):

        def run(pixels: Tensor, baseline: Baseline = baseline) -> Tensor:
            return baseline(pixels, pairs.scale)

        def on_part(done: int, total: int, number: int = number) -> None:
            on_progress(number * total + done, len(chosen) * total)

        found[name] = _over_pairs(pairs, run, protocol, crops, on_part)
    return found


def _warm_up(run: Callable[[Tensor], Tensor], pairs: PairSet) -> None:
    """Run the first image, which determines precision and tiles, and starts threads."""
    with suppress(RestoreError):  # reported when the image is measured
        run(load_pair(pairs, 0)[0])


def _over_pairs(
    pairs: PairSet,
    run: Callable[[Tensor], Tensor],
    protocol: str,
    crops: bool,
    on_progress: OnProgress,
) -> Measured:
    images, failed = [], []
    shown = set(shown_indices(pairs)) if crops else set()
    for index, pair in enumerate(pairs.pairs):
        try:
            degraded, clean = load_pair(pairs, index)
            began, cpu_began = time.perf_counter(), time.process_time()
            restored = run(degraded)
            seconds = time.perf_counter() - began
            cpu_seconds = time.process_time() - cpu_began
            scores = measure(restored, clean, PROTOCOLS[protocol])
        except RestoreError as error:
            failed.append(f"{pair.clean.name}: {error.message}")
        else:
            crop = None
            if index in shown:
                crop = as_png(crop_at(restored, *crop_position(pairs, degraded, clean)))
            size = restored.shape[-2] * restored.shape[-1]
            images.append(
                MeasuredImage(pair.clean.stem, pair.part, scores, seconds, cpu_seconds, size, crop)
            )
        on_progress(index + 1, len(pairs.pairs))
    return Measured(tuple(images), tuple(failed))


def shown_indices(pairs: PairSet) -> Iterator[int]:
    """Yield the indices of the images with crops: the first ones of each part."""
    parts = list(dict.fromkeys(pair.part for pair in pairs.pairs))
    for part in parts:
        own = [index for index, pair in enumerate(pairs.pairs) if pair.part == part]
        yield from own[: max(1, CROPS // len(parts))]


def crop_position(pairs: PairSet, degraded: Tensor, clean: Tensor) -> tuple[int, int]:
    """Return (top, left) of the crop with the largest error of the degraded image.

    Raises InputError where the sizes of both images do not match.
    """
    shown = next(iter(baselines_of(pairs.task).values()))(degraded, pairs.scale)
    if shown.shape[-2:] != clean.shape[-2:]:
        raise InputError(f"{pairs.name}: the sizes of an image and its reference differ")
    distance = (shown - clean).square().mean(0, keepdim=True)
    window = [min(CROP, side) for side in distance.shape[-2:]]
    stride = max(1, CROP // 10)
    means = F.avg_pool2d(distance, window, stride)[0]
    row, column = divmod(int(means.argmax()), means.shape[1])
    return row * stride, column * stride


def crop_at(pixels: Tensor, top: int, left: int) -> Tensor:
    return pixels[:, top : top + CROP, left : left + CROP]


def as_png(pixels: Tensor) -> bytes:
    return encode(Image(pixels), format="png")
