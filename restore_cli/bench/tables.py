"""Tables as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

Table = tuple[list[str], list[list[str]]]  # columns, rows

LATEX_SPECIAL = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def to_csv(table: Table) -> str:
    columns, rows = table
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


def to_markdown(table: Table) -> str:
    columns, rows = table
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(_markdown(cell) for cell in line)} |\n" for line in lines)


def to_latex(table: Table) -> str:
    """Return a `tabular` with plain rules, ready for a document."""
    columns, rows = table
    return "\n".join(
        (
            f"\\begin{{tabular}}{{{'l' * len(columns)}}}",
            "\\hline",
            _latex_line(columns),
            "\\hline",
            *(_latex_line(row) for row in rows),
            "\\hline",
            "\\end{tabular}\n",
        )
    )


FORMATS: Mapping[str, Callable[[Table], str]] = MappingProxyType(
    {"csv": to_csv, "markdown": to_markdown, "latex": to_latex}
)


def _markdown(cell: str) -> str:
    return " ".join(cell.replace("|", "\\|").split())


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(_latex(cell) for cell in cells) + r" \\"


def _latex(cell: str) -> str:
    return re.sub(r"[&%$#_{}\\~^]", lambda sign: LATEX_SPECIAL[sign.group()], cell)
