"""Help in panels: options and commands under headings, by `rich_help_panel` but without rich."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand

Record = tuple[str, str]  # name and help


class Command(TyperCommand):
    """A command whose help has panels; parameters without one are arguments or options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        params: list[Any] = self.get_params(ctx)  # of Typer, with panels
        _write(
            formatter,
            (
                (param.rich_help_panel or f"{param.param_type_name.title()}s", record)
                for param in params
                if (record := _record(param, ctx)) is not None
            ),
        )


def _record(param: Any, context: Any) -> Record | None:
    """Return name and help of a parameter; of an argument without the type beside its name."""
    record: Record | None = param.get_help_record(context)
    if record is None or param.param_type_name != "argument":
        return record
    return record[0].partition(" ")[0], record[1]


def write_commands(group: Any, formatter: Any) -> None:
    """Write the commands of a group."""
    width = formatter.width - 6 - max(map(len, group.commands))
    _write(
        formatter,
        (
            (command.rich_help_panel or "Commands", (name, command.get_short_help_str(width)))
            for name, command in group.commands.items()
        ),
    )


def _write(formatter: Any, entries: Iterable[tuple[str, Record]]) -> None:
    panels: dict[str, list[Record]] = {}
    for panel, record in entries:
        panels.setdefault(panel, []).append(record)
    for panel, records in panels.items():
        with formatter.section(panel):
            formatter.write_dl(records)
