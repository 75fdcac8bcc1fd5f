"""Self-contained HTML pages: tables, charts of quality against cost, images before and after.

The template `page.html` includes its style and its script; a page refers to no other file.
"""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from restore_cli.errors import without_secrets
from restore_cli.report.views import View

MOST_LINES = 2000  # of the table of images
WIDTH, HEIGHT = 480, 280  # of a chart
LEFT, RIGHT, TOP, BOTTOM = 48, 16, 16, 40  # margins of a chart
LINE = 14  # height of a label
LABEL_WIDTH = 150  # beyond which two labels of one height do not touch
LOG_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Cell:
    """Text of a table, and the value by which its column is sorted."""

    text: str
    value: float | None = None  # None: sorted by the text, after all numbers
    best: bool = False

    @property
    def key(self) -> str:
        """The value as JavaScript reads it."""
        return "Infinity" if self.value == math.inf else str(self.value)


@dataclass(frozen=True)
class Table:
    title: str
    columns: tuple[str, ...]
    lines: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Point:
    name: str
    cost: float
    quality: float
    kind: str  # "network", "baseline" or "other"


@dataclass(frozen=True)
class Chart:
    """Quality against cost, which has a logarithmic axis."""

    title: str
    cost: str  # label of the axis
    quality: str
    points: tuple[Point, ...]
    level: tuple[str, float] | None = None  # name and quality of the degraded images


@dataclass(frozen=True)
class Page:
    title: str
    facts: Mapping[str, str]
    summary: Sequence[Table]
    charts: Sequence[Chart] = ()
    images: Table | None = None
    views: Sequence[View] = ()
    views_note: str = ""


@dataclass(frozen=True)
class Placed:
    """A point in the coordinates of its chart, and the place of its label."""

    point: Point
    x: float
    y: float
    label_x: float
    label_y: float
    anchor: str


@dataclass(frozen=True)
class Plot:
    """A chart in the coordinates of its drawing."""

    chart: Chart
    placed: Sequence[Placed]
    cost_ticks: Sequence[tuple[float, str]]
    quality_ticks: Sequence[tuple[float, str]]
    level: float | None


def render(page: Page) -> bytes:
    """Return the page in UTF-8; file names that are no text are written with escapes."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files("restore_cli.report").joinpath("page.html").read_text(encoding="utf-8")
    text = environment.from_string(source).render(
        page=page,
        plots=[plot(chart) for chart in page.charts],
        lines=[] if page.images is None else page.images.lines[:MOST_LINES],
        frame={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT}
        | {"top": TOP, "bottom": HEIGHT - BOTTOM},
    )
    return text.encode(errors="backslashreplace")


def circumstances(version: str, machine: Mapping[str, object]) -> dict[str, str]:
    """Return the facts about a run: command, date, version and machine."""
    known = {name: str(value) for name, value in machine.items() if value is not None}
    return {
        "command": without_secrets(shlex.join(("restore", *sys.argv[1:]))),
        "date": datetime.now().astimezone().isoformat(" ", "seconds"),
        "restore": version,
        **known,
    }


def plot(chart: Chart) -> Plot:
    """Place points, labels and ticks."""
    costs = [math.log10(point.cost) for point in chart.points]
    qualities = [point.quality for point in chart.points]
    qualities += [] if chart.level is None else [chart.level[1]]
    low, high = min(costs) - 0.15, max(costs) + 0.15
    step = _round_step((max(qualities) - min(qualities)) / 4)
    bottom = math.floor(min(qualities) / step - 0.2) * step
    top = math.ceil(max(qualities) / step + 0.2) * step

    def across(cost: float) -> float:
        return LEFT + (math.log10(cost) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def down(quality: float) -> float:
        return TOP + (top - quality) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    digits = max(0, -math.floor(math.log10(step)))
    steps = round((top - bottom) / step)
    return Plot(
        chart,
        _labelled([(point, across(point.cost), down(point.quality)) for point in chart.points]),
        [(across(cost), f"{cost:g}") for cost in _log_ticks(low, high)],
        [
            (down(bottom + index * step), f"{bottom + index * step:.{digits}f}")
            for index in range(steps + 1)
        ],
        None if chart.level is None else down(chart.level[1]),
    )


def _round_step(step: float) -> float:
    """Return the first of 1, 2, 5, 10 ... times a power of ten that is not smaller."""
    if step <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (*LOG_STEPS, 10) if factor * power >= step * 0.999)


def _log_ticks(low: float, high: float) -> Iterator[float]:
    """Yield round numbers between 10 ** low and 10 ** high, fewer for a wider range."""
    steps: Sequence[int] = LOG_STEPS if high - low < 2 else LOG_STEPS[:1]
    if high - low < 0.5:
        steps = range(1, 10)
    for power in range(math.floor(low), math.ceil(high) + 1):
        for factor in steps:
            if low <= math.log10(factor) + power <= high:
                yield factor * 10.0**power


def _labelled(points: Sequence[tuple[Point, float, float]]) -> list[Placed]:
    """Place each label beside its point, lower where it would touch one above."""
    placed: list[Placed] = []
    for point, x, y in sorted(points, key=lambda each: each[2]):
        anchor, gap = ("start", 9) if x < WIDTH * 0.7 else ("end", -9)
        label_y = y + 4
        for other in placed:
            if abs(other.x - x) < LABEL_WIDTH and abs(other.label_y - label_y) < LINE:
                label_y = other.label_y + LINE
        placed.append(Placed(point, x, y, x + gap, label_y, anchor))
    return placed
