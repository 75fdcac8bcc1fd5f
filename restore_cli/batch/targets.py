"""Checks of places for outputs: permission, room, length of names, what exists there."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from restore_cli.batch.jobs import Standard
from restore_cli.errors import OutputError
from restore_cli.files import free_space
from restore_cli.storage import Location, Url, find

ELSEWHERE = "choose another output with -o"


def is_taken(target: Location | Standard) -> bool:
    """Return whether a target exists, if only as a broken link."""
    if isinstance(target, Url):
        return find(target) is not None
    return isinstance(target, Path) and os.path.lexists(target)


def identity_of(target: Path) -> str | None:
    """Return device and inode of a file, the same through any link.

    Empty for a broken link, None where there is nothing. Raises OutputError for a folder.
    """
    try:
        status = os.lstat(target)
    except (OSError, ValueError):
        return None
    if stat.S_ISLNK(status.st_mode):
        try:
            status = os.stat(target)
        except OSError:
            return ""
    if stat.S_ISDIR(status.st_mode):
        raise OutputError(f"{target} is a folder", hint=ELSEWHERE)
    return f"{status.st_dev}:{status.st_ino}"


def name_everywhere(path: Path) -> str:
    """Return a key equal for names that some file system takes for one: by case or accents."""
    return same_everywhere(os.path.realpath(path))


def same_everywhere(path: str) -> str:
    """Return the key of a real path."""
    return unicodedata.normalize("NFC", path).casefold()


def refuse_unwritable(targets: Sequence[Path]) -> None:
    """Refuse targets in folders that cannot be written. Raises OutputError."""
    refuse_unwritable_folders({target.parent for target in targets})


def refuse_unwritable_folders(folders: Iterable[Path]) -> None:
    """Refuse folders that cannot be written or made. Raises OutputError."""
    for folder in folders:
        nearest = nearest_existing(folder)
        if not os.path.isdir(nearest):
            raise OutputError(f"{nearest} is not a folder", hint=ELSEWHERE)
        if not os.access(nearest, os.W_OK):
            raise OutputError(f"{nearest}: no write permission", hint=ELSEWHERE)


def refuse_long_name(target: Path) -> None:
    """Refuse a path that is longer than its file system allows. Raises OutputError."""
    whole = os.fsencode(os.path.abspath(target))
    names = os.fsencode(target).split(os.fsencode(os.sep))
    lengths = {"NAME": max(map(len, names)), "PATH": len(whole)}
    for kind, limit in _limits(os.path.dirname(whole)).items():
        if 0 < limit < lengths[kind]:
            raise OutputError(
                f"{target}: the {kind.lower()} of the output is too long; the limit is "
                f"{limit} bytes",
                hint="choose a shorter one with -o, for example -o 'out/{hash}{ext}'",
            )


@lru_cache(maxsize=1000)
def _limits(folder: bytes) -> Mapping[str, int]:
    """Return the most bytes of a name and of a path in a folder, where they are known."""
    if not hasattr(os, "pathconf"):
        return {}
    nearest = nearest_existing(Path(os.fsdecode(folder)))
    return {kind: os.pathconf(nearest, f"PC_{kind}_MAX") for kind in ("NAME", "PATH")}


def refuse_full_disk(needs: Mapping[Path, int]) -> None:
    """Refuse results for which a disk has no room. Raises OutputError.

    needs: at least so many bytes go into each folder.
    """
    by_disk: Counter[int] = Counter()
    for folder, least in needs.items():
        nearest = nearest_existing(folder)
        disk = nearest.stat().st_dev
        by_disk[disk] += least
        free = free_space(nearest)
        if free is not None and by_disk[disk] > free:
            raise OutputError(
                f"{folder}: {free:,} bytes are free, but the results need at least "
                f"{by_disk[disk]:,}",
                hint=f"make room, or {ELSEWHERE}",
            )


def nearest_existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists; a broken link counts."""
    return next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
