"""`restore replay`: make a file again from the record in its metadata, and compare."""

from __future__ import annotations

import json as json_format
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restore_cli.cli import choices
from restore_cli.cli.console import reporter
from restore_cli.cli.options import DEVICES, Json, Overwrite, Quiet
from restore_cli.errors import UsageError

if TYPE_CHECKING:
    from restore_cli.batch.provenance import Record
    from restore_cli.batch.replay import Comparison


def replay(
    result: Annotated[
        Path,
        typer.Argument(metavar="RESULT", readable=False, help="Image that restore has written."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Output file. [default: {stem}_replayed{ext} beside the result]",
        ),
    ] = None,
    source: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Source of the result, or input image of a generated one; repeatable. "
            "[default: beside the result]",
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Weights or LoRA file that was used, if it is not found; repeatable.",
            autocompletion=choices.weights,
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="FOLDER|HUB_ID", help="Stable Diffusion that generated the result."),
    ] = None,
    controlnet: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="ControlNet that was used.")
    ] = None,
    vae: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="VAE that decoded the latents of FiTv2 or DiMR."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="auto|cpu|cuda|mps",
            help="Compute device. [default: as recorded]",
            autocompletion=choices.starting(DEVICES),
        ),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Write the record to stdout as JSON, and stop.")
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Restore or generate a result again from its record, and compare."""
    from restore_cli.batch import replay as replaying
    from restore_cli.batch.provenance import as_json

    with reporter("replay", quiet=quiet, json=json) as report:
        record = replaying.read_record(result)
        if show:
            report.data(json_format.dumps(as_json(record)))
            return
        sources = source or []
        _refuse_contradictions(record, sources, vae, base, controlnet)
        target = output or result.with_name(f"{result.stem}_replayed{result.suffix}")
        replaying.refuse_target(record, target, overwrite=overwrite)
        options = replaying.ReplayOptions(
            sources, weights or [], base, vae, controlnet, device, overwrite
        )
        began = time.monotonic()
        original = None
        if record.is_generated:
            progress = report.progress(None, target.name)
            replaying.replay_generated(record, result, target, options, progress.update)
        else:
            original = replaying.find_source(record, result, sources[0] if sources else None)
            replaying.replay_restored(record, original, target, options)
        compared = replaying.compare(result, target)
        if json:
            report.data(_row(original, target, compared, record, time.monotonic() - began))
        else:
            report.data(str(target))
        report.say(_in_words(compared, record))


def _refuse_contradictions(
    record: Record,
    sources: list[Path],
    vae: Path | None,
    base: str | None,
    controlnet: Path | None,
) -> None:
    if record.is_generated:
        if sources and not record.inputs:
            raise UsageError(
                "a generated image has no --source, except its input images", hint="leave it out"
            )
        return
    for option, given in (("--vae", vae), ("--base", base), ("--controlnet", controlnet)):
        if given:
            raise UsageError(f"{option} has no effect on a restored image", hint="leave it out")
    if len(sources) > 1:
        raise UsageError("a restored image has one --source", hint="name one")


def _row(
    source: Path | None, target: Path, compared: Comparison, record: Record, seconds: float
) -> dict[str, object]:
    from restore_cli.batch.provenance import as_json

    return {
        "source": None if source is None else str(source),
        "target": str(target),
        "status": "ok",
        "error": None,
        "identical": compared.identical,
        "pixels_identical": compared.pixels_identical,
        "largest_difference": compared.largest_difference,
        "seconds": round(seconds, 3),
        "record": as_json(record),
    }


def _in_words(compared: Comparison, record: Record) -> str:
    from torch import __version__

    if compared.identical:
        return "identical, byte for byte"
    versions = f"made with torch {record.torch}, now {__version__}"
    if record.torch is None:
        versions = "made by onnxruntime"
    if compared.pixels_identical:
        return f"identical pixels in a file that differs; {versions}"
    return f"pixels differ by up to {compared.largest_difference * 255:.2g} of 255; {versions}"
