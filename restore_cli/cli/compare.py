"""`restore compare`: images before and after, beside references, as a page or a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restore_cli.batch.targets import refuse_unwritable
from restore_cli.cli.console import Reporter, reporter
from restore_cli.cli.options import Overwrite, ProtocolName, Quiet
from restore_cli.errors import SOME_FAILED, OutputCollision, OutputExists, RestoreError
from restore_cli.imaging.formats import format_of_new
from restore_cli.memory import refuse_small_address_space
from restore_cli.storage import Location, location, refuse_url

if TYPE_CHECKING:
    from restore_cli.report.comparison import Compared, Files

PAGES = (".html", ".htm")


def compare(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="Image, or folder of images.")],
    after: Annotated[
        str, typer.Argument(metavar="AFTER", help="Restored image, or folder of images.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Output file: an HTML page with sliders, or an image that shows before, after and "
            "reference from left to right, with crops below.",
        ),
    ],
    reference: Annotated[
        str | None,
        typer.Argument(
            metavar="REFERENCE", help="Reference image, or folder of references, for scores."
        ),
    ] = None,
    protocol: Annotated[
        ProtocolName, typer.Option(help="Protocol of the scores (docs/evaluation.md).")
    ] = "rgb",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Show images before and after a restoration.

    Files of folders are paired by name, as in restore eval. Of more than 12 images, only the worst,
    the median and the best are shown.
    """
    sources = [location(text) for text in (before, after, reference) if text is not None]
    refuse_output(output, sources, overwrite=overwrite)
    refuse_small_address_space()
    with reporter("compare", quiet=quiet) as report:
        paired = pair_files(*sources, report=report)
        compared = measure_all(paired, protocol, report)
        if compared:
            write_comparison(compared, protocol, output, overwrite=overwrite)
            report.data(str(output))
    if len(compared) < len(paired):
        raise typer.Exit(SOME_FAILED)


def refuse_output(output: Path, sources: Sequence[Location], *, overwrite: bool) -> None:
    """Refuse an output before any work. Raises UsageError, OutputError."""
    refuse_url(output, "-o")
    if output.suffix.lower() not in PAGES:
        format_of_new(output)
    refuse_unwritable([output])
    if output.exists() and any(
        isinstance(each, Path) and each.exists() and output.samefile(each) for each in sources
    ):
        raise OutputCollision(f"{output} is a source", hint="choose another output with -o")
    if output.exists() and not overwrite:
        raise OutputExists(f"already exists: {output}", hint="add --overwrite")


def pair_files(
    before: Location, after: Location, reference: Location | None = None, *, report: Reporter
) -> list[Files]:
    """Return the files of each image that is on all sides; a warning names the others."""
    from restore_cli.data.pairing import pair_up
    from restore_cli.report.comparison import Files

    pairing = pair_up(after, before)
    unpaired = pairing.unpaired
    references: dict[Location, Location | None] = dict.fromkeys(path for path, _ in pairing.pairs)
    if reference is not None:
        referenced = pair_up(after, reference)
        unpaired = sorted({*unpaired, *referenced.unpaired}, key=str)
        references = dict(referenced.pairs)
    for path in unpaired:
        report.warn(f"{path}: no counterpart to compare with")
    return [
        Files(degraded, restored, references[restored])
        for restored, degraded in pairing.pairs
        if restored in references
    ]


def measure_all(paired: list[Files], protocol: ProtocolName, report: Reporter) -> list[Compared]:
    """Measure each image and report failures. Raises the error of the only one."""
    from restore_cli.metrics import PROTOCOLS
    from restore_cli.report.comparison import compare as measure

    compared = []
    with report.progress(len(paired), "compare") as bar:
        for files in paired:
            try:
                compared.append(measure(files, PROTOCOLS[protocol]))
            except RestoreError as error:
                if len(paired) == 1:
                    raise
                others = [str(path) for path in (files.before, files.reference) if path]
                named = any(path in error.message for path in others)
                report.error(error, about="" if named else str(files.after))
            bar.advance()
    return compared


def write_comparison(
    compared: list[Compared], protocol: ProtocolName, output: Path, *, overwrite: bool
) -> None:
    """Write the page or the sheet. Raises OutputError."""
    import torch

    from restore_cli import __version__
    from restore_cli.bench.machine import describe
    from restore_cli.files import write_atomically
    from restore_cli.imaging.image import Image
    from restore_cli.imaging.io import write
    from restore_cli.report.comparison import comparison_page, comparison_sheet
    from restore_cli.report.page import circumstances, render

    if output.suffix.lower() in PAGES:
        facts = circumstances(__version__, describe(torch.device("cpu")))
        page = comparison_page(compared, protocol, facts)
        write_atomically(output, render(page), overwrite=overwrite)
    else:
        write(Image(comparison_sheet(compared)), output, overwrite=overwrite)
