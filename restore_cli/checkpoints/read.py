"""A weight file as tensors: read once, without running any code that it may hold."""

from __future__ import annotations

import io
import json
import os
import stat
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from restore_cli.checkpoints import tensorflow
from restore_cli.checkpoints.identify import HEAD, READABLE, STATE_DICT, check_zip, not_weights
from restore_cli.errors import WeightsCorrupt, WeightsMissing
from restore_cli.files import sha256_of

if TYPE_CHECKING:
    from torch import Tensor

METADATA_KEY = "restore"  # of the JSON text in the metadata of our own files
# Keys under which trainings keep the weights, the averaged ones first.
WRAPPINGS = (
    "params_ema", "model_ema", "state_dict_ema", "ema_state_dict", "g_ema", "ema", "ema_model",
    "shadow", "params", "state_dict", "model_state_dict", "model_state", "model", "net", "network",
    "generator", "netG", "net_g", "weights", "module",
)  # fmt: skip
DEEPEST = 5  # wrappings inside each other
# Of wrappers around a network.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "generator.", "netG.")
# Classes of values beside the weights, such as the best PSNR. None of them is created: an object
# without contents takes their place.
IGNORED = (
    "numpy.core.multiarray.scalar", "numpy.core.multiarray._reconstruct", "numpy.dtype",
    "numpy._core.multiarray.scalar", "numpy._core.multiarray._reconstruct", "numpy.ndarray",
    "argparse.Namespace", "pathlib.PosixPath", "pathlib.WindowsPath",
)  # fmt: skip
LONGEST_HEADER = 100_000_000  # bytes; safetensors itself takes no more
LARGEST_FILE = 1 << 36  # bytes

_torch_load = threading.Lock()  # warnings and allowed classes are global


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
    about: About | None = None
    prefixes: tuple[str, ...] = ()  # removed from the front of all names, the outermost first
    wrapping: tuple[str, ...] = ()  # keys around the state dict, the outermost first


def read(path: Path) -> WeightFile:
    """Read safetensors or a PyTorch pickle of tensors, told apart by their first bytes.

    Or a TensorFlow checkpoint, by the path of its .index, under its own names and layout.
    Wrappings of a training, such as {"state_dict": ...} and the prefix "module.", are removed.
    Raises WeightsMissing, and WeightsCorrupt for anything else and for a pickle with code.
    """
    if index := tensorflow.index_of(path):
        with _opened(index) as file:
            table = file.read()
        with _opened(tensorflow.data_file(index)) as file:
            data = file.read()
        return WeightFile(index, sha256_of(table + data), tensorflow.parse(table, data, index.name))
    with _opened(path) as file:
        head = file.read(HEAD)
        if not _is_safetensors(head) and not _is_pickle(head):
            raise not_weights(head, path.name)  # before the rest is read: it may be a video
        data = head + file.read()
    about: About | None = None
    prefixes: tuple[str, ...] = ()
    wrapping: tuple[str, ...] = ()
    if _is_safetensors(data):
        state = _parse_safetensors(data, path.name)
        about = _about(data, path.name)
    else:
        state, wrapping = _unwrapped_state(_unpickle(data, path.name), path.name, len(data))
    if about is None:
        state, prefixes = _without_prefixes(state)
    return WeightFile(path, sha256_of(data), state, about, prefixes, wrapping)


def read_about(path: Path) -> About | None:
    """Read the description of a file of ours without its tensors; None for any other file.

    Raises WeightsMissing, WeightsCorrupt.
    """
    with _opened(path) as file:
        head = file.read(9)
        if not _is_safetensors(head):
            return None
        header = head + file.read(min(int.from_bytes(head[:8], "little"), LONGEST_HEADER) - 1)
    try:
        return _about(header, path.name)
    except (ValueError, RecursionError) as error:
        raise WeightsCorrupt(f"{path.name}: broken safetensors file: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file; a pipe or a device may never end. Raises WeightsMissing."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise WeightsMissing(f"{path}: cannot be read: not a regular file", hint=READABLE)
        if found.st_size > LARGEST_FILE:
            raise WeightsMissing(
                f"{path}: cannot be read: {found.st_size:,} bytes, the limit is {LARGEST_FILE:,}"
            )
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise WeightsMissing(
            f"there is no weight file {path}",
            hint="a TensorFlow checkpoint is two files, .index and .data-00000-of-00001"
            if tensorflow.DATA_SUFFIX in path.name
            else "known names: restore weights list",
        ) from error
    except OSError as error:
        raise WeightsMissing(f"{path}: cannot be read: {error.strerror}") from error


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{"  # behind the length of the JSON header


def _is_zip(head: bytes) -> bool:
    return head.startswith(b"PK\x03\x04")  # torch.save


def _is_pickle(head: bytes) -> bool:
    # torch.save before 1.6 wrote bare pickles
    return _is_zip(head) or (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05")


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
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__")
    if not isinstance(metadata, dict) or METADATA_KEY not in metadata:
        return None
    try:
        about = json.loads(metadata[METADATA_KEY])
        parts = about["arch"], about["config"], about["record"]
        if not all(map(isinstance, parts, (str, dict, dict))):
            raise TypeError("other kinds of values")
        return About(*parts)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsCorrupt(f"{name}: its metadata is damaged") from error


class _PythonObject:
    """Placeholder of a value beside the weights."""

    def __init__(self, *arguments: object):
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _unpickle(data: bytes, name: str) -> object:
    import torch

    if _is_zip(data):
        check_zip(data, name)
    try:
        with _torch_load, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with torch.serialization.safe_globals([(_PythonObject, each) for each in IGNORED]):
                return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    # A damaged pickle fails in any way at all, from KeyError to RuntimeError.
    except Exception as error:
        if "GLOBAL" in str(error):  # torch has one class and several texts for this refusal
            raise WeightsCorrupt(
                f"{name}: refused, it holds Python code besides tensors",
                hint="ask its author for the bare state dict or for safetensors",
            ) from error
        if "Unsupported operand" in str(error):
            raise WeightsCorrupt(
                f"{name}: a pickle that torch.load does not read by weights_only",
                hint="save it by torch.save without pickle_protocol, or as safetensors",
            ) from error
        raise WeightsCorrupt(
            f"{name}: damaged or not a PyTorch weight file", hint="download it again"
        ) from error


def _unwrapped_state(
    loaded: object, name: str, most_bytes: int
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors of a checkpoint, and the keys around them. Raises WeightsCorrupt.

    most_bytes: of a tensor, since a view may claim any size.
    """
    found = _unwrapped(loaded, DEEPEST, set())
    if found is None:
        if not isinstance(loaded, dict) or not loaded:
            raise WeightsCorrupt(f"{name}: holds no table of tensors", hint=STATE_DICT)
        key, value = next(item for item in loaded.items() if not _is_named_tensor(*item))
        raise WeightsCorrupt(
            f"{name}: {key!r:.60} is a {type(value).__name__.lstrip('_')}, wanted a tensor",
            hint=STATE_DICT,
        )
    for key, tensor in found[0].items():
        if problem := _problem(tensor, most_bytes):
            raise WeightsCorrupt(f"{name}: {key!r:.60} {problem}", hint=STATE_DICT)
    return found


def _without_prefixes(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors without the prefixes that all their names have, and those."""
    common = os.path.commonprefix([*state])  # noqa: RUF071
    removed: tuple[str, ...] = ()
    while prefix := next((each for each in PREFIXES if common.startswith(each)), ""):
        common, removed = common.removeprefix(prefix), (*removed, prefix)
    length = sum(map(len, removed))
    return {key[length:]: value for key, value in state.items()}, removed


def _unwrapped(
    loaded: object, depth: int, seen: set[int]
) -> tuple[dict[str, Tensor], tuple[str, ...]] | None:
    """Return the table of tensors in a checkpoint of a training, and the keys that lead to it."""
    if not isinstance(loaded, dict) or not loaded or depth == 0 or id(loaded) in seen:
        return None
    seen.add(id(loaded))  # a file may contain itself
    if all(_is_named_tensor(*item) for item in loaded.items()):
        return dict(loaded), ()
    for key in WRAPPINGS:
        if found := _unwrapped(loaded.get(key), depth - 1, seen):
            return found[0], (key, *found[1])
    return None


def _is_named_tensor(key: object, value: object) -> bool:
    from torch import Tensor

    return isinstance(key, str) and isinstance(value, Tensor)


def _problem(tensor: Tensor, most_bytes: int) -> str | None:
    """Return the reason why a tensor is no weight, or None."""
    import torch

    kinds = {
        "nested": tensor.is_nested,
        "sparse": tensor.layout is not torch.strided,
        "quantized": tensor.is_quantized,
        "without values": tensor.is_meta,
    }
    if kind := next((kind for kind, is_so in kinds.items() if is_so), None):
        return f"is {kind}, wanted a dense tensor"
    if tensor.numel() * tensor.element_size() > most_bytes:
        return f"is {tuple(tensor.shape)}, larger than the file"
    return None
