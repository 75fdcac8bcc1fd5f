"""Tables of rows, and a self-contained HTML page with crops."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from restore_cli.bench.quality import Comparison
from restore_cli.bench.rows import Row
from restore_cli.bench.tables import Table
from restore_cli.metrics import Scores

STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { max-width: 78rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: left; border-bottom: 1px solid #8885; }
.wide { overflow-x: auto; }
.comparison { display: flex; flex-wrap: wrap; gap: .6rem; margin: .6rem 0 1.6rem; }
figure { margin: 0; }
img { display: block; width: 224px; image-rendering: pixelated; background: #8883; }
figcaption { font-size: .85rem; }
"""


QUALITY_COLUMNS = ["set", "protocol", "images", "weights", "PSNR", "SSIM", "MS-SSIM", "paper"]
QUALITY_COLUMNS += ["CPU s/Mpx", "Mpx/s", "MB"]


def quality_table(rows: Sequence[Row]) -> Table:
    """Return a line for each baseline of a set, then one for each of its rows."""
    by_set: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        by_set.setdefault((_set_of(row), row["protocol"], str(row["images"])), []).append(row)
    lines = []
    for measured_on, own in by_set.items():
        for name, baseline in own[0]["baseline"].items():
            lines.append([*measured_on, name, *_scores_of(baseline), "", ""])
        lines += [[*measured_on, row["weights"], *_result_of(row)] for row in own]
    return QUALITY_COLUMNS, lines


def _result_of(row: Row) -> list[str]:
    """Return the cells from PSNR on."""
    if row["error"] is not None:
        return [row["error"]["message"], *[""] * 6]
    rest = [_number(row["megapixels_per_second"], 2), _number(row["peak_memory_mb"], 0)]
    return [*_scores_of(row, format_scores(row["published"])), *rest]


def _scores_of(scores: Mapping[str, Any], paper: str = "") -> list[str]:
    """Return the cells from PSNR to CPU seconds."""
    psnr = scores["psnr"]
    return [
        "" if psnr is None else f"{float(psnr):.2f}",  # "inf" is a string in JSON
        _number(scores["ssim"], 4),
        _number(scores["ms_ssim"], 4),
        paper,
        _number(scores["cpu_seconds_per_megapixel"], 2),
    ]


def speed_table(rows: Sequence[Row]) -> Table:
    """Return the times of each row and of plain PyTorch."""
    columns = ["weights", "images", "precision", "plain s", "ours s", "times plain"]
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


def page(
    title: str, about: Mapping[str, object], table: Table, comparisons: Sequence[Comparison]
) -> str:
    """Return HTML that includes its images. about: facts such as those of the machine."""
    return "\n".join(
        (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{STYLE}</style><h1>{escape(title)}</h1>",
            f"<p>{escape(', '.join(_facts(about)))}</p>",
            *_table(table),
            *(["<h2>Crops</h2>", f"<p>{CROPS}</p>"] if comparisons else []),
            *(line for comparison in comparisons for line in _comparison(comparison)),
            "</html>\n",
        )
    )


CROPS = (
    "The first images of each set, each where the error of the degraded one is largest. "
    "Scores are those of the whole image: PSNR (dB) / SSIM."
)


def _facts(about: Mapping[str, object]) -> Iterator[str]:
    yield from (f"{name} {value}" for name, value in about.items() if value is not None)


def _table(table: Table) -> Iterator[str]:
    columns, rows = table
    yield '<div class="wide"><table><thead>' + _line("th", columns) + "</thead><tbody>"
    yield from (_line("td", row) for row in rows)
    yield "</tbody></table></div>"


def _line(cell: str, values: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{cell}>{escape(value)}</{cell}>" for value in values) + "</tr>"


def _comparison(comparison: Comparison) -> Iterator[str]:
    yield f"<h3>{escape(comparison.measured_on)}: {escape(comparison.image)}</h3>"
    yield '<div class="comparison">'
    for method, (png, scores) in comparison.outputs.items():
        yield _figure(png, f"{method}: {_scores(scores)}")
    yield _figure(comparison.reference, "reference")
    yield "</div>"


def _figure(png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _scores(scores: Scores) -> str:
    return format_scores({"psnr": scores.psnr, "ssim": scores.ssim})


def _set_of(row: Row) -> str:
    return f"{row['set']} x{row['scale']}" if row["scale"] > 1 else str(row["set"])


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
