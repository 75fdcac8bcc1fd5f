"""Atomic writing and checksums of files; no other module renames files or computes SHA-256."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from restore_cli.errors import OutputError, OutputExists

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed anyway
    fcntl = None  # type: ignore[assignment]

CHUNK = 1 << 20  # bytes per read of a checksum
PART = re.compile(r"\.restore-\d+-[0-9a-f]{16}\.part")  # names of `_new_part`

_parts: set[Path] = set()  # temporary files of this process


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

    After an exception the temporary file is removed, and `path` is unchanged. Those that killed
    processes have left in the folder are removed.
    Raises OutputExists if `path` exists by then, OutputError.
    """
    with _output_errors(path, hint):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(os.path.realpath(path.parent))
        part, lock = _new_part(path)
    try:
        yield part
        with _output_errors(path, hint):
            put_in_place(part, path, overwrite=overwrite)
    finally:
        part.unlink(missing_ok=True)
        _parts.discard(part)
        os.close(lock)


def _new_part(path: Path) -> tuple[Path, int]:
    """Create a temporary file that is locked for as long as its descriptor is open."""
    while True:
        part = part_of(path, f"{os.getpid()}-{secrets.token_hex(8)}")
        _parts.add(part)
        lock = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        # Until it is locked, another process may take it for one that was left, and remove it.
        if _lock(lock) is not False and part.exists():
            return part, lock
        os.close(lock)
        _parts.discard(part)


def _lock(file: int) -> bool | None:
    """Lock a file; return False if another holds the lock, None if there are no locks here."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@cache
def _sweep(folder: str) -> None:
    """Remove the temporary files of processes that no longer run; once for each folder.

    A running process holds a lock on each of its own, on whatever machine it runs.
    """
    with suppress(OSError):  # no permission: writing will tell
        for name in filter(PART.fullmatch, os.listdir(folder)):
            with suppress(OSError):  # removed by another process meanwhile
                file = os.open(os.path.join(folder, name), os.O_RDWR)
                try:
                    if _lock(file):
                        os.unlink(os.path.join(folder, name))
                finally:
                    os.close(file)


def remove_open_parts() -> None:
    """Remove all temporary files of this process, which ends without any other cleanup."""
    for part in list(_parts):
        with suppress(OSError):
            part.unlink()


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
    _rename(part, path, overwrite=overwrite)
    with suppress(OSError):  # folders cannot be opened or flushed everywhere
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _rename(part: Path, path: Path, *, overwrite: bool) -> None:
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


def free_space(folder: Path) -> int | None:
    """Return the free bytes of the disk of a folder; None if the file system does not tell."""
    usage = shutil.disk_usage(folder)
    return usage.free if usage.total else None
