"""`restore samples`: the pictures that come with the package."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from restore_cli import assets
from restore_cli.cli.console import reporter
from restore_cli.cli.options import Overwrite, Quiet
from restore_cli.errors import OutputError, OutputExists


def samples(
    folder: Annotated[Path, typer.Argument(help="Where to put them.")],
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Copy the sample pictures into a folder."""
    sources = sorted(assets.samples_dir().glob("*.png"))
    targets = [folder / source.name for source in sources]
    there = [target for target in targets if target.exists()]
    if there and not overwrite:
        raise OutputExists(f"{there[0]} exists", hint="add --overwrite or choose another folder")
    with reporter("samples", quiet=quiet) as report:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for source, target in zip(sources, targets, strict=True):
                shutil.copyfile(source, target)
                report.data(str(target))
        except OSError as error:
            raise OutputError(f"{folder}: {error.strerror or error}") from error
