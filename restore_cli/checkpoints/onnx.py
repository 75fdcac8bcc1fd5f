"""ONNX files that describe themselves, as `restore export` writes them, and their runtime.

Nothing here loads torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore_cli import assets, registry
from restore_cli.checkpoints import manifest
from restore_cli.errors import MissingExtra, WeightsCorrupt, WeightsMismatch, WeightsMissing
from restore_cli.files import sha256_of
from restore_cli.registry import Configured
from restore_cli.tasks import TASKS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

SUFFIX = ".onnx"
METADATA_KEY = "restore"  # of the JSON text in the metadata of a file
INPUT, OUTPUT = "input", "output"
EXTRA = "pip install 'restore-cli[onnx]'"
QUIET = 3  # errors alone
LARGEST_NUMBER = 256  # of a description: scale, channels, multiple


@dataclass(frozen=True)
class OnnxFile:
    """A network in an ONNX file, ready to run, and what it is for."""

    name: str  # of the weights
    path: Path
    sha256: str  # of the file
    weights_sha256: str  # of the weights that it was exported from
    spec: Configured
    session: InferenceSession

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output of the network, float32 (B, channels, H, W) both."""
        (output,) = self.session.run([OUTPUT], {INPUT: x})
        result: NDArray[np.float32] = output
        return result


def bundled_onnx(name: str) -> Path | None:
    """Return the ONNX file that comes with some weights."""
    path = assets.weights_dir() / f"{name}{SUFFIX}"
    return path if name in manifest.bundled_entries() and path.is_file() else None


def is_installed() -> bool:
    """Return True if there is an onnxruntime."""
    return find_spec("onnxruntime") is not None


def cached_onnx(name: str) -> Path:
    """Return the place in the cache for the ONNX file of named weights. Raises WeightsError."""
    entry = manifest.find(name)
    return manifest.weights_cache() / "onnx" / f"{name}-{entry.sha256[:12]}{SUFFIX}"


def open_named(name: str) -> OnnxFile:
    """Open the ONNX file of weights, bundled or in the cache. Raises UsageError, WeightsError."""
    path = bundled_onnx(name) or cached_onnx(name)
    found = open_onnx(path)
    if found.weights_sha256 != manifest.find(name).sha256:
        raise WeightsCorrupt(f"{path}: exported from other weights than {name}", hint="delete it")
    return found


def open_onnx(path: Path) -> OnnxFile:
    """Open a file that `restore export` wrote. Raises MissingExtra, WeightsError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsMissing(f"{path}: cannot be read: {error.strerror}") from error
    session = new_session(data, path.name)
    about = _about(session.get_modelmeta().custom_metadata_map, path.name)
    ends = [
        (node.name, len(node.shape)) for node in (*session.get_inputs(), *session.get_outputs())
    ]
    if ends != [(INPUT, 4), (OUTPUT, 4)]:
        raise WeightsMismatch(f"{path.name}: not a network from one image to one image")
    try:
        spec = registry.configured(registry.find(about["arch"]), about["config"], about["tasks"])
        if spec.facts is None:
            raise TypeError("it restores no image")
        for number in (spec.facts.scale, spec.facts.channels, spec.facts.multiple):
            if not isinstance(number, int) or not 1 <= number <= LARGEST_NUMBER:
                raise ValueError(f"{number!r:.20} is no size")
        return OnnxFile(
            about["name"], path, sha256_of(data), about["weights_sha256"], spec, session
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsCorrupt(f"{path.name}: its metadata is damaged") from error


def new_session(model: bytes, name: str) -> InferenceSession:
    """Return a session on the CPU. Raises MissingExtra, WeightsCorrupt."""
    # It would send usage data, and write an identifier of the machine below HOME.
    assets.set_environment({"ORT_DISABLE_TELEMETRY": "1"})
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra(f"{name} needs the package onnxruntime", hint=EXTRA) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = QUIET
    options.intra_op_num_threads = usable_cores()
    # Threads that wait in a loop would take the cores of the codecs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes have no public names
        raise WeightsCorrupt(
            f"{name}: damaged, or not an ONNX model", hint="export it again: restore export"
        ) from error


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _about(metadata: Mapping[str, str], name: str) -> dict[str, Any]:
    """Return the checked description of a file."""
    text = metadata.get(METADATA_KEY)
    if text is None:
        raise WeightsMismatch(
            f"{name}: an ONNX model that restore export has not written",
            hint="export weights that restore knows: restore export NAME -o FILE.onnx",
        )
    kinds = {"name": str, "arch": str, "config": dict, "tasks": list, "weights_sha256": str}
    try:
        about: dict[str, Any] = json.loads(text)
        tasks = about["tasks"]
        if not all(isinstance(about[field], kind) for field, kind in kinds.items()):
            raise TypeError("another kind of value")
        if not tasks or not all(task in TASKS for task in tasks):
            raise ValueError("unknown tasks")
        return about | {"tasks": tuple(tasks)}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsCorrupt(f"{name}: its metadata is damaged") from error
