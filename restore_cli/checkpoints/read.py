"""A weight file as tensors: read once, without running any code that it may hold."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore_cli.checkpoints.tensorflow import index_of, read_bundle
from restore_cli.errors import WeightsCorrupt, WeightsMissing
from restore_cli.files import sha256_of

if TYPE_CHECKING:
    from torch import Tensor

METADATA_KEY = "restore"  # of the JSON text in the metadata of our own files
# Keys under which trainings keep the weights, the averaged ones first.
WRAPPINGS = (
    "params_ema",
    "ema",
    "params",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "generator",
)
DEEPEST = 4  # wrappings inside each other
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")  # of wrappers around a network
LONGEST_HEADER = 100_000_000  # bytes; safetensors itself takes no more


@dataclass(frozen=True)
class About:
    """Description of a file of ours in its metadata: network, configuration, training record."""

    arch: str
    config: Mapping[str, Any]
    record: Mapping[str, Any]


@dataclass(frozen=True)
class WeightFile:
    """The contents of a weight file; `about` is None where it does not describe itself."""

    path: Path
    sha256: str
    state: dict[str, Tensor]
    about: About | None
    prefixes: tuple[str, ...] = ()  # removed from the front of all names, the outermost first


def read(path: Path) -> WeightFile:
    """Safetensors, or a PyTorch pickle of plain tensors; what it is, its first bytes tell.

    Or a TensorFlow checkpoint, by the path of its .index, under its own names and layout.
    Unwraps {"state_dict": ...} and the "module." prefix that parallel training leaves.
    Raises WeightsMissing, and WeightsCorrupt for anything else and for a pickle with code.
    """
    if index := index_of(path):
        variables, data = read_bundle(index)
        return WeightFile(index, sha256_of(data), variables, None)
    data = _read_bytes(path)
    sha256 = sha256_of(data)
    if _is_safetensors(data):
        state = _parse_safetensors(data, path.name)
        return WeightFile(path, sha256, state, _about(data, path.name))
    state, prefixes = _bare_state(_unpickle(data, path.name), path.name)
    return WeightFile(path, sha256, state, None, prefixes)


def read_about(path: Path) -> About | None:
    """Read the description of a file of ours without its tensors; None for any other file.

    Raises WeightsMissing, WeightsCorrupt.
    """
    try:
        with path.open("rb") as file:
            head = file.read(9)
            if not _is_safetensors(head):
                return None
            header = head + file.read(min(int.from_bytes(head[:8], "little"), LONGEST_HEADER) - 1)
    except OSError as error:
        raise WeightsMissing(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return _about(header, path.name)
    except ValueError as error:
        raise WeightsCorrupt(f"{path.name}: broken safetensors file: {error}") from error


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(16)
            if not _is_safetensors(head) and not _is_pickle(head):
                # Said before the rest is read: it may be a video.
                raise WeightsCorrupt(
                    f"{path.name}: is not a weight file",
                    hint="readable are safetensors, PyTorch (.pth, .pt) and TensorFlow (.index)",
                )
            return head + file.read()
    except FileNotFoundError as error:
        raise WeightsMissing(
            f"there is no weight file {path}", hint="known names: restore weights list"
        ) from error
    except OSError as error:
        raise WeightsMissing(f"{path}: cannot be read: {error.strerror}") from error


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{"  # behind the length of the JSON header


def _is_pickle(head: bytes) -> bool:
    return head.startswith((b"PK\x03\x04", b"\x80\x02"))  # torch.save: a zip; before 1.6, bare


def _parse_safetensors(data: bytes, name: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise WeightsCorrupt(f"{name}: broken safetensors file: {error}") from error


def _about(data: bytes, name: str) -> About | None:
    """Parse the metadata of a valid safetensors file; None if it was not written by save."""
    length = int.from_bytes(data[:8], "little")
    text = json.loads(data[8 : 8 + length]).get("__metadata__", {}).get(METADATA_KEY)
    if text is None:
        return None
    try:
        about = json.loads(text)
        return About(arch=about["arch"], config={**about["config"]}, record={**about["record"]})
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsCorrupt(f"{name}: its description of itself is damaged") from error


def _unpickle(data: bytes, name: str) -> object:
    import torch

    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    # A damaged pickle fails in any way at all, from KeyError to RuntimeError.
    except Exception as error:
        if "GLOBAL" in str(error):  # torch has one class and several texts for this refusal
            raise WeightsCorrupt(
                f"{name}: refused, it holds Python code besides tensors",
                hint="ask its author for the bare state dict or for safetensors",
            ) from error
        raise WeightsCorrupt(
            f"{name}: damaged or not a PyTorch weight file", hint="download it again"
        ) from error


def _bare_state(loaded: object, name: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors of a checkpoint without its wrapping, and the prefixes of all names.

    The names are returned without them.
    """
    from torch import Tensor

    state = _unwrapped(loaded)
    if not isinstance(state, dict) or not state:
        raise WeightsCorrupt(f"{name}: holds no table of tensors")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise WeightsCorrupt(f"{name}: {key!r} is a {type(value).__name__}, wanted a tensor")
    state, removed = dict(state), []
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
        removed.append(prefix)
    return state, tuple(removed)


def _unwrapped(loaded: object) -> object:
    """Return the table of weights in a checkpoint of a training; averaged weights come first."""
    for _ in range(DEEPEST):  # a file may contain itself
        if not isinstance(loaded, dict):
            break
        tables = (loaded[key] for key in WRAPPINGS if isinstance(loaded.get(key), dict))
        loaded = next(tables, loaded)
    return loaded
