"""`restore ledger`: show, export and merge ledgers; and the ledger of a restoring command."""

from __future__ import annotations

import csv
import hashlib
import io
import json as json_format
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from restore_cli.batch.ledger import Item, Ledger
from restore_cli.cli.console import reporter
from restore_cli.cli.options import Json, Quiet
from restore_cli.errors import UsageError

# Options of restoring commands that change no result, and where results go: keys of the items.
WITHOUT_EFFECT = {
    *("source", "output", "recursive", "overwrite", "skip_existing", "device", "backend"),
    *("json", "print0", "quiet", "dry_run", "html"),
    *("ledger", "fingerprint", "retry_failed", "shard", "watch"),
}

app = typer.Typer(no_args_is_help=True)

LedgerPath = Annotated[Path, typer.Argument(metavar="LEDGER", help="File of --ledger.")]


def ledger_of(context: typer.Context) -> Ledger | None:
    """Return the ledger of a restoring command, from its options. Raises UsageError."""
    given = context.params
    if given["ledger"] is None:
        for option in ("retry_failed", "watch"):
            if given[option]:
                name = option.replace("_", "-")
                raise UsageError(f"--{name} needs a ledger", hint="add --ledger FILE")
        return None
    for option, name in (("dry_run", "--dry-run"), ("html", "--report")):
        if given["watch"] and given[option]:
            raise UsageError(f"--watch and {name} contradict each other", hint="give one of them")
    return Ledger(
        given["ledger"],
        options=options_digest(str(context.command.name), given),
        weights=weight_hashes(given["weights"]),
        fingerprint=given["fingerprint"],
        retry_failed=given["retry_failed"],
        watching=given["watch"],
        dry_run=given["dry_run"],
    )


def options_digest(command: str, given: dict[str, Any]) -> str:
    """Return the SHA-256 of the options that change results; a new option is one of them."""
    known = {name: value for name, value in given.items() if name not in WITHOUT_EFFECT}
    text = json_format.dumps([command, known], sort_keys=True, default=str)
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def weight_hashes(given: str | list[str] | None) -> set[str]:
    """Return the SHA-256 of all weights that have names, and of the files of --weights."""
    from restore_cli.checkpoints import manifest
    from restore_cli.files import sha256_of

    texts = [given] if isinstance(given, str) else given or []
    files = {text for each in texts for text in (each, each.partition("=")[2])}
    named = {entry.sha256 for entry in manifest.entries().values()}
    return named | {sha256_of(Path(file)) for file in files if os.path.isfile(file)}


@app.command(epilog="Example: restore ledger show run.sqlite")
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


@app.command(epilog="Example: restore ledger export run.sqlite --format csv > run.csv")
def export(
    ledger: LedgerPath,
    format: Annotated[
        Literal["json", "csv"], typer.Option(help="JSON, one object a line, or CSV.")
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


@app.command(epilog="Example: restore ledger merge all.sqlite shard-*.sqlite")
def merge(
    ledger: LedgerPath,
    others: Annotated[list[Path], typer.Argument(metavar="OTHER...", help="Ledgers to add.")],
    quiet: Quiet = False,
) -> None:
    """Add the items of other ledgers; of two rows of one item the newer one stays."""
    opened = Ledger(ledger)
    with reporter("ledger", quiet=quiet) as report:
        for other in others:
            opened.merge(other)
        report.say(f"{sum(opened.counts().values())} items in {ledger}")


def _csv(row: list[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(row)
    return text.getvalue()
