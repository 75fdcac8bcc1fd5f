"""Measure all weights on all sets, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from restore_cli.bench.isolated import run_in_subprocess
from restore_cli.bench.measure import (
    Measured,
    as_png,
    crop_at,
    crop_position,
    measure_baselines,
    measure_peer,
    measure_weights,
    shown_indices,
)
from restore_cli.bench.peers import Peer
from restore_cli.bench.rows import Row, empty_row, failed_row, quality_rows
from restore_cli.bench.suite import Candidate
from restore_cli.data.sets import PairSet, load_pair
from restore_cli.errors import RestoreError
from restore_cli.inference.restorer import RunOptions
from restore_cli.metrics import Scores

OnCase = Callable[[str, int, int], None]  # title, images done, total


@dataclass(frozen=True)
class Comparison:
    """Crops of one image at one position: the reference, and the output of each method."""

    measured_on: str
    image: str
    reference: bytes  # PNG
    outputs: dict[str, tuple[bytes, Scores]] = field(default_factory=dict)  # by method


@dataclass(frozen=True)
class CandidateResult:
    """Rows of a candidate on a set; `error` where it could not be measured."""

    rows: list[Row]
    notes: tuple[str, ...] = ()  # a message for each image that failed
    error: RestoreError | None = None


def run_quality(
    sets: Sequence[PairSet],
    candidates: Sequence[Candidate | Peer],
    options: RunOptions,
    *,
    protocol: str | None = None,
    comparisons: list[Comparison] | None = None,
    on_case: OnCase,
) -> Iterator[CandidateResult]:
    """Measure each candidate on the sets of its task and scale. protocol None: that of the papers.

    comparisons: crops are appended to it.
    """
    for pairs in sets:
        supporting = [candidate for candidate in candidates if candidate.supports(pairs)]
        if supporting:
            yield from _run_set(
                pairs, supporting, options, protocol or pairs.protocol, comparisons, on_case
            )


def _run_set(
    pairs: PairSet,
    candidates: Sequence[Candidate | Peer],
    options: RunOptions,
    protocol: str,
    comparisons: list[Comparison] | None,
    on_case: OnCase,
) -> Iterator[CandidateResult]:
    title = f"{pairs.name} x{pairs.scale}" if pairs.scale > 1 else pairs.name
    crops = comparisons is not None

    def progress_of(name: str) -> Callable[[int, int], None]:
        return lambda done, total: on_case(f"{title}, {name}", done, total)

    baselines = measure_baselines(pairs, protocol, crops, progress_of("baselines"))
    shown = _comparisons(pairs, title) if crops else []
    for name, baseline in baselines.items():
        _add_crops(shown, name, baseline)
    for candidate in candidates:
        try:
            measured = run_in_subprocess(
                measure_peer if isinstance(candidate, Peer) else measure_weights,
                candidate,
                pairs,
                options,
                protocol,
                crops,
                on_progress=progress_of(candidate.name),
            )
        except RestoreError as error:
            row = empty_row(candidate, pairs.task, pairs.name, protocol, pairs.scale)
            yield CandidateResult([failed_row(row, error)], error=error)
        else:
            _add_crops(shown, candidate.name, measured)
            rows = quality_rows(candidate, pairs, protocol, measured, baselines)
            yield CandidateResult(rows, measured.failed)
    if comparisons is not None:
        comparisons += shown


def _comparisons(pairs: PairSet, title: str) -> list[Comparison]:
    found = []
    for index in shown_indices(pairs):
        try:
            degraded, clean = load_pair(pairs, index)
            reference = as_png(crop_at(clean, *crop_position(pairs, degraded, clean)))
        except RestoreError:  # reported with the row
            continue
        found.append(Comparison(title, pairs.pairs[index].clean.stem, reference))
    return found


def _add_crops(comparisons: Sequence[Comparison], method: str, measured: Measured) -> None:
    crops = {image.name: image for image in measured.images}
    for comparison in comparisons:
        image = crops.get(comparison.image)
        if image is not None and image.crop is not None:
            comparison.outputs[method] = (image.crop, image.scores)
