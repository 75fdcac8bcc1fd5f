"""Weights by name or by path, as a network ready to run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore_cli import registry
from restore_cli.checkpoints import importers, manifest
from restore_cli.checkpoints.manifest import WeightsEntry
from restore_cli.checkpoints.onnx import SUFFIX as ONNX
from restore_cli.checkpoints.onnx import open_onnx
from restore_cli.checkpoints.read import WeightFile, read, read_about
from restore_cli.checkpoints.shapes import check_finite, check_fit, empty_network
from restore_cli.errors import WeightsCorrupt, WeightsMismatch, WeightsMissing
from restore_cli.registry import Configured

if TYPE_CHECKING:
    from torch import Tensor, nn

COMMUNITY = "spandrel"  # importer of community models
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".index", ".tar", ONNX)


@dataclass(frozen=True)
class Checkpoint:
    """A network with its weights in eval mode and float32, and where they came from."""

    name: str  # in the manifest; for a file given by its path, the name without suffix
    path: Path
    sha256: str
    spec: Configured
    module: nn.Module


def load(name_or_path: str | Path) -> nn.Module:
    """Load a network in eval mode and float32 on the CPU; see load_checkpoint."""
    return load_checkpoint(name_or_path).module


def load_checkpoint(name_or_path: str | Path) -> Checkpoint:
    """Load by name ("dpenet.default"), or by path: a file of ours (safetensors or
    ONNX), official, or of the community.

    Raises WeightsMissing, WeightsCorrupt (checksum, contents) or WeightsMismatch (the network).
    """
    if is_path(name_or_path):
        return _load_file(Path(os.path.expanduser(name_or_path)))
    return _load_entry(manifest.find(str(name_or_path)))


def spec_of(name_or_path: str) -> Configured:
    """Return what some weights are for; they are loaded only where their header does not tell.

    Raises WeightsError.
    """
    if is_onnx(name_or_path):
        return open_onnx(Path(os.path.expanduser(name_or_path))).spec
    if is_path(name_or_path):
        about = read_about(Path(os.path.expanduser(name_or_path)))
        arch, config, tasks = (about.arch, about.config, None) if about else ("", {}, None)
    else:
        entry = manifest.find(name_or_path)
        arch, config, tasks = entry.arch, entry.config, entry.tasks
    if arch in registry.NETWORKS and "architecture" not in config:  # which community models have
        with suppress(TypeError):  # a damaged configuration, which loading names
            return registry.configured(registry.NETWORKS[arch], config, tasks)
    return load_checkpoint(name_or_path).spec


def _verified(entry: WeightsEntry) -> WeightFile:
    """Read the file of an entry and compare its checksum.

    Raises WeightsMissing with the way to get it, WeightsCorrupt.
    """
    where, path = manifest.locate(entry)
    if where == "fetchable":
        raise WeightsMissing(
            f"{entry.name} is not on this machine", hint=f"run: restore weights fetch {entry.name}"
        )
    if where == "missing":
        raise WeightsMissing(
            f"the file of {entry.name} is gone: {path.name}",
            hint="import it again, or install restore again if it came with it",
        )
    file = read(path)
    if file.sha256 != entry.sha256:
        raise WeightsCorrupt(
            f"{path.name}: sha256 {file.sha256[:12]} differs from {entry.sha256[:12]} "
            "in the manifest",
            hint=f"run: restore weights fetch {entry.name}" if entry.url else f"replace {path}",
        )
    return file


def is_ours(file: WeightFile) -> bool:
    """Return True if a file is for a network of ours, otherwise community.py is asked."""
    if file.about is not None:
        return "architecture" not in file.about.config  # which an imported community model has
    return importers.is_known(file.state)


def our_state(file: WeightFile) -> tuple[str, Mapping[str, Any], dict[str, Tensor]]:
    """Return (arch, config, state under our names) of a file of ours or in an official layout.

    A file of ours is taken at its word. Raises WeightsMismatch.
    """
    if file.about is not None:
        return file.about.arch, file.about.config, file.state
    try:
        arch, config = importers.recognise(file.state)
        return arch, config, importers.from_official(arch, file.state, **config)
    except WeightsMismatch as error:
        reason = error.message.removeprefix("state dict: ")
        raise WeightsMismatch(f"{file.path.name}: {reason}", hint=error.hint) from error


def is_path(name_or_path: str | Path) -> bool:
    """Return True if it is a file, not a name of the manifest."""
    if isinstance(name_or_path, Path):
        return True
    path = Path(name_or_path)
    return path.name != name_or_path or path.suffix.lower() in SUFFIXES


def is_onnx(name_or_path: str | Path) -> bool:
    """Return True if it is an ONNX file."""
    return is_path(name_or_path) and Path(name_or_path).suffix.lower() == ONNX


def _load_file(path: Path) -> Checkpoint:
    if is_onnx(path):
        from restore_cli.checkpoints.onnx_network import load_onnx_file

        return load_onnx_file(path)
    file = read(path)
    spec, module = _ours(file) if is_ours(file) else _community(file)
    return Checkpoint(path.stem, path, file.sha256, spec, module)


def _ours(file: WeightFile) -> tuple[Configured, nn.Module]:
    arch, config, state = our_state(file)
    module = _network(arch, config, state, file.path.name)
    return registry.configured(registry.find(arch), config), module


def _community(file: WeightFile) -> tuple[Configured, nn.Module]:
    from restore_cli.checkpoints import community

    model = community.load(file)
    return model.spec, model.module


def _load_entry(entry: WeightsEntry) -> Checkpoint:
    file = _verified(entry)
    if entry.importer == COMMUNITY:
        spec, module = _community(file)
        spec = replace(spec, tasks=entry.tasks or spec.tasks)
        return Checkpoint(entry.name, file.path, file.sha256, spec, module)
    state = file.state
    if entry.importer is not None:
        state = importers.from_official(entry.importer, state, **entry.config)
    module = _network(entry.arch, entry.config, state, file.path.name)
    spec = registry.configured(registry.find(entry.arch), entry.config, entry.tasks)
    return Checkpoint(entry.name, file.path, file.sha256, spec, module)


def _network(
    arch: str, config: Mapping[str, Any], state: Mapping[str, Tensor], source: str
) -> nn.Module:
    module = empty_network(arch, config, state)
    check_fit(state, module.state_dict(), source=source, layout=arch)
    module.load_state_dict(state, strict=True)  # copies, so half precision becomes float32
    check_finite(module, source)
    return module.eval()
