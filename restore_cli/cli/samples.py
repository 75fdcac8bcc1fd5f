"""`restore samples`: copy the sample photographs and the clip of the package."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from restore_cli import assets
from restore_cli.cli.console import reporter
from restore_cli.cli.options import Overwrite, Quiet
from restore_cli.errors import OutputExists
from restore_cli.files import write_atomically
from restore_cli.storage import refuse_url

COPIED = (".png", ".jpg", ".webp", ".tif", ".mp4", ".md")  # SOURCES.md names their origin


def samples(
    folder: Annotated[Path, typer.Argument(metavar="DIR", readable=False, help="Target folder.")],
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Copy sample photographs and a sample video into a folder."""
    refuse_url(folder, "restore samples")
    sources = sorted(path for path in assets.samples_dir().iterdir() if path.suffix in COPIED)
    targets = [Path(os.path.expanduser(folder)) / source.name for source in sources]
    existing = [target for target in targets if os.path.exists(target)]
    if existing and not overwrite:
        raise OutputExists(
            f"already exists: {', '.join(map(str, existing))}",
            hint="add --overwrite, or name another folder",
        )
    with reporter("samples", quiet=quiet) as report:
        for source, target in zip(sources, targets, strict=True):
            write_atomically(
                target,
                partial(shutil.copyfile, source),
                overwrite=overwrite,
                hint="name another folder",
            )
            report.data(str(target))
        report.say(f"{len(targets)} files; try: restore derain {folder} -o out/")
