"""Atomic writing, checksums and temporary copies of files, also of those behind URLs.

No other module renames files or computes SHA-256.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from restore_cli.errors import OutputError, OutputExists
from restore_cli.storage import Location, Url, download, upload

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed anyway
    fcntl = None  # type: ignore[assignment]

CHUNK = 1 << 20  # bytes per read of a checksum
PART = re.compile(r"\.restore-\d+-[0-9a-f]{16}\.part(\.\w+)?")  # names of `_new_part`

_parts: set[Path] = set()  # temporary files of this process


def sha256_of(source: Location | bytes) -> str:
    """Return the SHA-256 of a file of any size, or of bytes, in hexadecimal digits.

    Raises OSError, and what `local_copy` raises.
    """
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    digest = hashlib.sha256()
    with local_copy(source) as path, path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def local_copy(source: Location, *, limit: int | None = None) -> Iterator[Path]:
    """Yield a file itself, or a temporary copy of an object of a store.

    limit: bytes, beyond which no image is copied. Raises as `storage.download`, and OSError.
    """
    if isinstance(source, Path):
        yield source
        return
    with _temporary_path(scratch_folder(source), source.suffix) as part:
        download(source, part, limit=limit)
        yield part


def scratch_folder(target: Location) -> Path:
    """Return the folder of the temporary files for a target: its own, where it is a file."""
    return target.parent if isinstance(target, Path) else Path(tempfile.gettempdir())


def write_atomically(
    path: Location,
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
def atomic_path(
    path: Location, *, overwrite: bool = False, hint: str | None = None
) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` at the end.

    That of a URL is in the folder for temporary files, and is uploaded at the end. After an
    exception the temporary file is removed, and `path` is unchanged. Those that killed processes
    have left in the folder are removed.
    Raises OutputExists if `path` exists by then, OutputError, and as `storage.upload`.
    """
    with ExitStack() as stack:
        with _output_errors(path, hint):
            folder = scratch_folder(path)
            folder.mkdir(parents=True, exist_ok=True)
            suffix = path.suffix if isinstance(path, Url) else ""  # stores guess the type by it
            part = stack.enter_context(_temporary_path(folder, suffix))
        yield part
        if isinstance(path, Url):
            upload(part, path, overwrite=overwrite)
            return
        with _output_errors(path, hint):
            put_in_place(part, path, overwrite=overwrite)


@contextmanager
def _temporary_path(folder: Path, suffix: str) -> Iterator[Path]:
    """Yield a file that is removed at the end; after a kill, by another process."""
    sweep(os.path.realpath(folder))
    part, lock = _new_part(folder, suffix)
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)
        _parts.discard(part)
        os.close(lock)


def _new_part(folder: Path, suffix: str) -> tuple[Path, int]:
    """Create a temporary file that is locked for as long as its descriptor is open."""
    while True:
        part = folder / f".restore-{os.getpid()}-{secrets.token_hex(8)}.part{suffix}"
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
def sweep(folder: str) -> None:
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
def _output_errors(path: Location, hint: str | None) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        folder = scratch_folder(path)
        raise OutputError(f"{path}: no permission to write to {folder}", hint=hint) from error
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
