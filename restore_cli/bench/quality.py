"""All weights on all sets, one row after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from restore_cli.bench.isolated import apart
from restore_cli.bench.measure import (
    Measured,
    as_png,
    cut_out,
    measure_baselines,
    measure_peer,
    measure_weights,
    place,
    shown_of,
)
from restore_cli.bench.peers import Peer
from restore_cli.bench.rows import Row, empty_row, failed_row, quality_rows
from restore_cli.bench.suite import Candidate
from restore_cli.data.sets import PairSet, load_pair
from restore_cli.errors import RestoreError
from restore_cli.inference.restorer import RunOptions
from restore_cli.metrics import Scores

OnCase = Callable[[str, int, int], None]  # what is measured, images done, of how many


@dataclass(frozen=True)
class Shot:
    """Crops of one place of an image: the truth, and what each way made of it."""

    measured_on: str
    image: str
    target: bytes  # PNG
    ways: dict[str, tuple[bytes, Scores]] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """Rows of some weights on a set; `error` where there are none."""

    rows: list[Row]
    notes: tuple[str, ...] = ()  # what was wrong with single images
    error: RestoreError | None = None


def run_quality(
    sets: Sequence[PairSet],
    candidates: Sequence[Candidate | Peer],
    options: RunOptions,
    *,
    protocol: str | None = None,
    shots: list[Shot] | None = None,
    on_case: OnCase,
) -> Iterator[Outcome]:
    """Measure whoever does what a set asks for. protocol None: that of the papers.

    shots: crops are added to it.
    """
    for pairs in sets:
        able = [candidate for candidate in candidates if candidate.does(pairs)]
        if able:
            yield from _run_set(pairs, able, options, protocol or pairs.protocol, shots, on_case)


def _run_set(
    pairs: PairSet,
    candidates: Sequence[Candidate | Peer],
    options: RunOptions,
    protocol: str,
    shots: list[Shot] | None,
    on_case: OnCase,
) -> Iterator[Outcome]:
    title = f"{pairs.name} x{pairs.scale}" if pairs.scale > 1 else pairs.name
    crops = shots is not None

    def tell_of(who: str) -> Callable[[int, int], None]:
        return lambda done, total: on_case(f"{title}, {who}", done, total)

    baselines = measure_baselines(pairs, protocol, crops, tell_of("baselines"))
    shown = _shots(pairs, title) if crops else []
    for name, baseline in baselines.items():
        _put_in(shown, name, baseline)
    for candidate in candidates:
        try:
            measured = apart(
                measure_peer if isinstance(candidate, Peer) else measure_weights,
                candidate,
                pairs,
                options,
                protocol,
                crops,
                tell=tell_of(candidate.name),
            )
        except RestoreError as error:
            row = empty_row(candidate, pairs.task, pairs.name, protocol, pairs.scale)
            yield Outcome([failed_row(row, error)], error=error)
        else:
            _put_in(shown, candidate.name, measured)
            rows = quality_rows(candidate, pairs, protocol, measured, baselines)
            yield Outcome(rows, measured.failed)
    if shots is not None:
        shots += shown


def _shots(pairs: PairSet, title: str) -> list[Shot]:
    found = []
    for index in shown_of(pairs):
        try:
            degraded, clean = load_pair(pairs, index)
            target = as_png(cut_out(clean, *place(pairs, degraded, clean)))
        except RestoreError:  # it is told with the row
            continue
        found.append(Shot(title, pairs.pairs[index].clean.stem, target))
    return found


def _put_in(shots: Sequence[Shot], way: str, measured: Measured) -> None:
    crops = {image.name: image for image in measured.images}
    for shot in shots:
        image = crops.get(shot.image)
        if image is not None and image.crop is not None:
            shot.ways[way] = (image.crop, image.scores)
