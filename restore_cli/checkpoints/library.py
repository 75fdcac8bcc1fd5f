"""Weight files as a collection: fetch one, import one, verify what is there, remove one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from restore_cli import registry
from restore_cli.checkpoints import manifest
from restore_cli.checkpoints.importers import LAYOUTS
from restore_cli.checkpoints.load import COMMUNITY, SUFFIXES, is_ours, our_state
from restore_cli.checkpoints.manifest import NAME, WeightsEntry
from restore_cli.checkpoints.read import WeightFile, read
from restore_cli.checkpoints.save import save_state
from restore_cli.checkpoints.shapes import check_fit, empty_network
from restore_cli.downloads import HUB, OnProgress, fetch, fetch_from_hub
from restore_cli.errors import OutputExists, UsageError, WeightsCorrupt, WeightsMissing
from restore_cli.files import sha256_of
from restore_cli.tasks import find_task

if TYPE_CHECKING:
    from torch import Tensor

Network = tuple[str, Mapping[str, Any], Mapping[str, "Tensor"]]  # name, config, state
Status = Literal["ok", "corrupt", "missing", "not fetched"]


@dataclass(frozen=True)
class Verified:
    """Result of the check of one entry on this machine."""

    entry: WeightsEntry
    status: Status
    path: Path
    sha256: str | None  # of the file, if there is one


def fetch_weights(
    entry: WeightsEntry, *, offline: bool = False, on_progress: OnProgress | None = None
) -> Path:
    """Return the file of an entry, downloaded into the cache unless it is on this machine.

    Raises WeightsMissing if there is nowhere to fetch it from, FetchError, WeightsCorrupt.
    """
    where, path = manifest.locate(entry)
    if where == "bundled":
        return path
    if entry.url is None:
        if where == "cached":
            return path
        raise WeightsMissing(f"{entry.name} has no download address", hint="import it again")
    return fetch(
        entry.url, entry.sha256, path, size=entry.size, offline=offline, on_progress=on_progress
    )


def fetch_file(
    address: str,
    sha256: str | None,
    *,
    offline: bool = False,
    on_progress: OnProgress | None = None,
) -> Path:
    """Return a weight file of the Hugging Face Hub (hf://OWNER/REPO/FILE) or at a URL, to import.

    sha256: its checksum, which a URL requires. Raises UsageError, FetchError, WeightsCorrupt.
    """
    if address.startswith(HUB):
        path = fetch_from_hub(address, offline=offline, on_progress=on_progress)
        if sha256 is not None and sha256_of(path) != sha256:
            raise WeightsCorrupt(f"{address}: sha256 {sha256_of(path)[:12]} differs from the given")
        return path
    if sha256 is None:
        raise UsageError(
            f"{address}: a file at a URL is fetched by its checksum only",
            hint="add --sha256 with the one that its publisher states",
        )
    name = re.sub(r"[^\w.-]", "_", urlsplit(address).path.rpartition("/")[2]) or "weights"
    target = manifest.weights_cache() / "downloads" / sha256[:16] / name
    return fetch(address, sha256, target, offline=offline, on_progress=on_progress)


def remove_weights(name: str) -> None:
    """Delete imported or fetched weights. Raises UsageError for bundled ones, WeightsMissing."""
    bundled = manifest.bundled_entries().get(name)
    if bundled is not None and manifest.locate(bundled)[0] != "cached":
        raise UsageError(f"{name} is bundled and cannot be removed")
    if bundled is None and not manifest.is_cached(name):
        manifest.find(name)  # raises WeightsMissing, with the names that exist
    manifest.remove_cached(name)


def import_weights(
    source: Path,
    name: str | None = None,
    *,
    task: str | None = None,
    scale: int | None = None,
    second: Path | None = None,
    overwrite: bool = False,
) -> WeightsEntry:
    """Keep a weight file of any known network in the cache as safetensors, called `name`.

    name: "arch.tag"; None: made of the network it fits and the file's own name.
    task: what it is for; None: all tasks of the network, or the likely ones of a community model.
    scale: by what it enlarges, where its tensors do not tell.
    second: another file, where a network is published as two (Layout.joined).
    Raises UsageError for a name, task or scale that does not fit, or a name that is bundled,
    OutputExists for one that was imported before (unless `overwrite`), WeightsError for the file.
    """
    file = read(source)
    contents = _contents(file)
    arch, config, state = contents.arch, contents.config, contents.state
    if scale is not None:
        config = _with_scale(contents, scale)
    origin = f"imported from {_described(file)}"
    if second is not None:
        other = read(second)
        arch, config, state = _joined((arch, config, state), _checked(other))
        origin += f", and {_described(other)}"
    tasks = contents.likely if task is None else _single_task(task, arch, config, contents)
    name = name or f"{arch}.{_tag(source.name, arch)}"
    _check_name(name, arch, overwrite)
    record = dict(file.about.record) if file.about else {}
    if file.about is None and contents.importer is None:
        record["layout"] = "official"  # for origin.py
    target = manifest.weights_cache() / f"{name}.safetensors"
    save_state(state, target, arch=arch, config=config, record={**record, "origin": origin})
    contents = replace(contents, arch=arch, config=config, likely=tasks)
    entry = _entry(name, target, sha256_of(target), contents, origin)
    manifest.write_cached(entry)
    return entry


def describe(path: Path) -> WeightsEntry:
    """Return the entry that a weight file would get by its import. Raises WeightsError."""
    file = read(path)
    return _entry(path.stem, path, file.sha256, _contents(file), str(path))


@dataclass(frozen=True)
class _Contents:
    """A network in a weight file."""

    arch: str
    config: Mapping[str, Any]
    state: Mapping[str, Tensor]
    likely: tuple[str, ...] | None  # tasks; None: all of the network
    able: tuple[str, ...]  # tasks that it may be for
    importer: str | None


def _contents(file: WeightFile) -> _Contents:
    if is_ours(file):
        arch, config, state = _checked(file)
        return _Contents(arch, config, state, None, registry.find(arch).tasks, None)
    from restore_cli.checkpoints.community import load

    model = load(file)
    spec = model.spec
    return _Contents(spec.arch, model.config, model.state, model.likely, spec.tasks, COMMUNITY)


def _entry(name: str, path: Path, sha256: str, contents: _Contents, origin: str) -> WeightsEntry:
    return WeightsEntry(
        name=name,
        file=path.name,
        arch=contents.arch,
        tasks=contents.likely,
        config=contents.config,
        sha256=sha256,
        size=path.stat().st_size,
        url=None,
        importer=contents.importer,
        origin=origin,
        licence="that of its source",
        trained_on="see its source",
        scores={},
        card=None,
    )


def verify(entry: WeightsEntry) -> Verified:
    """Compare the file of an entry with its checksum."""
    where, path = manifest.locate(entry)
    if where == "fetchable":
        return Verified(entry, "not fetched", path, None)
    if where == "missing":
        return Verified(entry, "missing", path, None)
    sha256 = sha256_of(path)
    return Verified(entry, "ok" if sha256 == entry.sha256 else "corrupt", path, sha256)


def _single_task(
    task: str, arch: str, config: Mapping[str, Any], contents: _Contents
) -> tuple[str, ...]:
    spec = registry.NETWORKS.get(arch)
    able = contents.able if spec is None else registry.configured(spec, config).tasks
    if find_task(task).name not in able:
        raise UsageError(
            f"the weights are for {arch}, which does not {task}",
            hint=f"--task {' or '.join(able)}",
        )
    return (task,)


def _with_scale(contents: _Contents, scale: int) -> dict[str, Any]:
    if "upscale" not in contents.able:
        raise UsageError(f"the weights are for {contents.arch}, which does not enlarge")
    if contents.config.get("scale", scale) != scale:
        raise UsageError(f"the weights enlarge x{contents.config['scale']}, not x{scale}")
    return {**contents.config, "scale": scale}


def _checked(file: WeightFile) -> Network:
    arch, config, state = our_state(file)
    expected = empty_network(arch, config, state).state_dict()
    check_fit(state, expected, source=file.path.name, layout=arch)
    return arch, config, state


def _described(file: WeightFile) -> str:
    around = (*file.wrapping, *file.prefixes)
    inside = f" ({' > '.join(around)})" if around else ""
    return f"{file.path.name}{inside}, sha256 {file.sha256}"


def _joined(first: Network, second: Network) -> Network:
    layout = LAYOUTS.get(first[0])
    if layout is None or layout.joined is None or second[0] != first[0]:
        raise UsageError(
            f"files for {first[0]} and for {second[0]} do not belong to one network",
            hint="leave out the second, or see: restore weights import --help",
        )
    arch, join = layout.joined
    return arch, *join(first[1:], second[1:])


def _tag(name: str, arch: str) -> str:
    """Return a file name as a tag: "rain-1" for "DPENet-Rain 1.pth.tar" of DPENet."""
    stem = Path(name).stem
    while Path(stem).suffix.lower() in SUFFIXES:
        stem = Path(stem).stem
    tag = re.sub(r"[^a-z0-9_]+", "-", stem.lower()).strip("-_")
    return tag.removeprefix(arch).lstrip("-_") or "imported"


def _check_name(name: str, arch: str, overwrite: bool) -> None:
    match = NAME.fullmatch(name)
    if match is None or match["arch"] != arch:
        raise UsageError(
            f"the weights cannot be called {name!r}, they are for {arch}",
            hint=f"write --as {arch}.TAG with a TAG in small letters",
        )
    if name in manifest.bundled_entries():
        raise UsageError(
            f"{name} is the name of bundled weights", hint=f"write --as {arch}.TAG with another TAG"
        )
    if not overwrite and manifest.is_cached(name):
        raise OutputExists(
            f"{name} was imported before", hint="add --overwrite, or --as with another name"
        )
