"""`restore replay`: a result made again, from what its metadata tells."""

from __future__ import annotations

import json as json_format
import time
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
    from restore_cli.batch.provenance import Record
    from restore_cli.batch.replay import Generated
    from restore_cli.checkpoints.classes import ClassWeights
    from restore_cli.checkpoints.load import Checkpoint
    from restore_cli.imaging.formats import Format
    from restore_cli.imaging.image import Image
    from restore_cli.inference.report import StepReport


def replay(
    result: Annotated[
        Path,
        typer.Argument(metavar="RESULT", readable=False, help="An image that restore has made."),
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
    vae: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The VAE that decoded the latents of a FiTv2."),
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
    from restore_cli.batch.provenance import record_of
    from restore_cli.batch.replay import generated_in
    from restore_cli.imaging.formats import VIDEO_SUFFIXES
    from restore_cli.imaging.io import contents, decode

    if result.suffix.lower() in VIDEO_SUFFIXES:
        raise InputError(f"{result} is a video, and videos carry no record of how they were made")
    data = contents(result)
    image = decode(data, name=str(result))
    restored = record_of(image)
    generated = generated_in(data) if restored is None else None
    record = restored or generated
    if record is None:
        raise InputError(
            f"{result} does not tell how it was made",
            hint="it is no result of restore, was made with --no-record, or lost its metadata",
        )
    with reporter("replay", quiet=quiet, json=json) as report:
        if show:
            report.data(json_format.dumps(_as_json(record)))
            return
        target = output or result.with_name(f"{result.stem}_replayed{result.suffix}")
        _refuse_target(target, restored.format if restored else "png", overwrite)
        began = time.monotonic()
        if restored is not None:
            _refuse_vae(vae)
            found = _source(result, source, restored)
            _restore(found, target, restored, _way(restored, weights or []), device, overwrite)
        else:
            assert generated is not None  # one of them is there
            found = None
            _refuse_source(source)
            _generate(target, generated, weights or [], device, vae, overwrite)
        seconds = time.monotonic() - began
        _show(report, _compared(result, image, target), found, target, record, seconds)


def _restore(
    source: Path,
    target: Path,
    record: Record,
    way: Sequence[tuple[StepReport, Checkpoint]],
    device: str | None,
    overwrite: bool,
) -> None:
    from restore_cli.batch.plan import Job
    from restore_cli.batch.provenance import Recipe, options_of, settings_of
    from restore_cli.batch.run import run
    from restore_cli.inference.device import keep_freed_memory
    from restore_cli.inference.replayed import Retraced

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
    if done.error is not None:
        raise done.error


def _generate(
    target: Path,
    record: Generated,
    named: Sequence[str],
    device: str | None,
    vae: Path | None,
    overwrite: bool,
) -> None:
    from restore_cli.batch.replay import replay_generated

    chosen = _generator(record, named)
    replay_generated(record, chosen, target, device=device, vae=vae, overwrite=overwrite)


def _refuse_target(target: Path, format: Format, overwrite: bool) -> None:
    """Before any work."""
    from restore_cli.imaging.formats import format_of

    if format_of(target) != format:
        raise UsageError(
            f"{target.name} is {format_of(target)}, and the result was {format}",
            hint="give -o the same suffix",
        )
    if target.exists() and not overwrite:
        raise OutputExists(f"{target} exists", hint="add --overwrite, or choose another with -o")


def _refuse_source(source: Path | None) -> None:
    if source is not None:
        raise UsageError(
            "the image was generated, of no --source", hint="leave it out; --weights may be given"
        )


def _refuse_vae(vae: Path | None) -> None:
    if vae is not None:
        raise UsageError("--vae is for generated images, and this is none", hint="leave it out")


def _source(result: Path, named: Path | None, record: Record) -> Path:
    """What the result was made of, with the same bytes. Raises InputError."""
    from restore_cli.files import sha256_of
    from restore_cli.imaging.io import contents

    path = named or result.parent / Path(record.source).name
    if not path.exists():
        raise UnreadableImage(
            f"{path}: no such file, and {result.name} was made of {record.source}",
            hint="say where it is: --source FILE",
        )
    found = sha256_of(contents(path))
    if found != record.source_sha256:
        raise InputError(
            f"{path}: sha256 {found[:12]}, but {result.name} was made of one with "
            f"{record.source_sha256[:12]}",
            hint="name the right one by --source FILE",
        )
    return path


def _way(record: Record, named: Sequence[str]) -> list[tuple[StepReport, Checkpoint]]:
    """Each network of the record with its weights, checked. Raises WeightsError."""
    from restore_cli.checkpoints.load import load_checkpoint

    given = {checkpoint.sha256: checkpoint for checkpoint in map(load_checkpoint, named)}
    return [
        (used, given[used.sha256] if used.sha256 in given else _known(used))
        for used in record.networks
    ]


def _known(used: StepReport) -> Checkpoint:
    from restore_cli.checkpoints.load import load_checkpoint

    return load_checkpoint(_known_name(used.weights, used.sha256))


def _generator(record: Generated, named: Sequence[str]) -> ClassWeights:
    """The weights of a generator, checked. Raises WeightsError."""
    from restore_cli.checkpoints.classes import class_weights
    from restore_cli.checkpoints.load import load_checkpoint

    if record.weights_sha256 is None:
        raise WeightsMissing(
            f"it was made by {record.weights}, whose files have no checksum here",
            hint="restore generate with --base and what --show tells makes it again",
        )
    for name in named:
        if load_checkpoint(name).sha256 == record.weights_sha256:
            return class_weights(name)
    return class_weights(_known_name(record.weights, record.weights_sha256))


def _known_name(name: str, sha256: str) -> str:
    """Weights of this machine with that checksum, whatever they are called. Raises WeightsError."""
    from restore_cli.checkpoints.manifest import entries

    known = entries()
    for entry in known.values():
        if entry.sha256 == sha256:
            return entry.name
    if name in known:
        raise WeightsMismatch(
            f"{name} has sha256 {known[name].sha256[:12]} here, but {sha256[:12]} was used",
            hint="give the weights of that time by --weights FILE",
        )
    raise WeightsMissing(
        f"the weights {name} (sha256 {sha256[:12]}) are not on this machine",
        hint="say where they are: --weights FILE",
    )


def _compared(result: Path, image: Image, target: Path) -> tuple[bool, float]:
    """Whether the files are equal, and the largest difference of their pixels."""
    from restore_cli.imaging.io import decode

    data = target.read_bytes()
    if data == result.read_bytes():
        return True, 0.0
    return False, _difference(image, decode(data, name=str(target)))


def _difference(before: Image, after: Image) -> float:
    """The largest between two images, alpha too, of values in [0, 1]; 1 if the sizes differ."""
    if before.pixels.shape != after.pixels.shape:
        return 1.0
    largest = (before.pixels - after.pixels).abs().max().item()
    if before.alpha is not None and after.alpha is not None:
        largest = max(largest, (before.alpha - after.alpha).abs().max().item())
    return largest


def _show(
    report: Reporter,
    compared: tuple[bool, float],
    source: Path | None,
    target: Path,
    record: Record | Generated,
    seconds: float,
) -> None:
    same, difference = compared
    if report.json:
        report.data(
            {
                "source": None if source is None else str(source),
                "target": str(target),
                "status": "ok",
                "error": None,
                "identical": same,
                "pixels_identical": difference == 0,
                "largest_difference": difference,
                "seconds": round(seconds, 3),
                "record": _as_json(record),
            }
        )
    else:
        report.data(str(target))
    report.say(_in_words(same, difference, record))


def _as_json(record: Record | Generated) -> dict[str, object]:
    from restore_cli.batch import provenance

    if isinstance(record, provenance.Record):
        return provenance.as_json(record)
    return asdict(record)


def _in_words(same: bool, difference: float, record: Record | Generated) -> str:
    from torch import __version__

    if same:
        return "the same, byte for byte"
    then = f"made with torch {record.torch}, now {__version__}"
    if difference == 0:
        return f"the same pixels, in a file that differs; {then}"
    return f"pixels differ by up to {difference * 255:.2g} of 255; {then}"
