"""The table of weight files: bundled ones in weights/manifest.json, imported ones in the cache.

An imported file `cache/weights/<name>.safetensors` has its entry beside it, `<name>.json`: two
imports at the same time cannot lose each other's.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from glob import glob
from pathlib import Path
from typing import Any, Literal

from restore_cli import assets
from restore_cli.errors import WeightsCorrupt, WeightsMissing
from restore_cli.files import write_atomically
from restore_cli.registry import NETWORKS
from restore_cli.tasks import TASKS

MANIFEST = "manifest.json"
NAME = re.compile(r"(?P<arch>[a-z0-9]+)\.(?P<tag>[a-z0-9][a-z0-9_-]*)")
Where = Literal["bundled", "cached", "fetchable", "missing"]


@dataclass(frozen=True)
class WeightsEntry:
    """One weight file: how to build its network, and where it comes from."""

    name: str  # "arch.tag"
    file: str  # its file name, in the bundled folder or in the cache
    arch: str
    tasks: tuple[str, ...] | None  # None: those of the network
    config: Mapping[str, Any]  # fields of the network's config dataclass
    sha256: str
    size: int  # bytes
    url: str | None  # where to fetch it from; None: it is bundled or imported
    importer: str | None  # key of importers.LAYOUTS, for a file in an official layout
    origin: str
    licence: str
    trained_on: str
    scores: Mapping[str, Mapping[str, float]]  # {"rain100l": {"psnr_y": 38.8}}
    card: str | None  # file name of its model card, beside it
    purpose: str | None = None  # a few words beyond the task


def find(name: str) -> WeightsEntry:
    """Return the entry called `name`. Raises WeightsMissing, WeightsCorrupt."""
    # The cache comes second and only if asked for: a broken entry in it stops nobody else.
    bundled = bundled_entries()
    if name in bundled:
        return bundled[name]
    if is_cached(name):
        return _read_cached(_cached_record(name))
    for spec in NETWORKS.values():
        if name in spec.own_weights:
            raise WeightsMissing(
                f"no weights are bundled for {spec.arch}",
                hint="train them: restore train --list; or import your own: "
                f"restore weights import FILE --as {name}",
            )
    if Path(name).name and Path(name).exists():
        raise WeightsMissing(
            f"no weights are called {name!r}", hint=f"for the file of that name: ./{name}"
        )
    known = sorted({*bundled, *(path.stem for path in _cached_records())})
    raise WeightsMissing(
        f"no weights are called {name!r}",
        hint=f"there are: {', '.join(known)}" if known else "import some: restore weights import",
    )


def entries() -> dict[str, WeightsEntry]:
    """Return all entries by name, bundled ones first; a bundled name hides an imported one."""
    bundled = bundled_entries()
    cached = [_read_cached(path) for path in _cached_records() if path.stem not in bundled]
    return bundled | {entry.name: entry for entry in cached}


def bundled_entries() -> dict[str, WeightsEntry]:
    """Return the entries of weights/manifest.json by name. Raises WeightsCorrupt."""
    path = assets.weights_dir() / MANIFEST
    rows = _read_json(path)
    if not isinstance(rows, list):
        raise WeightsCorrupt(f"{path.name}: holds a {type(rows).__name__}, wanted a list")
    parsed = [parse(row, path.name) for row in rows]
    by_name = {entry.name: entry for entry in parsed}
    if len(by_name) < len(parsed):
        raise WeightsCorrupt(f"{path.name}: two entries have the same name")
    return by_name


def is_cached(name: str) -> bool:
    """Return True if a file was imported under this name."""
    return NAME.fullmatch(name) is not None and os.path.isfile(_cached_record(name))


def weights_cache() -> Path:
    """Return the folder of fetched and imported weight files."""
    return assets.cache_dir() / "weights"


def locate(entry: WeightsEntry) -> tuple[Where, Path]:
    """Return the place of the file of an entry, and its (future) path."""
    bundled = assets.weights_dir() / entry.file
    cached = weights_cache() / entry.file
    if os.path.isfile(bundled):
        return "bundled", bundled
    if os.path.isfile(cached):  # unlike Path.is_file, False for a name that is too long
        return "cached", cached
    return ("fetchable" if entry.url else "missing"), cached


def remove_cached(name: str) -> None:
    """Delete the file and the entry of imported weights, whether damaged or not."""
    for path in (_cached_record(name), weights_cache() / f"{name}.safetensors"):
        path.unlink(missing_ok=True)


def write_cached(entry: WeightsEntry) -> None:
    """Put the entry of an imported file beside it, whole or not at all."""
    text = json.dumps(asdict(entry), indent=2) + "\n"
    write_atomically(_cached_record(entry.name), text.encode(), overwrite=True)


def parse(row: object, source: str) -> WeightsEntry:
    """Return the checked entry of a JSON object; `source` names the file in errors.

    Raises WeightsCorrupt for a field that is unknown, missing or of the wrong kind: a typing
    error in a hand-written manifest must not become a default.
    """
    if not isinstance(row, dict):
        raise WeightsCorrupt(f"{source}: an entry is a {type(row).__name__}, wanted an object")
    name = row.get("name", "without a name")
    if problem := _difference(set(row)) or _wrong_value(row):
        raise WeightsCorrupt(f"{source}: entry {name}: {problem}")
    tasks = row["tasks"]
    return WeightsEntry(**{**row, "tasks": None if tasks is None else tuple(tasks)})


def _difference(names: set[str]) -> str | None:
    known = fields(WeightsEntry)
    if unknown := names - {field.name for field in known}:
        return f"unknown field {min(unknown)}"
    if missing := {field.name for field in known if field.default is MISSING} - names:
        return f"no field {min(missing)}"
    return None


def _wrong_value(row: Mapping[str, Any]) -> str | None:
    """Return the first wrong value of an entry that has exactly the right fields."""
    optional = {"tasks": list, "url": str, "importer": str, "card": str, "purpose": str}
    required = {"config": dict, "scores": dict, "size": int}
    for field, value in row.items():
        kind = optional.get(field) or required.get(field, str)
        if not isinstance(value, kind) and not (value is None and field in optional):
            return f"{field} is {value!r}, wanted {kind.__name__}"
    match = NAME.fullmatch(row["name"])
    if match is None or match["arch"] != row["arch"]:
        return f"name is {row['name']!r}, wanted {row['arch']}.tag in small letters"
    for field in ("file", "card"):  # a name, so that no entry can point out of its folder
        if row[field] is not None and re.fullmatch(r"\w[\w.-]*", row[field]) is None:
            return f"{field} is {row[field]!r}, wanted a file name without a folder"
    if re.fullmatch(r"[0-9a-f]{64}", row["sha256"]) is None:
        return f"sha256 is {row['sha256']!r}, wanted 64 hexadecimal digits"
    if not all(task in TASKS for task in row["tasks"] or ()):
        return f"tasks is {row['tasks']!r}, wanted some of {', '.join(TASKS)}"
    for measured in row["scores"].values():
        if not isinstance(measured, dict) or not all(map(_is_number, measured.values())):
            return f"scores holds {measured!r}, wanted {{metric: number}} for each set"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _cached_record(name: str) -> Path:
    return weights_cache() / f"{name}.json"


def _cached_records() -> list[Path]:
    folder = weights_cache()
    return sorted(folder / name for name in glob("*.json", root_dir=folder))


def _read_cached(path: Path) -> WeightsEntry:
    try:
        return parse(_read_json(path), path.name)
    except WeightsCorrupt as error:
        raise WeightsCorrupt(error.message, hint=f"delete {path} and import it again") from error


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsCorrupt(
            f"{path}: {error.strerror}", hint="install restore again, its data is incomplete"
        ) from error
    except (ValueError, RecursionError) as error:
        raise WeightsCorrupt(f"{path.name}: not JSON: {error}") from error
