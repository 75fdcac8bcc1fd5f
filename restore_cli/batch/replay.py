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
from restore_cli.batch.pipeline import BatchOptions
from restore_cli.batch.plan import Existing
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
    load,
    read_input,
)
from restore_cli.inference.light import LightUpscaler
from restore_cli.inference.options import OnProgress, RunOptions
from restore_cli.inference.replayed import ReplayChain
from restore_cli.inference.report import ImageRestorer
from restore_cli.inference.restorer import load_network
from restore_cli.inference.samplers.request import GeneratorOptions, Lora
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
    used: InputRecord, result: Path, files: Sequence[Path], *, option: str = "--source"
) -> Path:
    """Return an input of a generated file: among `files`, or beside it. Raises InputError."""
    for path in files:
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


@dataclass(frozen=True)
class ReplayOptions:
    """Files in place of those that are not found by the record, and options of the run."""

    sources: Sequence[Path] = ()  # input images; without a match, those beside the result are taken
    weights: Sequence[str] = ()  # names or files; for a generated image also LoRA files
    base: str | None = None  # folder that was used, like the next two
    vae: Path | None = None
    controlnet: Path | None = None
    device: str | None = None  # None: as recorded
    overwrite: bool = False

    @property
    def existing(self) -> Existing:
        return "overwrite" if self.overwrite else "error"


def replay_restored(record: Record, source: Path, target: Path, replay: ReplayOptions) -> None:
    """Restore the source again. Raises RestoreError."""
    options = options_of(record)
    if replay.device is not None:
        options = replace(options, device=replay.device)
    restorer: ImageRestorer
    if record.torch is None:
        file = open_named(_name_of(record.networks[0], replay.weights))
        restorer = LightUpscaler(file, options)
    else:
        checkpoints = [_checkpoint(network, replay.weights) for network in record.networks]
        restorer = ReplayChain(list(zip(steps_of(record), checkpoints, strict=True)), options)
    keep_freed_memory()
    command = CommandRecord(
        record.command, restorer.options, restorer.device.type, source=record.source
    )
    (result,) = run(
        [Job(source, target, record.format)],
        restorer,
        BatchOptions(replay.existing, record.quality, record=command),
    )
    if result.error is not None:
        raise result.error


def replay_generated(
    record: Record,
    result: Path,
    target: Path,
    replay: ReplayOptions,
    on_progress: OnProgress | None = None,
) -> None:
    """Generate the images again. Raises RestoreError."""
    images = {
        used.role: replace(read_input(find_input(used, result, replay.sources)), name=used.name)
        for used in record.inputs
        if used.role in IMAGE_ROLES
    }
    request = request_of(record, images)
    generator = _generator(record, result, replay)
    enlarge = None
    if len(record.networks) > 1:
        steps = zip(steps_of(record)[1:], record.networks[1:], strict=True)
        enlarge = ReplayChain(
            [(step, _checkpoint(network, ())) for step, network in steps],
            RunOptions(device=replay.device or record.device),
        )
    (file,) = run_grids(
        GridPlan([(1, grid_of(record, target))], existing=replay.existing),
        generator,
        request,
        enlarge=enlarge,
        quality=record.quality,
        on_step=on_progress,
    )
    if file.error is not None:
        raise file.error


def _generator(record: Record, result: Path, replay: ReplayOptions) -> Generator:
    """Load the generator of a record, under the recorded names. Raises WeightsError."""
    network = record.networks[0]
    if network.sha256 is None:
        raise WeightsMissing(
            f"it was made by {network.weights}, a pipeline without a checksum",
            hint="make it by restore generate --base with the options that --show tells",
        )
    files = [Path(name) for name in replay.weights]
    added = [used for used in record.inputs if used.role not in IMAGE_ROLES]
    controlnet = next((used for used in added if used.role == "controlnet"), None)
    options = GeneratorOptions(
        weights=None if replay.base else _name_of(network, replay.weights),
        base=replay.base,
        vae=replay.vae,
        loras=[
            Lora(find_input(used, result, files, option="--weights"), used.scale)
            for used in added
            if used.role == "lora"
        ],
        controlnet=replay.controlnet,
        controlnet_scale=controlnet.scale if controlnet and replay.controlnet else None,
        device=replay.device or record.device,
    )
    size = network.height, network.width
    generator = load(options, cast("Precision", network.precision), size)
    for name, folder, used, given in (
        ("base", replay.base, network.sha256, generator.sha256),
        ("VAE", replay.vae, record.vae_sha256, generator.vae_sha256),
        ("ControlNet", replay.controlnet, _controlnet_of(added), _controlnet_of(generator.added)),
    ):
        _refuse_other(name, folder, used, given)
    return replace(
        generator,
        weights=network.weights,
        added=tuple(AddedWeights(**vars(used)) for used in added),
    )


def _refuse_other(name: str, folder: object, used: str | None, given: str | None) -> None:
    """Raise WeightsMismatch for another part of the generator than the one that was used."""
    option = f"--{name.lower()}"
    if used == given:
        return
    if used is None:
        raise WeightsMismatch(f"no {name} was used", hint=f"leave out {option}")
    found = f"the {name} in {folder} has sha256 {given[:12]}" if given else f"no {name} is given"
    raise WeightsMismatch(
        f"{found}, but {used[:12]} was used", hint=f"name what was used: {option} FOLDER"
    )


def _controlnet_of(added: Sequence[InputRecord] | Sequence[AddedWeights]) -> str | None:
    return next((used.sha256 for used in added if used.role == "controlnet"), None)


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


def _checkpoint(network: NetworkRecord, weights: Sequence[str]) -> Checkpoint:
    name = _name_of(network, weights)
    return load_network(name, RunOptions(backend=network.backend))


def _name_of(network: NetworkRecord, weights: Sequence[str]) -> str:
    """Return the name or the file of weights with the recorded checksum. Raises WeightsError."""
    for name in weights:
        if load_checkpoint(name).sha256 == network.sha256:
            return name
    entries = manifest.entries()
    for entry in entries.values():
        if entry.sha256 == network.sha256:
            return entry.name
    used = str(network.sha256)[:12]
    if network.weights in entries:
        raise WeightsMismatch(
            f"{network.weights} has sha256 {entries[network.weights].sha256[:12]} here, but "
            f"{used} was used",
            hint="give the weights that were used by --weights FILE",
        )
    raise WeightsMissing(
        f"the weights {network.weights} (sha256 {used}) are not on this machine",
        hint="name their file by --weights FILE, or a pipeline by --base FOLDER",
    )
