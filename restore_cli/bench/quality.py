"""Measure all weights on all sets, row by row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from restore_cli.bench.isolated import run_in_subprocess
from restore_cli.bench.measure import (
    Output,
    measure_baselines,
    measure_peer,
    measure_weights,
    show_baselines,
    show_peer,
    show_weights,
)
from restore_cli.bench.peers import Peer
from restore_cli.bench.rows import Row, empty_row, failed_row, quality_rows
from restore_cli.bench.suite import Candidate
from restore_cli.data.sets import PairSet
from restore_cli.errors import RestoreError
from restore_cli.inference.options import RunOptions
from restore_cli.report.views import Side, View, ranked

logger = logging.getLogger(__name__)

OnCase = Callable[[str, int, int], None]  # title, images done, total

RANKS = ("worst", "median", "best")
MOST_VIEWS = 12  # of a page, which stays below about 15 MB


@dataclass(frozen=True)
class CandidateResult:
    """Rows of a candidate on a set; `error` where it could not be measured."""

    rows: list[Row]
    notes: tuple[str, ...] = ()  # a message for each image that failed
    error: RestoreError | None = None


@dataclass(frozen=True)
class Earlier:
    """Rows of a document that was written before, by --resume."""

    rows: Sequence[Row] = field(default=())

    def of(
        self, candidate: Candidate | Peer, pairs: PairSet, protocol: str, metrics: Sequence[str]
    ) -> list[Row]:
        """Return the rows of a candidate on a set if all its images were measured, else none.

        Raises WeightsError.
        """
        key = {"weights": candidate.name, "scale": pairs.scale, "protocol": protocol}
        key |= {"task": pairs.task, "error": None, "failed": 0}
        names = (pairs.name, *(f"{pairs.name}/{part}" for part in {p.part for p in pairs.pairs}))
        rows = [
            row
            for row in self.rows
            if row["set"] in names
            and all(row.get(name) == value for name, value in key.items())
            and all(name in row for name in metrics)
        ]
        complete = [row for row in rows if row["images"] == len(pairs.pairs)]
        if not complete or complete[0]["weights_sha256"] != candidate.sha256():
            return []
        return rows


NOTHING_EARLIER = Earlier()


def run_quality(
    sets: Sequence[PairSet],
    candidates: Sequence[Candidate | Peer],
    options: RunOptions,
    *,
    protocol: str | None = None,
    metrics: Sequence[str] = (),
    views: list[View] | None = None,
    earlier: Earlier = NOTHING_EARLIER,
    on_case: OnCase,
) -> Iterator[CandidateResult]:
    """Measure each candidate on the sets of its task and scale. protocol None: that of the papers.

    metrics: names of perceptual metrics to measure as well.
    views: the worst, the median and the best image of each set are appended to it.
    """
    for pairs in sets:
        supporting = [candidate for candidate in candidates if candidate.supports(pairs)]
        if supporting:
            chosen = protocol or pairs.protocol
            rows = []
            for result in _run_set(pairs, supporting, options, chosen, metrics, earlier, on_case):
                rows += result.rows
                yield result
            if views is not None:
                most = 3 if 3 * len(sets) <= MOST_VIEWS else 1
                views += _views(pairs, supporting, rows, options, most, on_case)


def title_of(pairs: PairSet) -> str:
    return f"{pairs.name} x{pairs.scale}" if pairs.scale > 1 else pairs.name


def _run_set(
    pairs: PairSet,
    candidates: Sequence[Candidate | Peer],
    options: RunOptions,
    protocol: str,
    metrics: Sequence[str],
    earlier: Earlier,
    on_case: OnCase,
) -> Iterator[CandidateResult]:
    remaining = []
    for candidate in candidates:
        if rows := earlier.of(candidate, pairs, protocol, metrics):
            yield CandidateResult(rows)
        else:
            remaining.append(candidate)
    if not remaining:
        return
    baselines = measure_baselines(pairs, protocol, metrics, _progress(pairs, "baselines", on_case))
    for candidate in remaining:
        try:
            measured = run_in_subprocess(
                measure_peer if isinstance(candidate, Peer) else measure_weights,
                candidate,
                pairs,
                options,
                protocol,
                metrics,
                on_progress=_progress(pairs, candidate.name, on_case),
            )
        except RestoreError as error:
            row = empty_row(candidate, pairs.task, pairs.name, protocol, pairs.scale)
            yield CandidateResult([failed_row(row, error)], error=error)
        else:
            rows = quality_rows(candidate, pairs, protocol, measured, baselines)
            yield CandidateResult(rows, measured.failed)


def _progress(pairs: PairSet, what: str, on_case: OnCase) -> Callable[[int, int], None]:
    return lambda done, total: on_case(f"{title_of(pairs)}, {what}", done, total)


def _views(
    pairs: PairSet,
    candidates: Sequence[Candidate | Peer],
    rows: Sequence[Row],
    options: RunOptions,
    most: int,
    on_case: OnCase,
) -> Iterator[View]:
    """Yield views of images chosen by the scores of the best weights, with crops of all methods."""
    measured = {
        row["weights"]: row for row in rows if row["set"] == pairs.name and row["per_image"]
    }
    if not measured:
        return
    leading = max(measured.values(), key=lambda row: float(row["psnr"]))
    scores = leading["per_image"]
    ranks = ranked([float(score["psnr"]) for score in scores], RANKS, most)
    position = {pair.clean.stem: index for index, pair in enumerate(pairs.pairs)}
    indices = [position[scores[index]["image"]] for index in ranks]
    outputs: dict[str, list[Output]] = show_baselines(pairs, indices)
    first, reference = next(iter(outputs)), outputs.pop("reference")
    for candidate in candidates:
        if candidate.name in measured:
            try:
                outputs[candidate.name] = run_in_subprocess(
                    show_peer if isinstance(candidate, Peer) else show_weights,
                    candidate,
                    pairs,
                    options,
                    indices,
                    on_progress=_progress(pairs, f"{candidate.name}, images", on_case),
                )
            except RestoreError as error:  # of an image that its row counts as failed
                logger.warning("%s: not shown: %s", candidate.name, error.message)
    if leading["weights"] not in outputs:
        return
    for place, (index, rank) in enumerate(ranks.items()):
        name = scores[index]["image"]
        shown = {method: own[place] for method, own in outputs.items()}
        yield View(
            f"{title_of(pairs)}, {name}",
            rank,
            Side(first, shown[first].whole),
            Side(leading["weights"], shown[leading["weights"]].whole),
            (
                *(
                    Side(_caption(method, measured.get(method), name), output.crop)
                    for method, output in shown.items()
                ),
                Side("reference", reference[place].crop),
            ),
        )


def _caption(method: str, row: Row | None, image: str) -> str:
    """Return a method with its scores on an image, where it has any."""
    found: list[dict[str, Any]] = [] if row is None else row["per_image"]
    for score in found:
        if score["image"] == image:
            return f"{method}: {float(score['psnr']):.2f} dB"
    return method
