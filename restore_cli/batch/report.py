"""Page of a batch: how images were restored, and some of them before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from restore_cli.batch.jobs import Job, Unreadable
from restore_cli.batch.pipeline import Result
from restore_cli.checkpoints import manifest
from restore_cli.checkpoints.origin import origin_of
from restore_cli.errors import RestoreError
from restore_cli.imaging.formats import is_container
from restore_cli.report.page import Cell, Page, Table
from restore_cli.report.views import View, change_of, ranked, view_of, visible_pixels

RANKS = ("least changed", "median change", "most changed")
COLUMNS = ("image", "status", "width", "height", "change (of 255)", "noise sigma (of 255)", "s")


def batch_page(
    task: str,
    facts: Mapping[str, str],
    results: Sequence[Result],
    unreadable: Sequence[Unreadable] = (),
) -> Page:
    """Return the page of the results of a restoring command; images are read again for it.

    unreadable: sources that failed before any work.
    """
    changes = {
        index: change
        for index, result in enumerate(results)
        if (change := _change(result.job, result.status)) is not None
    }
    lines = [_line(result, changes.get(index)) for index, result in enumerate(results)]
    empty = [Cell("")] * (len(COLUMNS) - 2)
    lines += [[Cell(item.source), Cell(item.error.message), *empty] for item in unreadable]
    filled = [place for place in range(len(COLUMNS)) if any(line[place].text for line in lines)]
    indices = list(changes)
    ranks = ranked([changes[index] for index in indices], RANKS)
    return Page(
        f"restore {task}",
        facts,
        [_summary(results, len(unreadable), list(changes.values()))],
        images=Table(
            "Images",
            tuple(COLUMNS[place] for place in filled),
            [[line[place] for place in filled] for line in lines],
            "Change: mean absolute difference of the image before and after. "
            "A click on a heading sorts.",
        ),
        views=[_view(results[indices[place]].job, rank) for place, rank in ranks.items()],
        views_note="Crops at their own size, where the image changed most.",
    )


def _change(job: Job, status: str) -> float | None:
    """Return the change of an image, of 255; None for a video, a pipe or a failure."""
    if status != "ok" or is_container(job.format):
        return None
    if not (isinstance(job.source, Path) and isinstance(job.target, Path)):
        return None
    try:
        return 255 * change_of(visible_pixels(job.source), visible_pixels(job.target))
    except RestoreError:  # moved or replaced by now
        return None


def _view(job: Job, rank: str) -> View:
    assert isinstance(job.source, Path) and isinstance(job.target, Path)  # its change is known
    before, after = visible_pixels(job.source), visible_pixels(job.target)
    return view_of(job.source.name, rank, ("before", before), ("after", after))


def _summary(results: Sequence[Result], unreadable: int, changes: Sequence[float]) -> Table:
    done = [result for result in results if result.report is not None]
    pixels = sum((result.width or 0) * (result.height or 0) for result in done)
    seconds = sum(result.seconds for result in done)
    lines = [
        ("restored", str(len(done))),
        ("failed", str(unreadable + sum(result.error is not None for result in results))),
        ("seconds, without waiting", f"{seconds:.1f}"),
    ]
    if seconds:
        lines.append(("megapixels per second", f"{pixels / 1e6 / seconds:.2f}"))
    if changes:
        lines.append(("median change (of 255)", f"{median(changes):.2f}"))
    used = {
        step.weights: f"{step.weights} ({_origin(step.weights)}), {step.precision}, "
        + (f"tiles of {step.tile} px" if step.tile else "untiled")
        for result in done
        if result.report is not None
        for step in result.report.steps
    }
    lines += [("weights", text) for text in used.values()]
    return Table("Summary", ("", ""), [[Cell(name), Cell(value)] for name, value in lines])


def _origin(weights: str) -> str:
    """Return the origin of weights; a file stands under its name without suffix."""
    return origin_of(weights) if weights in manifest.entries() else "weight file"


def _line(result: Result, change: float | None) -> list[Cell]:
    sigma = None if result.report is None else result.report.noise_sigma
    return [
        Cell(str(result.job.source)),
        Cell(result.status if result.error is None else result.error.message),
        *(_number(value, 0) for value in (result.width, result.height)),
        _number(change, 2),
        _number(None if sigma is None else 255 * sigma, 1),
        _number(result.seconds, 2),
    ]


def _number(value: float | None, digits: int) -> Cell:
    return Cell("" if value is None else f"{value:.{digits}f}", value)
