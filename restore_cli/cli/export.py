"""`restore export`: a network as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restore_cli.cli import choices
from restore_cli.cli import options as option
from restore_cli.cli.console import reporter
from restore_cli.errors import OutputExists, UsageError
from restore_cli.storage import refuse_url

Network = Annotated[
    str,
    typer.Argument(
        metavar="WEIGHTS",
        help="Weights of a restoration network: a name from `restore weights list`, or a file.",
        autocompletion=choices.weights,
    ),
]
Target = Annotated[Path, typer.Option("--output", "-o", metavar="FILE.onnx", help="Output file.")]


def export(
    weights: Network,
    output: Target,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Export a restoration network to ONNX, for images of any size."""
    refuse_url(output, "-o")
    if output.suffix.lower() != ".onnx":
        raise UsageError(f"-o {output}: not an ONNX file", hint="name it FILE.onnx")
    if output.exists() and not overwrite:
        raise OutputExists(f"already exists: {output}", hint="add --overwrite")
    with reporter("export", quiet=quiet) as report:
        from restore_cli.checkpoints.export import export as exported
        from restore_cli.checkpoints.load import load_checkpoint
        from restore_cli.files import write_atomically

        data = exported(load_checkpoint(weights))
        write_atomically(output, data, overwrite=overwrite)
        report.data(str(output))
