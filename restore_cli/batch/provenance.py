"""Provenance records: the steps and settings that made a file, in its own metadata.

Restored and generated files have the same record, in their XMP. Its settings have the names of the
fields of options and requests; reports are converted here. A record is read from files that anybody
may have written, so its contents are bounded. Of a source only the file name is recorded, not its
folder.

Version b689b0b wrote two formats, which are still read: restored files name the fields of its
options, generated PNGs have a text chunk "restore".
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from restore_cli import __version__
from restore_cli.batch import checked
from restore_cli.batch.checked import (
    any_of,
    boolean,
    integer,
    list_of,
    matching,
    number,
    one_of,
    optional,
    text,
)
from restore_cli.batch.grids import Grid, columns_of
from restore_cli.errors import InputError
from restore_cli.imaging.codecs.png import text_in
from restore_cli.imaging.codecs.xmp import record_in
from restore_cli.imaging.formats import Format
from restore_cli.imaging.image import Image
from restore_cli.inference.options import Precision, RunOptions
from restore_cli.inference.report import StepReport
from restore_cli.inference.samplers.request import GenerateRequest, InputImage

if TYPE_CHECKING:
    from restore_cli.inference.generator import Generator
    from restore_cli.inference.rain import Rain

FORMAT_VERSION = 2
OLD_KEYWORD = "restore"  # of the PNG text in which b689b0b recorded generated images
LONGEST_RECORD = 4 << 20  # characters
LONGEST_NAME = 4_096  # a base pipeline is named by its path
LONGEST_PROMPT = 10_000
MOST_NETWORKS = 20
MOST_IMAGES = 100_000
LARGEST_SIDE = 1 << 20  # pixels
LARGEST_GENERATED_SIDE = 1 << 16
MOST_PIXELS = 1 << 30  # of a restored image, or of all that are generated
SMALLEST_TILE = 16  # pixels; smaller ones compute little but their context
WIDEST_CONTEXT = 16  # overlap / tile
MOST_STEPS = 10_000
LARGEST_SEED = (1 << 63) - 1
MOST_INPUTS = 100
LARGEST_SCALE = 1_000
IMAGE_ROLES = ("init_image", "mask", "control_image")  # fields of a request
NO_IMAGES: Mapping[str, InputImage] = MappingProxyType({})


@dataclass(frozen=True)
class RainRecord:
    """Rain that a network removed."""

    share: float  # of the pixels
    strength: float  # of a range of 1
    angle: float | None  # degrees from the vertical


@dataclass(frozen=True)
class NetworkRecord:
    """A network that a file went through."""

    network: str
    weights: str
    sha256: str | None  # None: a pipeline of many files
    tile: int | None  # side in pixels; None: the whole image at once
    precision: str
    height: int  # of the output
    width: int
    backend: Literal["torch", "onnx", "openvino"] = "torch"
    noise_sigma: float | None = None  # of a range of 1
    brightness: float | None = None
    grain: float | None = None
    rain: RainRecord | None = None


@dataclass(frozen=True)
class InputRecord:
    """A file that generated images depend on, beside the weights."""

    role: str  # init_image, mask, control_image, lora or controlnet
    name: str  # without its folder
    sha256: str
    scale: float = 1.0  # of a LoRA


@dataclass(frozen=True)
class Record:
    """Provenance of a file: restored from a source, or generated from prompts and seeds."""

    restore: str  # version
    torch: str | None  # version; None: an image that was restored without it
    command: str
    device: str  # cpu, cuda or mps
    networks: tuple[NetworkRecord, ...]
    settings: Mapping[str, Any]
    format: Format
    quality: int | None = None
    source: str | None = None  # file name, or "stdin"
    source_sha256: str | None = None
    prompts: tuple[str, ...] = ()  # one for each image of a grid, like the seeds
    seeds: tuple[int, ...] = ()
    columns: int = 1
    vae_sha256: str | None = None  # of a VAE that is no part of the weights
    inputs: tuple[InputRecord, ...] = ()

    @property
    def is_generated(self) -> bool:
        return bool(self.prompts)


@dataclass(frozen=True)
class CommandRecord:
    """The part that all records of a restoring command share."""

    command: str
    options: RunOptions
    device: str
    source: str | None = None  # file name to record; None: that of each source


# From results to records


@cache
def _torch_version() -> str:
    """Return the version of torch, whose package metadata take a millisecond to parse."""
    return version("torch")


def restored_record(
    shared: CommandRecord,
    source: str,
    source_sha256: str,
    steps: tuple[StepReport, ...],
    *,
    format: Format,
    quality: int | None,
) -> Record:
    """Return the record of a restored image."""
    return Record(
        restore=__version__,
        torch=None if all(step.without_torch for step in steps) else _torch_version(),
        command=shared.command,
        device=shared.device,
        networks=tuple(map(_network, steps)),
        settings={name: getattr(shared.options, name) for name in SETTINGS},
        format=format,
        quality=quality,
        source=shared.source or source,
        source_sha256=source_sha256,
    )


def generated_record(
    grid: Grid,
    request: GenerateRequest,
    generator: Generator,
    quality: int | None,
    *,
    enlarged: tuple[StepReport, ...] = (),
) -> Record:
    """Return the record of a grid of images.

    request: resolved, of any of them. enlarged: the networks that enlarged the images.
    """
    (step,) = generator.report(request, 0).steps
    images = {role: getattr(request, role) for role in IMAGE_ROLES}
    inputs = [
        InputRecord(role, image.name, image.sha256)
        for role, image in images.items()
        if image is not None
    ]
    inputs += [InputRecord(**vars(weights)) for weights in generator.added]
    return Record(
        restore=__version__,
        torch=_torch_version(),
        command="generate",
        device=generator.device.type,
        networks=tuple(map(_network, (step, *enlarged))),
        settings={name: getattr(request, name) for name in GENERATING_SETTINGS},
        format=grid.format,
        quality=quality,
        prompts=tuple(prompt for prompt, _ in grid.images),
        seeds=tuple(seed for _, seed in grid.images),
        columns=grid.columns,
        vae_sha256=generator.vae_sha256,
        inputs=tuple(inputs),
    )


def _network(step: StepReport) -> NetworkRecord:
    own = {each.name: getattr(step, each.name) for each in dataclasses.fields(NetworkRecord)}
    return NetworkRecord(**own | {"rain": _rain_record(step.rain)})


def _rain_record(rain: Rain | None) -> RainRecord | None:
    return None if rain is None else RainRecord(rain.share, rain.strength, rain.angle)


# From records to options and requests


def options_of(record: Record) -> RunOptions:
    """Return the options of the command that restored a file; tiles are recorded per network."""
    return RunOptions(device=record.device, **record.settings)


def steps_of(record: Record) -> tuple[StepReport, ...]:
    """Return the reports of the networks of a restored file; seconds are not recorded."""
    return tuple(
        StepReport(**vars(network) | {"rain": _rain_of(network.rain), "seconds": 0.0})
        for network in record.networks
    )


def _rain_of(rain: RainRecord | None) -> Rain | None:
    from restore_cli.inference.rain import Rain

    return None if rain is None else Rain(rain.share, rain.strength, rain.angle)


def grid_of(record: Record, target: Path) -> Grid:
    """Return the grid of a generated file, to be written to another place."""
    return Grid(tuple(zip(record.prompts, record.seeds, strict=True)), record.columns, target)


def request_of(record: Record, images: Mapping[str, InputImage] = NO_IMAGES) -> GenerateRequest:
    """Return the request for the first image of a generated file; images: by their role."""
    size = record.networks[0].height, record.networks[0].width
    fields: dict[str, Any] = {**record.settings, **images}
    return GenerateRequest(record.prompts[0], size=size, **fields)


# Text


def as_json(record: Record) -> dict[str, Any]:
    """Return the record as a JSON object, with the fields of its kind alone."""
    row: dict[str, Any] = json.loads(to_text(record))
    return row


def to_text(record: Record) -> str:
    """Return the record as JSON in ASCII, without line breaks."""
    kind = GENERATED if record.is_generated else RESTORED
    row = {name: value for name, value in vars(record).items() if name in kind}
    return json.dumps({"record": FORMAT_VERSION} | row, separators=(",", ":"), default=vars)


def record_of(image: Image, data: bytes) -> Record | None:
    """Return the record of an image as it was read from `data`. Raises InputError."""
    found = record_in(image.metadata.xmp) or text_in(data, OLD_KEYWORD)
    return None if found is None else from_text(found)


def from_text(text: str) -> Record:
    """Read a record. Raises InputError where it is damaged or written by a later version."""
    try:
        return _read(checked.parse(text, LONGEST_RECORD))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"its record cannot be read: {error}",
            hint="replay it with the version of restore that wrote it",
        ) from error


def _read(row: object) -> Record:
    if not isinstance(row, dict):
        raise ValueError("it is no object")
    version = row.pop("record", 1)
    if version == 1:
        row = _from_generated(row) if "prompts" in row else _from_restored(row)
    elif version != FORMAT_VERSION:
        raise ValueError(f"its format {version!r:.20} is unknown to restore {__version__}")
    generated = bool(row.get("prompts"))
    values = checked.fields(row, GENERATED if generated else RESTORED)
    networks = tuple(NetworkRecord(**network) for network in values.pop("networks"))
    if generated:
        values["inputs"] = tuple(InputRecord(**fields) for fields in values["inputs"])
    record = Record(networks=networks, **values)
    _check_extent(record)
    return record


def _check_extent(record: Record) -> None:
    """Raise ValueError for numbers that are possible alone, but not together."""
    images = max(1, len(record.prompts))
    if record.is_generated and images != len(record.seeds):
        raise ValueError(f"{images} prompts, but {len(record.seeds)} seeds")
    if record.columns > images:
        raise ValueError(f"{record.columns} columns of {images} images")
    overlap = record.settings.get("overlap")
    for network in record.networks:
        if images * network.height * network.width > MOST_PIXELS:
            raise ValueError(f"{images} x {network.width} x {network.height} pixels")
        if network.tile and isinstance(overlap, int) and overlap > WIDEST_CONTEXT * network.tile:
            raise ValueError(f"tiles of {network.tile} with an overlap of {overlap}")


def _from_restored(row: dict[str, Any]) -> dict[str, Any]:
    """Convert a record of a restored file of b689b0b."""
    names = {"model": "network", "noise": "noise_sigma"}
    networks = [
        {names.get(name, name): value for name, value in network.items()}
        for network in row["networks"]
    ]
    settings = {"noise_limit": "off"} | row["settings"]  # b689b0b had no limit
    changed = {
        "restore": row["version"],
        "device": settings.pop("device", None),
        "networks": networks,
        "settings": settings,
    }
    return {name: value for name, value in row.items() if name != "version"} | changed


def _from_generated(row: dict[str, Any]) -> dict[str, Any]:
    """Convert a record of a generated file of b689b0b."""
    names = ("model", "weights", "weights_sha256", "width", "height", "precision", "settings")
    network, sha256, settings = row["model"], row["weights_sha256"], dict(row["settings"])
    negative = settings.pop("negative", None)
    eta = settings.pop("eta", None)
    sampler = settings.pop("rule", None) or settings.pop("scheduler", None)
    if network == "fitv1":
        sampler = None  # it was recorded, without effect
    elif sampler is None and eta is not None and sha256 is not None:
        sampler = "ddpm" if eta == 1 else "ddim"
    flags = dict.fromkeys(("direct", "freeu", "disperse", "synchronise"), False)
    changed = {
        "restore": "unknown",
        "command": "generate",
        "format": "png",
        "columns": columns_of(len(set(row["prompts"])), len(set(row["seeds"]))),
        "networks": [
            {
                "network": network,
                "weights": row["weights"],
                "sha256": sha256,
                "precision": row["precision"],
                "height": row["height"],
                "width": row["width"],
            }
        ],
        "settings": flags
        | settings
        | {
            "sampler": sampler,
            "negative": str(negative) if isinstance(negative, int) else negative,
        },
    }
    return {name: value for name, value in row.items() if name not in names} | changed


NAME = text(LONGEST_NAME)
SHA256 = matching("[0-9a-f]{64}")
SIDE = integer(1, LARGEST_SIDE)
UNIT = number(0, 1)
BACKEND = one_of("torch", "onnx", "openvino")
RAIN = {"share": UNIT, "strength": number(-1, 1), "angle": optional(number(-180, 180))}
NETWORK = {
    "network": NAME,
    "weights": NAME,
    "sha256": SHA256,
    "tile": optional(integer(SMALLEST_TILE, LARGEST_SIDE)),
    "precision": one_of(*get_args(Precision)[1:]),
    "height": SIDE,
    "width": SIDE,
    "backend": lambda value: BACKEND(value or "torch"),  # older records lack it
    "noise_sigma": optional(UNIT),
    "brightness": optional(UNIT),
    "grain": optional(UNIT),
    "rain": optional(lambda value: RainRecord(**checked.fields(value, RAIN))),
}
GENERATING_NETWORK = NETWORK | {
    "sha256": optional(SHA256),
    "height": integer(1, LARGEST_GENERATED_SIDE),
    "width": integer(1, LARGEST_GENERATED_SIDE),
}
SETTINGS = {  # fields of RunOptions
    "overlap": any_of(one_of("auto", "exact"), integer(0, LARGEST_SIDE)),
    "exact": boolean,
    "seed": integer(-LARGEST_SEED, LARGEST_SEED),
    "strength": UNIT,
    "resize": one_of("detail", "fit", "native"),
    "ensemble": lambda value: boolean(value or False),  # older records lack it
    "noise_limit": any_of(one_of("auto", "off"), number(0, 255)),
}
GENERATING_SETTINGS = {  # fields of a GenerateRequest
    "steps": integer(1, MOST_STEPS),
    "guidance": number(1, 1_000_000),
    "guidance_power": optional(number(0, 1_000)),
    "negative": optional(text(LONGEST_PROMPT)),
    "sampler": optional(NAME),
    "rope": optional(NAME),
    "direct": boolean,
    "freeu": boolean,
    "disperse": boolean,
    "synchronise": boolean,
    "init_strength": optional(UNIT),
}
COMMON = {
    "restore": NAME,
    "torch": optional(NAME),
    "command": NAME,
    "device": one_of("cpu", "cuda", "mps"),
    "format": one_of(*get_args(Format)),
    "quality": optional(integer(1, 100)),
}


def _file_name(value: object) -> str:
    """Check that a source is named without its folder, so that none other is searched."""
    name: str = NAME(value)
    if PurePath(name).name != name or name in ("", "..") or "\0" in name:
        raise ValueError("expected the name of a file")
    return name


def _fields_of(checks: Mapping[str, checked.Check]) -> checked.Check:
    return lambda value: checked.fields(value, checks)


INPUT = {
    "role": one_of(*IMAGE_ROLES, "lora", "controlnet"),
    "name": _file_name,
    "sha256": SHA256,
    "scale": number(-LARGEST_SCALE, LARGEST_SCALE),
}
RESTORED = COMMON | {
    "networks": list_of(_fields_of(NETWORK), 1, MOST_NETWORKS),
    "settings": _fields_of(SETTINGS),
    "source": _file_name,
    "source_sha256": SHA256,
}
GENERATED = COMMON | {
    "networks": list_of(_fields_of(GENERATING_NETWORK), 1, MOST_NETWORKS),
    "settings": _fields_of(GENERATING_SETTINGS),
    "prompts": list_of(text(LONGEST_PROMPT), 1, MOST_IMAGES),
    "seeds": list_of(integer(0, LARGEST_SEED), 1, MOST_IMAGES),
    "columns": integer(1, MOST_IMAGES),
    "vae_sha256": optional(SHA256),
    "inputs": lambda value: list_of(_fields_of(INPUT), 0, MOST_INPUTS)(value or []),
}
