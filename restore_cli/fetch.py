"""A URL and a checksum -> a verified file. The only module that opens a socket."""

from __future__ import annotations

import hashlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from restore_cli.errors import FetchError, WeightsCorrupt

OnProgress = Callable[[int, int | None], None]  # bytes so far, bytes in all if known

CHUNK = 1 << 20
LOCAL = ("127.0.0.1", "::1", "localhost")
PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers of a server that may do better later
AT_THE_END = 416  # what a server says of a range that starts where the file ends


def fetch(
    url: str,
    sha256: str,
    target: Path,
    *,
    offline: bool = False,
    on_progress: OnProgress | None = None,
    timeout: float = 30.0,
    attempts: int = 4,
    pause: float = 1.0,
) -> Path:
    """`target`, holding the file with this checksum; downloaded unless it is there already.

    What an interrupted download left goes on where it stopped, in this call or the next.
    timeout: seconds without an answer. pause: seconds before the second attempt, then doubled.
    Raises FetchError (offline, unreachable, refused), WeightsCorrupt (another file came).
    """
    if target.is_file() and sha256_of(target) == sha256:
        return target
    _refuse_unsafe(url)
    if offline:
        raise FetchError(f"{target.name} is not here and the network is off", hint=_by_hand(url, target))
    part = target.with_name(f"{target.name}.{sha256[:8]}.part")  # never one of another version
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(url, sha256, part, on_progress, timeout, attempts, pause)
        part.replace(target)
    except _Unreachable as error:
        raise FetchError(f"{url}: {error}", hint=_by_hand(url, target)) from error
    except OSError as error:
        raise FetchError(
            f"{part}: cannot be written: {error.strerror}",
            hint="make room, or choose another folder by RESTORE_CACHE",
        ) from error
    return target


def sha256_of(path: Path) -> str:
    """The checksum of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class _Unreachable(Exception):
    """The server could not be asked or did not give; the text says why."""


class _Interrupted(_Unreachable):
    """... and trying again may help."""
