"""Restored and generated files made again from their records, and compared."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from restore_cli.batch.generate import run_grids
from restore_cli.batch.grids import GridPlan
from restore_cli.batch.jobs import Job
from restore_cli.batch.provenance import (
    IMAGE_ROLES,
    CommandRecord,
    InputRecord,
    NetworkRecord,
    Record,
    grid_of,
    options_of,
    record_of,
    request_of,
    steps_of,
)
from restore_cli.batch.run import run
from restore_cli.checkpoints import manifest
from restore_cli.checkpoints.load import Checkpoint, load_checkpoint
from restore_cli.checkpoints.onnx import open_named
from restore_cli.errors import (
    InputError,
    OutputExists,
    UnreadableImage,
    UsageError,
    WeightsMismatch,
    WeightsMissing,
)
from restore_cli.files import sha256_of
from restore_cli.imaging.formats import VIDEO_SUFFIXES, format_of
from restore_cli.imaging.image import Image
from restore_cli.imaging.io import contents, decode
from restore_cli.inference.generator import (
    AddedWeights,
    Generator,
    Precision,
    load_generator,
    read_input,
)
from restore_cli.inference.light import LightUpscaler
from restore_cli.inference.options import OnProgress, RunOptions
from restore_cli.inference.replayed import ReplayChain
from restore_cli.inference.report import ImageRestorer
from restore_cli.inference.restorer import load_network
from restore_cli.inference.samplers.request import Lora
from restore_cli.memory import keep_freed_memory


@dataclass(frozen=True)
class Comparison:
    """Difference between a result and the file that was made again."""

    identical: bool  # byte for byte
    largest_difference: float  # of pixels and alpha in [0, 1]; 1 for another size

    @property
    def pixels_identical(self) -> bool:
        return self.largest_difference == 0


def read_record(result: Path) -> Record:
    """Read the record of a file. Raises InputError."""
    if result.suffix.lower() in VIDEO_SUFFIXES:
        raise InputError(f"{result} is a video, and videos have no record of how they were made")
    data = contents(result)
    record = record_of(decode(data, name=str(result)), data)
    if record is None:
        raise InputError(
            f"{result} has no record of how it was made",
            hint="it is not from restore, was made with --no-record, or lost its metadata",
        )
    return record


def refuse_target(record: Record, target: Path, *, overwrite: bool) -> None:
    """Raise UsageError for another format than that of the record, OutputExists."""
    if format_of(target) != record.format:
        raise UsageError(
            f"{target.name} is {format_of(target)}, but the record is of a {record.format}",
            hint="give -o the suffix of the result",
        )
    if target.exists() and not overwrite:
        raise OutputExists(
            f"already exists: {target}", hint="add --overwrite, or choose another place with -o"
        )


def find_source(record: Record, result: Path, source: Path | None) -> Path:
    """Return the source of a restored file after checking its bytes. Raises InputError."""
    path = source or _beside(result, str(record.source), "--source")
    return _checked(path, str(record.source_sha256), result, "--source")


def find_input(
    used: InputRecord, result: Path, given: Sequence[Path], *, option: str = "--source"
) -> Path:
    """Return an input of a generated file: among those given, or beside it. Raises InputError."""
    for path in given:
        if path.is_file() and sha256_of(path) == used.sha256:
            return path
    return _checked(_beside(result, used.name, option), used.sha256, result, option)


def _beside(result: Path, name: str, option: str) -> Path:
    path = result.parent / name
    if os.path.islink(path):
        raise InputError(
            f"{path}: a link, which may lead out of its folder", hint=f"name it by {option} FILE"
        )
    return path


def _checked(path: Path, sha256: str, result: Path, option: str) -> Path:
    """Return a path after checking its bytes. Raises InputError."""
    if not os.path.exists(path):
        raise UnreadableImage(
            f"{path}: no such file, but {result.name} was made from it",
            hint=f"name it by {option} FILE",
        )
    found = sha256_of(path)
    if found != sha256:
        raise InputError(
            f"{path}: sha256 {found[:12]}, but {result.name} was made from {sha256[:12]}",
            hint=f"name the right file by {option} FILE",
        )
    return path


def replay_restored(
    record: Record,
    source: Path,
    target: Path,
    *,
    weights: Sequence[str] = (),
    device: str | None = None,
    overwrite: bool = False,
) -> None:
    """Restore the source again.

    weights: names or files to search for the weights that were used; device: None as recorded.
    Raises RestoreError.
    """
    options = options_of(record)
    if device is not None:
        options = replace(options, device=device)
    restorer: ImageRestorer
    if record.torch is None:
        file = open_named(_name_of(record.networks[0], weights))
        restorer = LightUpscaler(file, options)
    else:
        checkpoints = [_checkpoint(network, weights) for network in record.networks]
        restorer = ReplayChain(list(zip(steps_of(record), checkpoints, strict=True)), options)
    keep_freed_memory()
    (result,) = run(
        [Job(source, target, record.format)],
        restorer,
        existing="overwrite" if overwrite else "error",
        quality=record.quality,
        record=CommandRecord(
            record.command, restorer.options, restorer.device.type, source=record.source
        ),
    )
    if result.error is not None:
        raise result.error


def replay_generated(
    record: Record,
    result: Path,
    target: Path,
    *,
    weights: Sequence[str] = (),
    base: str | None = None,
    vae: Path | None = None,
    controlnet: Path | None = None,
    sources: Sequence[Path] = (),
    device: str | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> None:
    """Generate the images again.

    weights, device: as in replay_restored, weights for LoRA files, too. base, vae, controlnet:
    folders that were used. sources: files to search for input images; without a match, those
    beside the result are taken.
    Raises RestoreError.
    """
    images = {
        one.role: replace(read_input(find_input(one, result, sources)), name=one.name)
        for one in record.inputs
        if one.role in IMAGE_ROLES
    }
    request = request_of(record, images)
    generator = _generator(record, result, weights, base, vae, controlnet, device)
    enlarge = None
    if len(record.networks) > 1:
        steps = zip(steps_of(record)[1:], record.networks[1:], strict=True)
        enlarge = ReplayChain(
            [(step, _checkpoint(network, ())) for step, network in steps],
            RunOptions(device=device or record.device),
        )
    (file,) = run_grids(
        GridPlan([(1, grid_of(record, target))], existing="overwrite" if overwrite else "error"),
        generator,
        request,
        enlarge=enlarge,
        quality=record.quality,
        on_step=on_progress,
    )
    if file.error is not None:
        raise file.error


def _generator(
    record: Record,
    result: Path,
    weights: Sequence[str],
    base: str | None,
    vae: Path | None,
    controlnet: Path | None,
    device: str | None,
) -> Generator:
    """Load the generator of a record, under the recorded names. Raises WeightsError."""
    network = record.networks[0]
    if network.sha256 is None:
        raise WeightsMissing(
            f"it was made by {network.weights}, a pipeline without a checksum",
            hint="make it by restore generate --base with the options that --show tells",
        )
    files = [Path(name) for name in weights]
    added = [one for one in record.inputs if one.role not in IMAGE_ROLES]
    net = next((one for one in added if one.role == "controlnet"), None)
    generator = load_generator(
        weights=None if base else _name_of(network, weights),
        base=base,
        vae=vae,
        loras=[
            Lora(find_input(one, result, files, option="--weights"), one.scale)
            for one in added
            if one.role == "lora"
        ],
        controlnet=controlnet,
        controlnet_scale=None if net is None or controlnet is None else net.scale,
        device=device or record.device,
        precision=cast("Precision", network.precision),
        size=(network.height, network.width),
    )
    for part, folder, used, found in (
        ("base", base, network.sha256, generator.sha256),
        ("VAE", vae, record.vae_sha256, generator.vae_sha256),
        ("ControlNet", controlnet, _controlnet_of(added), _controlnet_of(generator.added)),
    ):
        _refuse_other(part, folder, used, found)
    return replace(
        generator,
        weights=network.weights,
        added=tuple(AddedWeights(one.role, one.name, one.sha256, one.scale) for one in added),
    )


def _refuse_other(part: str, folder: object, used: str | None, found: str | None) -> None:
    """Raise WeightsMismatch for another part of the generator than the one that was used."""
    option = f"--{part.lower()}"
    if used == found:
        return
    if used is None:
        raise WeightsMismatch(f"no {part} was used", hint=f"leave out {option}")
    given = f"the {part} in {folder} has sha256 {found[:12]}" if found else f"no {part} is given"
    raise WeightsMismatch(
        f"{given}, but {used[:12]} was used", hint=f"name what was used: {option} FOLDER"
    )


def _controlnet_of(added: Sequence[InputRecord] | Sequence[AddedWeights]) -> str | None:
    return next((one.sha256 for one in added if one.role == "controlnet"), None)


def compare(result: Path, target: Path) -> Comparison:
    """Compare a result with the file that was made again."""
    before, after = contents(result), contents(target)
    if before == after:
        return Comparison(True, 0.0)
    images = decode(before, name=str(result)), decode(after, name=str(target))
    return Comparison(False, _difference(*images))


def _difference(before: Image, after: Image) -> float:
    if before.pixels.shape != after.pixels.shape:
        return 1.0
    largest = (before.pixels - after.pixels).abs().max().item()
    if before.alpha is not None and after.alpha is not None:
        largest = max(largest, (before.alpha - after.alpha).abs().max().item())
    return largest


def _checkpoint(network: NetworkRecord, given: Sequence[str]) -> Checkpoint:
    name = _name_of(network, given)
    return load_network(name, RunOptions(backend=network.backend))


def _name_of(network: NetworkRecord, given: Sequence[str]) -> str:
    """Return the name or the file of weights with the recorded checksum. Raises WeightsError."""
    for name in given:
        if load_checkpoint(name).sha256 == network.sha256:
            return name
    known = manifest.entries()
    for entry in known.values():
        if entry.sha256 == network.sha256:
            return entry.name
    used = str(network.sha256)[:12]
    if network.weights in known:
        raise WeightsMismatch(
            f"{network.weights} has sha256 {known[network.weights].sha256[:12]} here, but "
            f"{used} was used",
            hint="give the weights that were used by --weights FILE",
        )
    raise WeightsMissing(
        f"the weights {network.weights} (sha256 {used}) are not on this machine",
        hint="name their file by --weights FILE, or a pipeline by --base FOLDER",
    )
