"""A URL and a checksum -> a verified file. The only module that opens a socket."""

from __future__ import annotations

import time
from collections.abc import Callable
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from restore_cli.assets import environment
from restore_cli.errors import FetchError, WeightsCorrupt
from restore_cli.files import part_of, put_in_place, sha256_of

OnProgress = Callable[[int, int | None], None]  # bytes so far, and in all if the server says

CHUNK = 1 << 16
LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")
PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers of a server that may do better soon
PARTIAL = 206
RANGE_BEHIND_END = 416


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

    A download that was interrupted goes on where it stopped, in this call or in a later one.
    offline: as RESTORE_OFFLINE. timeout: seconds of silence. pause: seconds before the second
    attempt, doubled before each further one.
    Raises FetchError (offline, unreachable, refused, disk full), WeightsCorrupt (other contents).
    """
    if target.is_file() and sha256_of(target) == sha256:
        return target
    refuse_unsafe(url)
    by_hand = f"get {url} elsewhere and put it at {target}"
    if offline or environment().offline:
        raise FetchError(f"{target.name} is not here and the network is off", hint=by_hand)
    part = part_of(target, f"{target.name}.{sha256[:8]}")  # not that of another version
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _complete(part, url, sha256, on_progress, timeout, attempts, pause)
        put_in_place(part, target, overwrite=True)
    except _Failed as error:
        raise FetchError(f"{url}: {error}", hint=by_hand) from error
    except OSError as error:
        raise FetchError(
            f"{target}: cannot be written: {error.strerror}",
            hint="make room, or set RESTORE_CACHE to another folder",
        ) from error
    return target


def refuse_unsafe(url: str) -> None:
    """Raises FetchError for anything but https, local files and this machine."""
    parts = urlsplit(url)
    if parts.scheme in ("https", "file"):
        return
    if parts.scheme == "http" and parts.hostname in LOCAL_HOSTS:
        return
    raise FetchError(f"{url}: not fetched from there", hint="only https: and file: are")


class _Failed(Exception):
    """The server cannot be reached or does not give; the text says why."""


class _Interrupted(_Failed):
    """The same, where another attempt may do better."""


def _complete(
    part: Path,
    url: str,
    sha256: str,
    on_progress: OnProgress | None,
    timeout: float,
    attempts: int,
    pause: float,
) -> None:
    """Bring `part` to the wanted contents, or delete it if the URL holds something else."""
    failure: Exception = _Failed("no attempt was made")
    for attempt in range(attempts):
        if attempt > 0:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            begun_at = _append(part, url, on_progress, timeout)
        except _Interrupted as error:
            failure = error
            continue
        found = sha256_of(part)
        if found == sha256:
            return
        part.unlink()
        failure = WeightsCorrupt(
            f"{url}: sha256 {found[:12]} differs from {sha256[:12]}, nothing was kept",
            hint="the file was replaced at its source: look for a newer version of restore",
        )
        if begun_at == 0:  # else its beginning was old: once more from there
            break
    raise failure


def _append(part: Path, url: str, on_progress: OnProgress | None, timeout: float) -> int:
    """Download what `part` lacks; the byte it went on from, 0 if the server sent all of it.

    There is no If-Range: whether old and new bytes belong together, the checksum tells.
    """
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "restore-cli"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = _open(Request(url, headers=headers), timeout)
    except HTTPError as error:
        error.close()
        if error.code == RANGE_BEHIND_END and have:
            return have
        kind = _Interrupted if error.code in PASSING else _Failed
        raise kind(f"the server answers {error.code} {error.reason}") from error
    with response:
        begun_at = have if response.status == PARTIAL else 0
        with part.open("ab" if begun_at else "wb") as file:
            _copy(response, file, begun_at, on_progress)
    return begun_at


def _open(request: Request, timeout: float) -> Any:  # HTTPResponse, or addinfourl for file:
    try:
        return build_opener(_SafeRedirects).open(request, timeout=timeout)
    except HTTPError:
        raise
    except URLError as error:
        passing = isinstance(error.reason, TimeoutError | ConnectionResetError)
        kind = _Interrupted if passing else _Failed
        raise kind(f"cannot be reached: {error.reason}") from error
    except (HTTPException, OSError) as error:
        raise _Interrupted(f"no answer: {error}") from error


def _copy(response: Any, file: IO[bytes], done: int, on_progress: OnProgress | None) -> None:
    length = response.headers.get("Content-Length")
    total = None if length is None else done + int(length)
    while chunk := _read(response):
        file.write(chunk)
        done += len(chunk)
        if on_progress is not None:
            on_progress(done, total)
    if total is not None and done < total:
        raise _Interrupted(f"the connection broke after {done} of {total} bytes")


def _read(response: Any) -> bytes:
    try:
        chunk: bytes = response.read(CHUNK)
    except (HTTPException, OSError) as error:
        raise _Interrupted(f"the connection broke: {error}") from error
    return chunk


class _SafeRedirects(HTTPRedirectHandler):
    """A redirect must not lead to where a URL may not point in the first place."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        try:
            refuse_unsafe(newurl)
        except FetchError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)
