"""Tables of rows, and their page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from types import MappingProxyType
from typing import Any

from restore_cli.bench.rows import Row
from restore_cli.bench.tables import Table
from restore_cli.checkpoints.origin import OWN
from restore_cli.metrics.perceptual import PERCEPTUAL
from restore_cli.report.page import Cell, Chart, Page, Point
from restore_cli.report.page import Table as PageTable
from restore_cli.report.views import View

MeasuredOn = tuple[str, str, str]  # set, protocol, number of images

SCORES = ("PSNR", "SSIM", "MS-SSIM")
BEST: Mapping[str, Callable[..., float | None]] = MappingProxyType(
    {"PSNR": max, "SSIM": max, "MS-SSIM": max, "CPU s/Mpx": min, "Mpx/s": max, "MB": min}
    | {"LPIPS": min, "DISTS": min, "VIF": max, "NIQE": min}
)
QUALITY = (*SCORES, *(name.upper() for name in PERCEPTUAL))
BASELINE = "baseline"  # origin of lines without weights, which are not compared by cost


def quality_table(rows: Sequence[Row]) -> Table:
    """Return a line for each baseline of a set, then one for each of its rows."""
    perceptual = perceptual_in(rows)
    columns = [
        "set",
        "protocol",
        "images",
        "weights",
        *SCORES,
        *map(str.upper, perceptual),
        "paper",
    ]
    columns += ["CPU s/Mpx", "Mpx/s", "MB", "origin"]
    lines = []
    for measured_on, own in by_set(rows).items():
        for name, scores in own[0]["baseline"].items():
            lines.append([*measured_on, name, *_scores_of(scores, perceptual), "", "", BASELINE])
        for row in own:
            lines.append(
                [*measured_on, row["weights"], *_result_of(row, perceptual), row["origin"]]
            )
    return columns, lines


def perceptual_in(rows: Sequence[Row]) -> list[str]:
    """Return the names of the perceptual metrics that any row has."""
    return [name for name in PERCEPTUAL if any(name in row for row in rows)]


def by_set(rows: Sequence[Row]) -> dict[MeasuredOn, list[Row]]:
    """Return the rows by set, protocol and number of images."""
    found: dict[MeasuredOn, list[Row]] = {}
    for row in rows:
        found.setdefault((_set_of(row), row["protocol"], str(row["images"])), []).append(row)
    return found


def _result_of(row: Row, perceptual: Sequence[str]) -> list[str]:
    """Return the cells from PSNR to MB."""
    if row["error"] is not None:
        return [row["error"]["message"], *[""] * (6 + len(perceptual))]
    rest = [_number(row["megapixels_per_second"], 2), _number(row["peak_memory_mb"], 0)]
    return [*_scores_of(row, perceptual, format_scores(row["published"])), *rest]


def _scores_of(scores: Mapping[str, Any], perceptual: Sequence[str], paper: str = "") -> list[str]:
    """Return the cells from PSNR to CPU seconds."""
    psnr = scores["psnr"]
    return [
        "" if psnr is None else f"{float(psnr):.2f}",  # "inf" is a string in JSON
        _number(scores["ssim"], 4),
        _number(scores["ms_ssim"], 4),
        *(_number(scores.get(name), 4) for name in perceptual),
        paper,
        _number(scores["cpu_seconds_per_megapixel"], 2),
    ]


def speed_table(rows: Sequence[Row]) -> Table:
    """Return the times of each row and of plain PyTorch."""
    columns = ["weights", "images", "precision", "plain s", "restore s", "times plain"]
    columns += ["in processor time", "of the matrix peak", "Mpx/s", "MB", "plain MB"]
    lines = []
    for row in rows:
        if row["error"] is not None:
            lines.append([row["weights"], row["set"], "", "", row["error"]["message"], *[""] * 6])
            continue
        plain = row["baseline"]["plain"]
        lines.append(
            [
                row["weights"],
                row["set"],
                row["precision"],
                _number(plain["seconds"], 3),
                _number(row["seconds"], 3),
                _number(row["times_plain"], 2),
                _number(row["times_plain_cpu"], 2),
                f"{row['share_of_matrix_peak']:.0%}",
                _number(row["megapixels_per_second"], 2),
                _number(row["peak_memory_mb"], 0),
                _number(plain["peak_memory_mb"], 0),
            ]
        )
    return columns, lines


def format_scores(scores: Mapping[str, float | None] | None) -> str:
    """Return `PSNR / SSIM`."""
    if scores is None or scores["psnr"] is None:
        return ""
    ssim = scores["ssim"]
    return f"{float(scores['psnr']):.2f}" + ("" if ssim is None else f" / {ssim:.4f}")


def quality_page(facts: Mapping[str, str], rows: Sequence[Row], views: Sequence[View]) -> Page:
    """Return the page of `restore bench quality`."""
    sets = by_set(rows)
    return Page(
        "restore bench quality",
        facts,
        [_summary(measured_on, own) for measured_on, own in sets.items()],
        [chart for measured_on, own in sets.items() if (chart := _chart(measured_on, own))],
        _images(rows),
        views,
        "Chosen by the PSNR of the best weights. Crops at their own size, where the degraded image "
        "is worst; scores are those of the whole image.",
    )


def speed_page(facts: Mapping[str, str], rows: Sequence[Row]) -> Page:
    """Return the page of `restore bench speed`."""
    columns, lines = speed_table(rows)
    cells = [[Cell(text, _value(text)) for text in line] for line in lines]
    return Page("restore bench speed", facts, [PageTable("Times", tuple(columns), cells)])


def _summary(measured_on: MeasuredOn, rows: Sequence[Row]) -> PageTable:
    """Return the table of a set, with the best figure of each column in bold."""
    columns, lines = quality_table(rows)
    chosen = [3, len(columns) - 1, *range(4, len(columns) - 1)]
    best = {}
    for name, pick in BEST.items():
        if name not in columns:
            continue
        compared = lines if name in QUALITY else [line for line in lines if line[-1] != BASELINE]
        values = [_value(line[columns.index(name)]) for line in compared]
        found = [value for value in values if value is not None]
        best[columns.index(name)] = pick(found) if len(found) > 1 else None
    return PageTable(
        f"{measured_on[0]}, {measured_on[2]} image{'' if measured_on[2] == '1' else 's'}",
        tuple(columns[index] for index in chosen),
        [
            [
                Cell(
                    line[i], _value(line[i]), best.get(i) is not None and _value(line[i]) == best[i]
                )
                for i in chosen
            ]
            for line in lines
        ],
        f"Protocol {measured_on[1]}. The best figure of a column is in bold.",
    )


def _chart(measured_on: MeasuredOn, rows: Sequence[Row]) -> Chart | None:
    """Return PSNR against the processor time, on a GPU against the time of the weights."""
    on_cpu = all(row["device"] in (None, "cpu") for row in rows)
    points = []
    for row in rows:
        cost = row["cpu_seconds_per_megapixel"]
        if not on_cpu and row["megapixels_per_second"]:
            cost = 1 / row["megapixels_per_second"]
        points.append(
            (row["weights"], cost, row["psnr"], "network" if row["origin"] in OWN else "other")
        )
    (first, degraded), *others = rows[0]["baseline"].items() or [(None, None)]
    if on_cpu:
        points += [
            (name, each["cpu_seconds_per_megapixel"], each["psnr"], BASELINE)
            for name, each in others
        ]
    placed = tuple(
        Point(name, cost, float(psnr), kind)
        for name, cost, psnr, kind in points
        if cost and psnr is not None and isfinite(float(psnr))
    )
    if not placed:
        return None
    level = None
    if degraded is not None and degraded["psnr"] is not None and isfinite(float(degraded["psnr"])):
        level = (str(first), float(degraded["psnr"]))
    seconds = "CPU seconds per megapixel" if on_cpu else "seconds per megapixel"
    return Chart(measured_on[0], seconds, "PSNR (dB)", placed, level)


def _images(rows: Sequence[Row]) -> PageTable:
    """Return the scores of each image under each weights; a part of a set is in the whole."""
    wholes = {(row["weights"], row["set"], row["scale"]) for row in rows}
    perceptual = perceptual_in(rows)
    lines = [
        [
            Cell(score["image"]),
            Cell(_set_of(row)),
            Cell(row["weights"]),
            *(
                Cell("" if value is None else f"{float(value):.{digits}f}", _float(value))
                for value, digits in (
                    (score["psnr"], 2),
                    (score["ssim"], 4),
                    (score["ms_ssim"], 4),
                    *((score.get(name), 4) for name in perceptual),
                    (score["seconds"], 3),
                )
            ),
        ]
        for row in rows
        if (row["weights"], row["set"].rpartition("/")[0], row["scale"]) not in wholes
        for score in row["per_image"]
    ]
    columns = ("image", "set", "weights", *SCORES, *map(str.upper, perceptual), "s")
    return PageTable("Images", columns, lines, "A click on a heading sorts.")


def _float(value: float | str | None) -> float | None:
    return None if value is None else float(value)


def _value(text: str) -> float | None:
    """Return the number that a cell shows."""
    try:
        return float(text.rstrip("%"))
    except ValueError:
        return None


def _set_of(row: Row) -> str:
    return f"{row['set']} x{row['scale']}" if row["scale"] > 1 else str(row["set"])


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
