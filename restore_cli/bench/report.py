"""Rows and crops as tables, and as one page that needs no other file."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from restore_cli.bench.quality import Shot
from restore_cli.bench.rows import Row
from restore_cli.metrics import Scores

Table = tuple[list[str], list[list[str]]]  # columns, rows

STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { max-width: 78rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: left; border-bottom: 1px solid #8885; }
.wide { overflow-x: auto; }
.shot { display: flex; flex-wrap: wrap; gap: .6rem; margin: .6rem 0 1.6rem; }
figure { margin: 0; }
img { display: block; width: 224px; image-rendering: pixelated; background: #8883; }
figcaption { font-size: .85rem; }
"""


def quality_table(rows: Sequence[Row]) -> Table:
    """PSNR / SSIM of each row beside its baselines and the paper."""
    others = list(dict.fromkeys(name for row in rows for name in row["baseline"]))
    columns = ["set", "weights", "protocol", "images", *others, "ours", "paper", "Mpx/s", "MB"]
    lines = []
    for row in rows:
        beside = [scores_in_words(row["baseline"].get(name)) for name in others]
        ours = scores_in_words(row) if row["error"] is None else row["error"]["message"]
        lines.append(
            [
                _set_of(row),
                row["weights"],
                row["protocol"],
                str(row["images"]),
                *beside,
                ours,
                scores_in_words(row["published"]),
                _number(row["megapixels_per_second"], 2),
                _number(row["peak_memory_mb"], 0),
            ]
        )
    return columns, lines


def speed_table(rows: Sequence[Row]) -> Table:
    """Seconds of each row beside plain PyTorch."""
    columns = ["weights", "pictures", "precision", "plain s", "ours s", "times plain"]
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


def scores_in_words(scores: Mapping[str, float | None] | None) -> str:
    """`PSNR / SSIM`."""
    if scores is None or scores["psnr"] is None:
        return ""
    ssim = scores["ssim"]
    return f"{float(scores['psnr']):.2f}" + ("" if ssim is None else f" / {ssim:.4f}")


def page(title: str, about: Mapping[str, object], table: Table, shots: Sequence[Shot]) -> str:
    """HTML with its pictures in it. about: what is known of the machine, and the like."""
    return "\n".join(
        (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{STYLE}</style><h1>{escape(title)}</h1>",
            f"<p>{escape(', '.join(_facts(about)))}</p>",
            *_table(table),
            *(["<h2>Crops</h2>", f"<p>{CROPS}</p>"] if shots else []),
            *(line for shot in shots for line in _shot(shot)),
            "</html>\n",
        )
    )


CROPS = (
    "The first pictures of each set, each where the degraded one is farthest from the truth. "
    "Scores are those of the whole picture: PSNR (dB) / SSIM."
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


def _shot(shot: Shot) -> Iterator[str]:
    yield f"<h3>{escape(shot.measured_on)}: {escape(shot.picture)}</h3>"
    yield '<div class="shot">'
    for way, (png, scores) in shot.ways.items():
        yield _figure(png, f"{way}: {_scores(scores)}")
    yield _figure(shot.target, "truth")
    yield "</div>"


def _figure(png: bytes, words: str) -> str:
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(words)}">'
        f"<figcaption>{escape(words)}</figcaption></figure>"
    )


def _scores(scores: Scores) -> str:
    return scores_in_words({"psnr": scores.psnr, "ssim": scores.ssim})


def _set_of(row: Row) -> str:
    return f"{row['set']} x{row['scale']}" if row["scale"] > 1 else str(row["set"])


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
