"""How a result was made, as it stands in its own metadata: enough to make it again.

Of the source only its name is told, not where it lay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args

import torch

from restore_cli import __version__
from restore_cli.errors import InputError
from restore_cli.imaging.codecs.xmp import record_in
from restore_cli.imaging.formats import Format
from restore_cli.imaging.image import Image
from restore_cli.inference.rain import Rain
from restore_cli.inference.report import StepReport
from restore_cli.inference.restorer import DTYPES, RunOptions

# Fields of StepReport that records call otherwise; its seconds are not recorded.
RECORDED_NAMES = {"network": "model", "noise_sigma": "noise"}
# Of RunOptions, what stands with each network instead.
OF_NETWORKS = ("model", "weights", "tile", "precision")


@dataclass(frozen=True)
class Recipe:
    """What is the same for all results of a command."""

    command: str
    settings: Mapping[str, Any]  # of RunOptions, and the kind of device
    source: str | None = None  # the name that results tell; None: that of their source


@dataclass(frozen=True)
class Record:
    """How one result was made."""

    version: str  # of restore
    torch: str
    command: str
    source: str  # name of the file, or "stdin"
    source_sha256: str
    networks: tuple[StepReport, ...]
    settings: Mapping[str, Any]
    format: Format
    quality: int | None


def settings_of(options: RunOptions, device: torch.device) -> dict[str, Any]:
    """What was chosen, but for what stands with each network."""
    chosen = {name: value for name, value in asdict(options).items() if name not in OF_NETWORKS}
    return chosen | {"device": device.type}


def options_of(settings: Mapping[str, Any]) -> RunOptions:
    """The inverse of settings_of. Raises InputError for what this version does not know."""
    unknown = settings.keys() - {field.name for field in fields(RunOptions)}
    if unknown:
        raise InputError(
            f"its record has the setting {min(unknown)}, which restore {__version__} does not know",
            hint="replay it with the version that made it",
        )
    return RunOptions(**settings)


def made(
    recipe: Recipe, source: str, sha256: str, used: tuple[StepReport, ...], **file: Any
) -> Record:
    """The record of a result; file: its format and quality."""
    return Record(
        version=__version__,
        torch=str(torch.__version__),
        command=recipe.command,
        source=recipe.source or source,
        source_sha256=sha256,
        networks=used,
        settings=recipe.settings,
        **file,
    )


def to_text(record: Record) -> str:
    """ASCII, without line breaks."""
    return json.dumps(as_json(record), separators=(",", ":"))


def as_json(record: Record) -> dict[str, Any]:
    """Return the record as a JSON object."""
    return asdict(record) | {"networks": [_row(step) for step in record.networks]}


def from_text(text: str) -> Record:
    """Raises InputError where it is damaged, or of another version."""
    try:
        row = json.loads(text)
        networks = tuple(map(_used, row.pop("networks")))
        record = Record(networks=networks, **row)
        if not networks or not all(map(_is_sound, networks)) or not _is_whole(record):
            raise ValueError("some of its values are not what they should be")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"its record cannot be understood: {error}",
            hint="replay it with the version of restore that made it",
        ) from error
    return record


def _row(step: StepReport) -> dict[str, Any]:
    row = asdict(step)
    del row["seconds"]
    return {RECORDED_NAMES.get(name, name): value for name, value in row.items()}


def _used(row: dict[str, Any]) -> StepReport:
    names = {recorded: name for name, recorded in RECORDED_NAMES.items()}
    rain = row.get("rain")
    fields = {names.get(name, name): value for name, value in row.items()}
    return StepReport(**fields | {"seconds": 0.0, "rain": None if rain is None else Rain(**rain)})


def _is_sound(used: StepReport) -> bool:
    numbers = (used.height, used.width, 1 if used.tile is None else used.tile)
    words = (used.network, used.weights, used.sha256)
    return (
        all(isinstance(number, int) and number > 0 for number in numbers)
        and all(isinstance(word, str) for word in words)
        and used.precision in DTYPES
        and (used.noise_sigma is None or isinstance(used.noise_sigma, float))
    )


def _is_whole(record: Record) -> bool:
    words = (record.version, record.torch, record.command, record.source, record.source_sha256)
    return (
        all(isinstance(word, str) for word in words)
        and isinstance(record.settings, dict)
        and record.format in get_args(Format)
        and (record.quality is None or isinstance(record.quality, int))
    )


def record_of(image: Image) -> Record | None:
    """Of an image as it was read. Raises InputError."""
    text = record_in(image.metadata.xmp)
    return None if text is None else from_text(text)
