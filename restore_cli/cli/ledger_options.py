"""The ledger of a restoring command, from its options."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from restore_cli.batch.ledger import Ledger
from restore_cli.cli.settings import is_typed
from restore_cli.errors import UsageError

# Options of restoring commands that change no result, and where results go: keys of the items.
WITHOUT_EFFECT = {
    *("source", "output", "preset", "recursive", "overwrite", "skip_existing", "device", "backend"),
    *("json", "print0", "quiet", "dry_run", "html"),
    *("ledger", "fingerprint", "retry_failed", "shard", "watch"),
    *("engine", "address", "workers", "gpus_per_worker"),
}
OF_ITEMS = {"prompt", "prompts_file", "count", "seed", "list_classes"}  # options of `generate`


def ledger_of(context: typer.Context) -> Ledger | None:
    """Return the ledger of a restoring command, from its options. Raises UsageError."""
    given = context.params
    if given["ledger"] is None:
        _refuse_without_ledger(context)
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


def ledger_of_generation(
    context: typer.Context, weights: str | None, files: Iterable[str | Path | None]
) -> Ledger | None:
    """Return the ledger of `generate`, from its options. Raises UsageError.

    weights: that were chosen; None with --base. files: files and folders that change the images.
    """
    given = context.params
    if given["ledger"] is None:
        _refuse_without_ledger(context)
        return None
    relevant = {name: value for name, value in given.items() if name not in OF_ITEMS}
    relevant |= {"weights": weights, "files": [_state_of(Path(file)) for file in files if file]}
    return Ledger(
        given["ledger"],
        options=options_digest("generate", relevant),
        weights=None if weights is None else weight_hashes(weights),
        retry_failed=given["retry_failed"],
        dry_run=given["dry_run"],
    )


def _refuse_without_ledger(context: typer.Context) -> None:
    """Refuse options of a ledger where there is none. Raises UsageError.

    A --fingerprint that comes from a setting is passed over.
    """
    given = context.params
    for option in ("retry_failed", "watch", "fingerprint"):
        if given.get(option) and (option != "fingerprint" or is_typed(context, option)):
            name = option.replace("_", "-")
            raise UsageError(f"--{name} needs a ledger", hint="add --ledger FILE")


def _state_of(path: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of modification of a file, or of the files of a folder."""
    path = path.expanduser()
    paths = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    states = [(file, file.stat()) for file in paths if file.exists()]
    return [(str(file), status.st_size, status.st_mtime_ns) for file, status in states]


def options_digest(command: str, given: dict[str, Any]) -> str:
    """Return the SHA-256 of the options that change results; a new option is one of them."""
    relevant = {name: value for name, value in given.items() if name not in WITHOUT_EFFECT}
    text = json.dumps([command, relevant], sort_keys=True, default=str)
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def weight_hashes(given: str | list[str] | None) -> set[str]:
    """Return the SHA-256 of all weights that have names, and of the files of --weights."""
    from restore_cli.checkpoints import manifest
    from restore_cli.files import sha256_of

    texts = [given] if isinstance(given, str) else given or []
    files = {text for each in texts for text in (each, each.partition("=")[2])}
    named = {entry.sha256 for entry in manifest.entries().values()}
    return named | {sha256_of(Path(file)) for file in files if os.path.isfile(file)}
