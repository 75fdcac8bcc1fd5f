"""Atomic writing and checksums of files; no other module renames files or computes SHA-256."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from restore_cli.errors import OutputError, OutputExists

CHUNK = 1 << 20  # bytes per read of a checksum


def sha256_of(source: Path | bytes) -> str:
    """Return the SHA-256 of a file of any size, or of bytes, in hexadecimal digits."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    digest = hashlib.sha256()
    with source.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_atomically(
    path: Path,
    data: bytes | Callable[[Path], object],
    *,
    overwrite: bool = False,
    hint: str | None = None,
) -> None:
    """Write a file completely or not at all; create missing folders.

    data: the contents, or a function that writes them to the path it receives.
    Raises OutputExists, OutputError with `hint`, and what `data` raises.
    """
    with atomic_path(path, overwrite=overwrite, hint=hint) as part, _output_errors(path, hint):
        if isinstance(data, bytes):
            part.write_bytes(data)
        else:
            data(part)


@contextmanager
def atomic_path(path: Path, *, overwrite: bool = False, hint: str | None = None) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` at the end.

    After an exception the temporary file is removed, and `path` is unchanged.
    Raises OutputExists if `path` exists by then, OutputError.
    """
    part = part_of(path, secrets.token_hex(8))
    with _output_errors(path, hint):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        with _output_errors(path, hint):
            put_in_place(part, path, overwrite=overwrite)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _output_errors(path: Path, hint: str | None) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise OutputError(f"{path}: no permission to write to {path.parent}", hint=hint) from error
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written: {error.strerror or error}", hint=hint
        ) from error


def part_of(path: Path, tag: str) -> Path:
    """Return a temporary name in the folder of `path`, hidden and with a prefix of its own."""
    return path.with_name(f".restore-{tag}.part")


def put_in_place(part: Path, path: Path, *, overwrite: bool) -> None:
    """Flush a complete file to disk and rename it. Raises OutputExists, OSError."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    if overwrite:
        part.replace(path)
        return
    try:
        os.link(part, path)  # unlike a rename, a link never replaces a file
        part.unlink()
    except OSError as error:  # the target exists, or the file system has no links
        if os.path.lexists(path):
            raise OutputExists(
                f"already exists: {path}", hint="add --overwrite or --skip-existing"
            ) from error
        part.rename(path)
