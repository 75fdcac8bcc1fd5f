"""`restore weights`: list, inspect, fetch, import, verify and remove weight files."""

from __future__ import annotations

import json as json_format
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restore_cli.cli import choices
from restore_cli.cli.console import reporter
from restore_cli.cli.options import Json, Overwrite, Quiet, whole_factor
from restore_cli.cli.panels import Command
from restore_cli.errors import UsageError, WeightsCorrupt
from restore_cli.tasks import TASKS, TaskName

if TYPE_CHECKING:
    from restore_cli.checkpoints.manifest import WeightsEntry

app = typer.Typer(no_args_is_help=True)
command = partial(app.command, cls=Command)

NameOrFile = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE",
        help="Name, for example dpenet.default, or a file.",
        autocompletion=choices.weights,
    ),
]
NAMES = typer.Argument(
    metavar="NAME", help="Names, for example dpenet.default.", autocompletion=choices.weights
)

ImportTask = Annotated[
    TaskName | None, typer.Option(help="Task of the weights. [default: by the network]")
]
HEADER = ("NAME", "TASK", "SIZE", "LOCATION", "LICENCE", "PURPOSE")


@command("list", epilog="Example: restore weights list --json")
def list_weights(json: Json = False) -> None:
    """List weight files by task: size, location, licence, purpose."""
    from restore_cli.checkpoints.manifest import entries

    order = [*TASKS, "generate"]
    listed = sorted(entries().values(), key=lambda entry: order.index(_tasks(entry)[0]))
    with reporter("weights", json=json) as report:
        if json:
            for entry in listed:
                report.data(_summary(entry))
        else:
            report.columns([HEADER, *map(_line, listed)])


@command(epilog="Example: restore weights info dpenet.default")
def info(name: NameOrFile, json: Json = False) -> None:
    """Show the properties of weights, by name or file."""
    from dataclasses import asdict

    from restore_cli.checkpoints.library import describe
    from restore_cli.checkpoints.load import is_path
    from restore_cli.checkpoints.manifest import find, locate

    where: str
    if is_path(name):
        where, path = "file", Path(os.path.expanduser(name))
        entry = describe(path)
    else:
        entry = find(name)
        where, path = locate(entry)
    card = None if entry.card is None else str(path.with_name(entry.card))
    facts = {**asdict(entry), "card": card, "where": where, "path": str(path)}
    with reporter("weights", json=json) as report:
        if json:
            report.data(facts)
        else:
            stated = {field: value for field, value in facts.items() if value not in (None, {})}
            report.columns([(field, _text(value)) for field, value in stated.items()])


@command(epilog="Example: restore weights fetch hf://owner/repo/model.safetensors")
def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|ADDRESS",
            help="Names, or the address of one file to import: hf://OWNER/REPO[@REVISION]/FILE or "
            "a URL.",
            autocompletion=choices.weights,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Fetch all published weights.")] = False,
    sha256: Annotated[
        str | None, typer.Option(metavar="HASH", help="Checksum of the file; required for a URL.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="NAME", help="Name for the weights, NETWORK.TAG. [default: by the file]"
        ),
    ] = None,
    task: ImportTask = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="No network access, as with RESTORE_OFFLINE=1.")
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Download weights, or a file from the Hugging Face Hub or a URL."""
    from restore_cli.checkpoints.library import fetch_file, fetch_weights, import_weights
    from restore_cli.checkpoints.manifest import entries, find

    names = names or []
    if everything == bool(names):
        raise UsageError("no weights are named", hint="give names, or --all")
    remote = any("://" in text for text in names)
    if remote and len(names) > 1:
        raise UsageError("one file is imported at a time", hint="give one address")
    if not remote and (sha256 or name or task):
        raise UsageError("--sha256, --as and --task describe a file at an address")
    with reporter("weights", quiet=quiet, json=json) as report:
        if remote:
            bar = report.progress(None, names[0])
            path = fetch_file(names[0], sha256, offline=offline, on_progress=bar.update)
            entry = import_weights(path, name, task=task, overwrite=overwrite)
            report.data(_summary(entry) if json else entry.name)
            report.say(f"use it with: --weights {entry.name}")
            return
        chosen = [find(text) for text in names]
        if everything:
            chosen = [entry for entry in entries().values() if entry.url is not None]
        if not chosen:
            report.say("nothing to fetch: all known weights are bundled")
        for entry in chosen:
            bar = report.progress(entry.size, entry.name)
            path = fetch_weights(entry, offline=offline, on_progress=bar.update)
            report.data({"name": entry.name, "path": str(path)} if json else str(path))


@command(epilog="Example: restore weights remove dpenet.rain100h")
def remove(names: Annotated[list[str], NAMES], quiet: Quiet = False) -> None:
    """Delete imported or fetched weights from the cache."""
    from restore_cli.checkpoints.library import remove_weights

    with reporter("weights", quiet=quiet) as report:
        for name in names:
            remove_weights(name)
            report.say(f"{name} is removed")


@command("import", epilog="Example: restore weights import Rain100H.pth --as dpenet.rain100h")
def import_file(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", readable=False, help="Checkpoint file."),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="NAME", help="Name for the weights, NETWORK.TAG. [default: by the file]"
        ),
    ] = None,
    task: ImportTask = None,
    scale: Annotated[
        int | None,
        typer.Option(
            parser=whole_factor,
            metavar="N",
            help="Scale factor of a MIRNet file, which does not state it.",
        ),
    ] = None,
    second: Annotated[
        Path | None,
        typer.Option("--with", metavar="FILE", help="Second file of TML (its Enhance network)."),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Store a checkpoint in the cache, under a name.

    Checkpoints of restore train, official ones of the known networks, and community models are
    accepted.
    """
    from restore_cli.checkpoints.library import import_weights

    path = Path(os.path.expanduser(file))
    other = None if second is None else Path(os.path.expanduser(second))
    entry = import_weights(path, name, task=task, scale=scale, second=other, overwrite=overwrite)
    with reporter("weights", quiet=quiet, json=json) as report:
        report.data(_summary(entry) if json else entry.name)
        report.say(f"use it with: --weights {entry.name}")


@command(epilog="Example: restore weights verify")
def verify(names: Annotated[list[str] | None, NAMES] = None, json: Json = False) -> None:
    """Compare weight files with their checksums."""
    from restore_cli.checkpoints.library import verify as check
    from restore_cli.checkpoints.manifest import entries, find

    chosen = [find(name) for name in names] if names else list(entries().values())
    results = [check(entry) for entry in chosen]
    with reporter("weights", json=json) as report:
        if json:
            for result in results:
                report.data(
                    {
                        "name": result.entry.name,
                        "status": result.status,
                        "path": str(result.path),
                        "sha256": result.sha256,
                        "expected": result.entry.sha256,
                    }
                )
        else:
            report.columns([(result.status, result.entry.name) for result in results])
    # Weights that were not fetched are an error only where they are named.
    sound = ("ok",) if names else ("ok", "not fetched")
    bad = [result for result in results if result.status not in sound]
    if bad:
        raise WeightsCorrupt(
            f"{len(bad)} of {len(results)} weight files failed verification: "
            + ", ".join(f"{result.entry.name} ({result.status})" for result in bad),
            hint="replace " + ", ".join(str(result.path) for result in bad),
        )


def _summary(entry: WeightsEntry) -> dict[str, object]:
    from restore_cli.checkpoints.manifest import locate

    where, path = locate(entry)
    return {
        "name": entry.name,
        "tasks": list(_tasks(entry)),
        "size": entry.size,
        "where": where,
        "path": str(path),
        "licence": entry.licence,
        "purpose": entry.purpose,
        "scores": {name: dict(scores) for name, scores in entry.scores.items()},
    }


def _line(entry: WeightsEntry) -> tuple[str, ...]:
    from restore_cli.checkpoints.manifest import locate

    where, _ = locate(entry)
    size = f"{entry.size / 1e6:.1f} MB" if entry.size >= 1e6 else f"{entry.size / 1e3:.0f} kB"
    tasks = ",".join(_tasks(entry))
    return entry.name, tasks, size, where, entry.licence, entry.purpose or entry.origin


def _tasks(entry: WeightsEntry) -> tuple[str, ...]:
    from restore_cli.registry import find

    return entry.tasks or find(entry.arch).tasks


def _text(value: object) -> str:
    return value if isinstance(value, str) else json_format.dumps(value, ensure_ascii=False)
