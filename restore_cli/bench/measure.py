"""Measure weights on pairs: scores, time and memory; and show some of their outputs.

The weights or the peer of a row are measured in a subprocess (bench/isolated.py), so that the peak
memory is their own, and a process that dies affects no other row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from restore_cli.bench.baselines import Baseline, baselines_of
from restore_cli.bench.machine import peak_memory
from restore_cli.bench.peers import Peer
from restore_cli.bench.suite import Candidate
from restore_cli.data.sets import PairSet, load_pair
from restore_cli.errors import RestoreError
from restore_cli.imaging.image import Image
from restore_cli.inference.options import OnProgress, RunOptions
from restore_cli.inference.report import StepReport
from restore_cli.inference.restorer import load_restorer
from restore_cli.metrics import PROTOCOLS, Scores, measure
from restore_cli.metrics.perceptual import PERCEPTUAL, load_metric, measure_perceptual
from restore_cli.report.views import at_size, crop, fitted, window_of_largest_difference


@dataclass(frozen=True)
class MeasuredImage:
    """Measurement of one pair."""

    name: str
    part: str | None
    scores: Scores
    perceptual: Mapping[str, float | None]  # by --metric
    seconds: float
    cpu_seconds: float  # user and system time of all threads of this process
    pixels: int  # of the result


@dataclass(frozen=True)
class Measured:
    """Measurement of all pairs of a set by some weights or a baseline."""

    images: tuple[MeasuredImage, ...]
    failed: tuple[str, ...] = ()  # a message for each of the other images
    details: Mapping[str, object] = field(default_factory=dict)  # device, precision and the like


@dataclass(frozen=True)
class Output:
    """Output for one image as data URIs: the whole at a moderate size, and a crop."""

    whole: str
    crop: str


def measure_weights(
    candidate: Candidate,
    pairs: PairSet,
    options: RunOptions,
    protocol: str,
    metrics: Sequence[str],
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
    measured = _over_pairs(pairs, run, protocol, metrics, on_progress)
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
    metrics: Sequence[str],
    on_progress: OnProgress,
) -> Measured:
    """Measure the peer on all pairs, on the CPU in float32. Raises the errors of Peer.load."""
    enlarge = peer.load()
    _warm_up(enlarge, pairs)
    measured = _over_pairs(pairs, enlarge, protocol, metrics, on_progress)
    cpu = torch.device("cpu")
    details = {
        "weights_sha256": peer.sha256(),
        "device": str(cpu),
        "precision": "fp32",
        "peak_memory_mb": peak_memory(cpu),
    }
    return replace(measured, details=details)


def measure_baselines(
    pairs: PairSet, protocol: str, metrics: Sequence[str], on_progress: OnProgress
) -> dict[str, Measured]:
    """Measure the baselines of the task, by name."""
    chosen = baselines_of(pairs.task)
    found = {}
    for number, (name, baseline) in enumerate(chosen.items()):

        def run(pixels: Tensor, baseline: Baseline = baseline) -> Tensor:
            return baseline(pixels, pairs.scale)

        def on_part(done: int, total: int, number: int = number) -> None:
            on_progress(number * total + done, len(chosen) * total)

        found[name] = _over_pairs(pairs, run, protocol, metrics, on_part)
    return found


def _warm_up(run: Callable[[Tensor], Tensor], pairs: PairSet) -> None:
    """Run the first image, which determines precision and tiles, and starts threads."""
    with suppress(RestoreError):  # reported when the image is measured
        run(load_pair(pairs, 0)[0])


def _over_pairs(
    pairs: PairSet,
    run: Callable[[Tensor], Tensor],
    protocol: str,
    metrics: Sequence[str],
    on_progress: OnProgress,
) -> Measured:
    images, failed = [], []
    loaded = {name: load_metric(PERCEPTUAL[name]) for name in metrics}
    for index, pair in enumerate(pairs.pairs):
        try:
            degraded, clean = load_pair(pairs, index)
            began, cpu_began = time.perf_counter(), time.process_time()
            restored = run(degraded)
            seconds = time.perf_counter() - began
            cpu_seconds = time.process_time() - cpu_began
            scores = measure(restored, clean, PROTOCOLS[protocol])
            perceptual = measure_perceptual(restored, clean, loaded)
        except RestoreError as error:
            failed.append(f"{pair.clean.name}: {error.message}")
        else:
            size = restored.shape[-2] * restored.shape[-1]
            images.append(
                MeasuredImage(
                    pair.clean.stem, pair.part, scores, perceptual, seconds, cpu_seconds, size
                )
            )
        on_progress(index + 1, len(pairs.pairs))
    return Measured(tuple(images), tuple(failed))


def show_weights(
    candidate: Candidate,
    pairs: PairSet,
    options: RunOptions,
    indices: Sequence[int],
    on_progress: OnProgress,
) -> list[Output]:
    """Restore some of the images again, to be looked at. Raises RestoreError."""
    restorer = load_restorer(pairs.task, replace(options, weights=candidate.weights))
    return _outputs(pairs, restorer.run, indices, on_progress)


def show_peer(
    peer: Peer,
    pairs: PairSet,
    options: RunOptions,
    indices: Sequence[int],
    on_progress: OnProgress,
) -> list[Output]:
    """Enlarge some of the images again, to be looked at. Raises RestoreError."""
    return _outputs(pairs, peer.load(), indices, on_progress)


def show_baselines(pairs: PairSet, indices: Sequence[int]) -> dict[str, list[Output]]:
    """Return the outputs of the baselines of the task, by name; last the reference."""

    def outputs(baseline: Baseline) -> list[Output]:
        return _outputs(
            pairs, lambda pixels: baseline(pixels, pairs.scale), indices, lambda done, total: None
        )

    shown = {name: outputs(baseline) for name, baseline in baselines_of(pairs.task).items()}
    references = [load_pair(pairs, index) for index in indices]
    shown["reference"] = [_output(pairs, degraded, clean, clean) for degraded, clean in references]
    return shown


def _outputs(
    pairs: PairSet,
    run: Callable[[Tensor], Tensor],
    indices: Sequence[int],
    on_progress: OnProgress,
) -> list[Output]:
    shown = []
    for done, index in enumerate(indices, 1):
        degraded, clean = load_pair(pairs, index)
        shown.append(_output(pairs, degraded, clean, run(degraded)))
        on_progress(done, len(indices))
    return shown


def _output(pairs: PairSet, degraded: Tensor, clean: Tensor, pixels: Tensor) -> Output:
    """Return an output; the crop lies where the degraded image is worst."""
    first = next(iter(baselines_of(pairs.task).values()))(degraded, pairs.scale)
    place = window_of_largest_difference(at_size(first, *clean.shape[-2:]), clean)
    return Output(fitted(pixels.clamp(0, 1)), crop(pixels.clamp(0, 1), place))
