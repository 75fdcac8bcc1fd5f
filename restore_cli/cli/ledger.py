"""`restore ledger`: show, export and merge ledgers."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from restore_cli.batch.ledger import Item, Ledger
from restore_cli.cli.console import reporter
from restore_cli.cli.options import Json, Quiet
from restore_cli.cli.panels import Command

app = typer.Typer(no_args_is_help=True)
command = partial(app.command, cls=Command)

LedgerPath = Annotated[Path, typer.Argument(metavar="LEDGER", help="Ledger file.")]


@command(epilog="Example: restore ledger show run.sqlite")
def show(ledger: LedgerPath, json: Json = False, quiet: Quiet = False) -> None:
    """Show the number of items of each status, and the failures."""
    opened = Ledger(ledger, exists=True)
    counts = opened.counts()
    with reporter("ledger", json=json, quiet=quiet) as report:
        if json:
            report.data({status: counts.get(status, 0) for status in ("ok", "failed", "started")})
            return
        for status, count in sorted(counts.items()):
            report.data(f"{status} {count}")
        failed = opened.items("failed")
        report.table(
            ["failed source", "attempts", "error"],
            [(item.source, item.attempts, item.message) for item in failed],
        )


@command(epilog="Example: restore ledger export run.sqlite --format csv > run.csv")
def export(
    ledger: LedgerPath,
    format: Annotated[
        Literal["json", "csv"],
        typer.Option(help="Output format: one JSON object per line, or CSV."),
    ] = "json",
) -> None:
    """Write all items to stdout."""
    opened = Ledger(ledger, exists=True)
    with reporter("ledger") as report:
        if format == "csv":
            report.data(_csv([field.name for field in fields(Item)]))
        for item in opened.items():
            row = asdict(item)
            report.data(row if format == "json" else _csv(list(row.values())))


@command(epilog="Example: restore ledger merge all.sqlite shard-*.sqlite")
def merge(
    ledger: LedgerPath,
    others: Annotated[list[Path], typer.Argument(metavar="OTHER", help="Ledgers to add.")],
    quiet: Quiet = False,
) -> None:
    """Add the items of other ledgers.

    Of two rows for the same item, the newer one is kept.
    """
    opened = Ledger(ledger)
    with reporter("ledger", quiet=quiet) as report:
        for other in others:
            opened.merge(other)
        report.say(f"{sum(opened.counts().values())} items in {ledger}")


def _csv(row: list[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(row)
    return text.getvalue()
