"""Images before and after a restoration, beside references: a page, or a sheet as an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import torch
import torch.nn.functional as F
from torch import Tensor

from restore_cli.imaging.contact_sheet import GAP, contact_sheet
from restore_cli.metrics import EvalProtocol, Means, Scores, means_of, measure
from restore_cli.report.page import Cell, Page, Table
from restore_cli.report.views import (
    at_size,
    change_of,
    crop_at,
    ranked,
    view_of,
    visible_pixels,
    window_of_largest_difference,
    within,
)
from restore_cli.storage import Location

MOST_VIEWS = 12  # of a page; of more images the worst, the median and the best are shown
SHEET_SIDE = 640  # of an image of a sheet, pixels
RANKS = ("worst", "median", "best")
SCORES: Mapping[str, int] = {"psnr": 2, "ssim": 4, "ms_ssim": 4}  # digits
CHANGES = ("least changed", "median change", "most changed")


@dataclass(frozen=True)
class Files:
    """Files of one image."""

    before: Location
    after: Location
    reference: Location | None

    def read(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return before at the size of after, after, and the reference. Raises InputError."""
        after = visible_pixels(self.after)
        before = at_size(visible_pixels(self.before), *after.shape[-2:])
        return before, after, None if self.reference is None else visible_pixels(self.reference)


@dataclass(frozen=True)
class Compared:
    """Change of an image, and its scores where there is a reference."""

    files: Files
    change: float  # of 255
    before: Scores | None
    after: Scores | None


def compare(files: Files, protocol: EvalProtocol) -> Compared:
    """Measure one image. Raises InputError."""
    before, after, reference = files.read()
    change = 255 * change_of(before, after)
    if reference is None:
        return Compared(files, change, None, None)
    scores = measure(after, reference, protocol)
    return Compared(files, change, measure(before, reference, protocol), scores)


def comparison_page(compared: Sequence[Compared], protocol: str, facts: Mapping[str, str]) -> Page:
    shown = shown_of(compared)
    scored = compared[0].after is not None
    place = "the image before is worst" if scored else "the image changed most"
    views = []
    for each, rank in shown:
        before, after, reference = each.files.read()
        views.append(
            view_of(
                each.files.after.name,
                rank,
                (_caption("before", each.before), before),
                (_caption("after", each.after), after),
                reference,
            )
        )
    return Page(
        "restore compare",
        facts,
        [_summary(compared, protocol)] if scored else [],
        images=_table(compared),
        views=views,
        views_note=f"Crops at their own size, where {place}.",
    )


def comparison_sheet(compared: Sequence[Compared]) -> Tensor:
    """Return rows of before, after and reference, each above its crops, on white."""
    rows = []
    for each, _ in shown_of(compared):
        before, after, reference = each.files.read()
        place = window_of_largest_difference(before, after if reference is None else reference)
        own = [
            pixels.expand(3, -1, -1) for pixels in (before, after, reference) if pixels is not None
        ]
        rows.append(contact_sheet([within(pixels, SHEET_SIDE) for pixels in own], len(own)))
        rows.append(contact_sheet([crop_at(pixels, place) for pixels in own], len(own)))
    width = max(row.shape[-1] for row in rows)
    return torch.cat(
        [F.pad(row, (0, width - row.shape[-1], 0, GAP), value=1.0) for row in rows], dim=-2
    )


def shown_of(compared: Sequence[Compared]) -> list[tuple[Compared, str]]:
    """Return the images to be shown, each with its rank."""
    if len(compared) <= MOST_VIEWS:
        return [(each, "") for each in compared]
    scores = [each.change if each.after is None else each.after.psnr for each in compared]
    ranks = ranked(scores, CHANGES if compared[0].after is None else RANKS)
    return [(compared[index], rank) for index, rank in ranks.items()]


def _summary(compared: Sequence[Compared], protocol: str) -> Table:
    means = {
        name: means_of([scores for scores in sides if scores is not None])
        for name, sides in (
            ("before", [each.before for each in compared]),
            ("after", [each.after for each in compared]),
        )
    }
    columns = {name: [_mean(each, name) for each in means.values()] for name in SCORES}
    lines = [
        [
            Cell(side),
            *(
                _number(values[row], SCORES[name], best=_is_best(values[row], values))
                for name, values in columns.items()
            ),
        ]
        for row, side in enumerate(means)
    ]
    title = f"Means of {len(compared)} image{'' if len(compared) == 1 else 's'}"
    return Table(
        title,
        ("", "PSNR (dB)", "SSIM", "MS-SSIM"),
        lines,
        f"Protocol {protocol}. The best figure of a column is in bold.",
    )


def _mean(means: Means, name: str) -> float | None:
    value: float | None = getattr(means, name)
    return value


def _is_best(value: float | None, values: Sequence[float | None]) -> bool:
    return value is not None and value == max(x for x in values if x is not None)


def _table(compared: Sequence[Compared]) -> Table:
    scored = compared[0].after is not None
    columns = ["image", "change (of 255)"]
    columns += ["PSNR before", "PSNR after", "gain (dB)", "SSIM after", "MS-SSIM after"] * scored
    lines = []
    for each in compared:
        line = [Cell(str(each.files.after)), _number(each.change, 2)]
        if each.before is not None and each.after is not None:
            gain = each.after.psnr - each.before.psnr
            line += [
                _number(each.before.psnr, 2),
                _number(each.after.psnr, 2),
                _number(gain if isfinite(gain) else None, 2),
                _number(each.after.ssim, 4),
                _number(each.after.ms_ssim, 4),
            ]
        lines.append(line)
    return Table("Images", tuple(columns), lines, "A click on a heading sorts.")


def _number(value: float | None, digits: int, *, best: bool = False) -> Cell:
    return Cell("" if value is None else f"{value:.{digits}f}", value, best)


def _caption(side: str, scores: Scores | None) -> str:
    return side if scores is None else f"{side}: {scores.psnr:.2f} dB"
