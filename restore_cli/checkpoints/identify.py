"""Files that hold no weights that can be read, told apart: each needs another way out."""

from __future__ import annotations

import io
import re
from typing import NamedTuple
from zipfile import BadZipFile, ZipFile

from restore_cli.errors import WeightsCorrupt

HEAD = 512  # bytes by which a file is identified
READABLE = "readable are safetensors, PyTorch (.pth, .pt) and TensorFlow (.index)"
STATE_DICT = "ask its author for the state dict as .pth or safetensors"
UNPACK = "unpack it, and name the weight file in it"
LARGEST_RATIO = 2  # contents of a zip / its size; torch.save does not compress


class Kind(NamedTuple):
    pattern: bytes  # of the first bytes
    name: str
    hint: str


KINDS = (
    Kind(rb"\x89HDF\r\n", "an HDF5 file, as Keras writes", STATE_DICT),
    Kind(rb"\x08[\x03-\x1f][\x12\x1a\x22\x28\x32\x3a\x42]", "an ONNX model", STATE_DICT),
    Kind(rb"\x08\x01\x12", "a SavedModel of TensorFlow", "name the .index of a checkpoint"),
    Kind(rb".{4}TFL3", "a model of TensorFlow Lite", STATE_DICT),
    Kind(rb"GGUF", "a GGUF file", STATE_DICT),
    Kind(rb"\x93NUMPY", "an array of NumPy", STATE_DICT),
    Kind(rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|\x28\xb5\x2f\xfd|Rar!", "an archive", UNPACK),
    Kind(rb".{257}ustar", "a tar archive", UNPACK),
    Kind(
        rb"version https://git-lfs",
        "a pointer of Git LFS, not the file itself",
        "run: git lfs pull, or download the file itself",
    ),
    Kind(rb"\s*<", "a web page", "download the file itself, not the page that shows it"),
    Kind(rb"[\t\n\r -~]{8,}$", "a text, perhaps the message of a server", "download it again"),
)  # fmt: skip
# Zips, by the names of their members.
PROGRAM = "save its state dict in Python: torch.save(torch.jit.load(FILE).state_dict(), NEW)"
ZIPS = (
    Kind(rb"(.*/)?constants\.pkl$", "a TorchScript program", PROGRAM),
    Kind(rb"(.*/)?archive_format$", "a program of torch.export", STATE_DICT),
    Kind(rb"serialized_exported_program\.", "a program of torch.export", STATE_DICT),
    Kind(rb".*\.h5$", "a model of Keras", STATE_DICT),
    Kind(rb".*\.npy$", "arrays of NumPy", STATE_DICT),
)  # fmt: skip


def not_weights(head: bytes, name: str) -> WeightsCorrupt:
    """Return the error for a file that begins with `head`."""
    for kind in KINDS:
        if re.match(kind.pattern, head.removeprefix(b"\xef\xbb\xbf"), re.DOTALL):
            return _but(kind, name)
    if not head:
        return WeightsCorrupt(f"{name}: not a weight file: empty", hint="download it again")
    return WeightsCorrupt(f"{name}: not a weight file", hint=READABLE)


def _but(kind: Kind, name: str) -> WeightsCorrupt:
    return WeightsCorrupt(f"{name}: not a weight file but {kind.name}", hint=kind.hint)


def check_zip(data: bytes, name: str) -> None:
    """Refuse a zip that is no checkpoint of torch.save, or inflates. Raises WeightsCorrupt."""
    try:
        with ZipFile(io.BytesIO(data)) as file:
            members = file.infolist()
    except (BadZipFile, ValueError, NotImplementedError) as error:
        raise WeightsCorrupt(
            f"{name}: damaged or not a PyTorch weight file", hint="download it again"
        ) from error
    names = [member.filename for member in members]
    for kind in ZIPS:
        if any(re.match(kind.pattern, each.encode("utf-8", "replace")) for each in names):
            raise _but(kind, name)
    if not any(each.endswith("/data.pkl") for each in names):
        raise _but(Kind(b"", "a zip archive", UNPACK), name)
    if sum(member.file_size for member in members) > LARGEST_RATIO * len(data):
        raise WeightsCorrupt(
            f"{name}: its contents are larger than the file", hint="save it again by torch.save"
        )
