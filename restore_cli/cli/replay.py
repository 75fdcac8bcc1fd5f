"""`restore replay`: a result made again, from what its metadata tells."""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restore_cli.cli.console import Reporter, reporter
from restore_cli.cli.options import Json, Overwrite, Quiet
from restore_cli.errors import (
    InputError,
    OutputExists,
    UnreadableImage,
    UsageError,
    WeightsMismatch,
    WeightsMissing,
)

if TYPE_CHECKING:
    from restore_cli.checkpoints.load import Checkpoint
    from restore_cli.imaging.image import Image
    from restore_cli.jobs.record import Record
    from restore_cli.jobs.run import Result
    from restore_cli.pipelines.restorer import Used

GENERATED = b"restore\0\0\0\0\0{"  # how the text chunk of a generated PNG begins


def replay(
    result: Annotated[
        Path,
        typer.Argument(metavar="RESULT", readable=False, help="A picture that restore has made."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="[default: beside it, as {stem}_replayed{ext}]"
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What it was made of. [default: beside it]"),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE", help="Where weights have another name now; several times for more."
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute. [default: as then]"),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Only write the record, as JSON, to stdout.")
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a result again from its own record, and compare."""
    from restore_cli.imaging.files import decode, read
    from restore_cli.jobs.record import record_of

    picture = read(result)
    record = record_of(picture)
    if record is None:
        raise _no_record(result)
    with reporter("replay", quiet=quiet, json=json) as report:
        if show:
            report.data(json_format.dumps(asdict(record)))
            return
        target = output or result.with_name(f"{result.stem}_replayed{result.suffix}")
        _refuse_target(target, record, overwrite)
        found = _source(result, source, record)
        done = _make(found, target, record, _way(record, weights or []), device, overwrite)
        if done.error is not None:
            raise done.error
        data = target.read_bytes()
        same = data == result.read_bytes()
        difference = 0.0 if same else _difference(picture, decode(data, name=str(target)))
        _show(report, target, record, done, same, difference)


def _make(
    source: Path,
    target: Path,
    record: Record,
    way: Sequence[tuple[Used, Checkpoint]],
    device: str | None,
    overwrite: bool,
) -> Result:
    from restore_cli.jobs.plan import Job
    from restore_cli.jobs.record import Recipe, options_of, settings_of
    from restore_cli.jobs.run import run
    from restore_cli.pipelines.device import keep_freed_memory
    from restore_cli.pipelines.retrace import Retraced

    options = options_of(record.settings)
    restorer = Retraced(way, options if device is None else replace(options, device=device))
    keep_freed_memory()
    recipe = Recipe(
        record.command, settings_of(restorer.options, restorer.device), source=record.source
    )
    (done,) = run(
        [Job(source, target, record.format)],
        restorer,
        overwrite=overwrite,
        quality=record.quality,
        recipe=recipe,
    )
    return done


def _no_record(result: Path) -> InputError:
    if GENERATED in result.read_bytes():
        return InputError(
            f"{result} was generated, and only restored pictures are replayed",
            hint="restore generate with the prompt, seed and settings in its text makes it again",
        )
    return InputError(
        f"{result} does not tell how it was made",
        hint="it is no result of restore, was made with --no-record, or lost its metadata since",
    )


def _refuse_target(target: Path, record: Record, overwrite: bool) -> None:
    """Before any work."""
    from restore_cli.imaging.formats import format_of

    if format_of(target) != record.format:
        raise UsageError(
            f"{target.name} is {format_of(target)}, and the result was {record.format}",
            hint="give -o the same suffix",
        )
    if target.exists() and not overwrite:
        raise OutputExists(f"{target} exists", hint="add --overwrite, or choose another with -o")


def _source(result: Path, named: Path | None, record: Record) -> Path:
    """What the result was made of, with the same bytes. Raises InputError."""
    from hashlib import sha256

    from restore_cli.imaging.files import contents

    path = named or result.parent / Path(record.source).name
    if not path.exists():
        raise UnreadableImage(
            f"{path}: no such file, and {result.name} was made of {record.source}",
            hint="say where it is: --source FILE",
        )
    found = sha256(contents(path)).hexdigest()
    if found != record.source_sha256:
        raise InputError(
            f"{path}: sha256 {found[:12]}, but {result.name} was made of one with "
            f"{record.source_sha256[:12]}",
            hint="name the right one by --source FILE",
        )
    return path


def _way(record: Record, named: Sequence[str]) -> list[tuple[Used, Checkpoint]]:
    """Each network of the record with its weights, checked. Raises WeightsError."""
    from restore_cli.checkpoints.load import load_checkpoint

    given = {checkpoint.sha256: checkpoint for checkpoint in map(load_checkpoint, named)}
    return [
        (used, given[used.sha256] if used.sha256 in given else _known(used))
        for used in record.networks
    ]


def _known(used: Used) -> Checkpoint:
    """Weights of this machine with the checksum of those used, whatever their name is."""
    from restore_cli.checkpoints.load import load_checkpoint
    from restore_cli.checkpoints.manifest import entries

    known = entries()
    for entry in known.values():
        if entry.sha256 == used.sha256:
            return load_checkpoint(entry.name)
    if used.weights in known:
        raise WeightsMismatch(
            f"{used.weights} has sha256 {known[used.weights].sha256[:12]} here, "
            f"but {used.sha256[:12]} was used",
            hint="give the weights of that time by --weights FILE",
        )
    raise WeightsMissing(
        f"the weights {used.weights} (sha256 {used.sha256[:12]}) are not on this machine",
        hint="say where they are: --weights FILE",
    )


def _difference(before: Image, after: Image) -> float:
    """The largest between two pictures, alpha too, of values in [0, 1]; 1 if the sizes differ."""
    if before.pixels.shape != after.pixels.shape:
        return 1.0
    largest = (before.pixels - after.pixels).abs().max().item()
    if before.alpha is not None and after.alpha is not None:
        largest = max(largest, (before.alpha - after.alpha).abs().max().item())
    return largest


def _show(
    report: Reporter, target: Path, record: Record, done: Result, same: bool, difference: float
) -> None:
    if same:
        said = "the same, byte for byte"
    elif difference == 0:
        said = "the same pixels, in a file that differs"
    else:
        said = f"pixels differ by up to {difference * 255:.2g} of 255"
    if not same:
        from torch import __version__ as torch_version

        from restore_cli import __version__

        said += f"; made by restore {record.version} with torch {record.torch}, "
        said += f"now {__version__} with {torch_version}"
    if report.json:
        report.data(
            {
                "source": str(done.job.source),
                "target": str(target),
                "status": "ok",
                "error": None,
                "identical": same,
                "pixels_identical": difference == 0,
                "largest_difference": difference,
                "seconds": round(done.seconds, 3),
                "record": asdict(record),
            }
        )
    else:
        report.data(str(target))
    report.say(said)
