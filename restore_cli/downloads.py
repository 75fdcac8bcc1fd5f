"""Downloads: by URL and checksum, or from the Hugging Face Hub. The one module with sockets.

A URL is not fetched by the library of the hub: it follows redirects out of https, and does not
end a body that is longer than the file.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from restore_cli.assets import environment
from restore_cli.errors import FetchError, UsageError, WeightsCorrupt
from restore_cli.files import part_of, put_in_place, sha256_of

OnProgress = Callable[[int, int | None], None]  # bytes so far, and in total if known

CHUNK = 1 << 16
LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)  # status codes worth another attempt
PARTIAL = 206
RANGE_BEYOND_END = 416
HUB = "hf://"
ON_HUB = re.compile(HUB + r"([\w.-]+/[\w.-]+)(?:@([\w.-]+))?/([\w./ +-]+)")
DIGITS = re.compile(r"[0-9]{1,18}")


def fetch(
    url: str,
    sha256: str,
    target: Path,
    *,
    size: int | None = None,
    offline: bool = False,
    on_progress: OnProgress | None = None,
    timeout: float = 30.0,
    attempts: int = 4,
    pause: float = 1.0,
) -> Path:
    """Download a file unless `target` has this checksum already; return `target`.

    An interrupted download is resumed, in this call or in a later one.
    size: bytes of the file, beyond which no download goes on; None: unknown.
    offline: as RESTORE_OFFLINE. timeout: seconds without data. pause: seconds before the second
    attempt, doubled before each further one.
    Raises FetchError (offline, unreachable, refused, disk full), WeightsCorrupt (other contents).
    """
    if os.path.isfile(target) and sha256_of(target) == sha256:
        return target
    refuse_unsafe(url)
    by_hand = f"download {url} on another machine and copy it to {target}"
    if offline or environment().offline:
        raise FetchError(
            f"{target.name} is not on this machine, and the network is disabled", hint=by_hand
        )
    part = part_of(target, f"{target.name}.{sha256[:8]}")  # not that of another version
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _complete(part, url, sha256, size, on_progress, timeout, attempts, pause)
        put_in_place(part, target, overwrite=True)
    except _Failed as error:
        raise FetchError(f"{url}: {error}", hint=by_hand) from error
    except OSError as error:
        raise FetchError(
            f"{target}: cannot be written: {error.strerror}",
            hint="make room, or set RESTORE_CACHE to another folder",
        ) from error
    return target


def fetch_from_hub(
    address: str, *, offline: bool = False, on_progress: OnProgress | None = None
) -> Path:
    """Return the path of hf://OWNER/REPO[@REVISION]/FILE in the cache of huggingface_hub.

    The library resumes, verifies and caches, and finds the user's token; HF_HOME is its folder.
    offline: as RESTORE_OFFLINE. Raises UsageError, FetchError.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (  # HTTPError is that of its HTTP library
        HFValidationError,
        LocalEntryNotFoundError,
    )
    from huggingface_hub.errors import (
        HTTPError as HubHTTPError,
    )
    from huggingface_hub.utils import logging, tqdm

    class Progress(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})
            self.done, self.size = kwargs.get("initial", 0), kwargs.get("total")

        def update(self, n: float | None = 1) -> None:
            self.done += n or 0
            if on_progress is not None:
                on_progress(self.done, self.size)

    match = ON_HUB.fullmatch(address)
    if match is None:
        raise UsageError(
            f"{address}: not a file on the Hugging Face Hub", hint=f"write {HUB}OWNER/REPO/FILE"
        )
    repo, revision, file = match.groups()
    offline = offline or environment().offline
    logging.set_verbosity_error()
    try:
        path = hf_hub_download(
            repo, file, revision=revision, local_files_only=offline, tqdm_class=Progress
        )
    except LocalEntryNotFoundError as error:
        why = "the network is disabled" if offline else "the hub cannot be reached"
        raise FetchError(
            f"{address} is not on this machine, and {why}",
            hint="download it on another machine, and: restore weights import FILE",
        ) from error
    except (HFValidationError, HubHTTPError, OSError) as error:
        raise FetchError(f"{address}: {str(error).splitlines()[0]}") from error
    return Path(path)


def refuse_unsafe(url: str) -> None:
    """Allow https, file and the local machine only. Raises FetchError."""
    with suppress(ValueError):  # no address at all
        parts = urlsplit(url)
        if parts.scheme in ("https", "file"):
            return
        if parts.scheme == "http" and parts.hostname in LOCAL_HOSTS:
            return
    raise FetchError(f"{url}: downloads from there are refused", hint="use https: or file:")


class _Failed(Exception):
    """The server cannot be reached or refuses; the text states the reason."""


class _Interrupted(_Failed):
    """A failure that another attempt may overcome."""


def _complete(
    part: Path,
    url: str,
    sha256: str,
    size: int | None,
    on_progress: OnProgress | None,
    timeout: float,
    attempts: int,
    pause: float,
) -> None:
    """Download `part` until its checksum is right; delete it if the URL has other contents."""
    failure: Exception = _Failed("no attempt was made")
    for attempt in range(attempts):
        if attempt > 0:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            begun_at = _append(part, url, size, on_progress, timeout)
        except _Interrupted as error:
            failure = error
            continue
        found = sha256_of(part)
        if found == sha256:
            return
        part.unlink()
        failure = WeightsCorrupt(
            f"{url}: sha256 {found[:12]} differs from {sha256[:12]}; the download was deleted",
            hint="the file has changed at its source: look for a newer version of restore",
        )
        if begun_at == 0:  # else its old beginning was wrong: start again
            break
    raise failure


def _append(
    part: Path, url: str, size: int | None, on_progress: OnProgress | None, timeout: float
) -> int:
    """Download the rest of `part`; return its offset, 0 if the server sent the whole file.

    If-Range is not needed: the checksum shows if old and new bytes belong together.
    """
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "restore-cli"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = _open(Request(url, headers=headers), timeout)
    except HTTPError as error:
        error.close()
        if error.code == RANGE_BEYOND_END and have:
            return have
        kind = _Interrupted if error.code in TRANSIENT else _Failed
        raise kind(f"the server responds {error.code} {error.reason!r:.80}") from error
    with response:
        begun_at = have if response.status == PARTIAL else 0
        with part.open("ab" if begun_at else "wb") as file:
            _copy(response, file, begun_at, size, on_progress)
    return begun_at


def _open(request: Request, timeout: float) -> Any:  # HTTPResponse, or addinfourl for file:
    try:
        return build_opener(_SafeRedirects).open(request, timeout=timeout)
    except HTTPError:
        raise
    except URLError as error:
        transient = isinstance(error.reason, TimeoutError | ConnectionResetError)
        kind = _Interrupted if transient else _Failed
        raise kind(f"cannot be reached: {error.reason}") from error
    except (HTTPException, OSError) as error:
        raise _Interrupted(f"no response: {error}") from error
    except ValueError as error:
        raise _Failed(f"a redirect to no address: {error}") from error


def _copy(
    response: Any, file: IO[bytes], done: int, size: int | None, on_progress: OnProgress | None
) -> None:
    length = response.headers.get("Content-Length", "")
    total = done + int(length) if DIGITS.fullmatch(length) else None
    while chunk := _read(response):
        file.write(chunk)
        done += len(chunk)
        if on_progress is not None:
            on_progress(done, size or total)
        if size is not None and done > size:
            return  # other contents, perhaps without an end: the checksum tells
    if total is not None and done < total:
        raise _Interrupted(f"the connection broke after {done} of {total} bytes")


def _read(response: Any) -> bytes:
    try:
        chunk: bytes = response.read(CHUNK)
    except (HTTPException, OSError) as error:
        raise _Interrupted(f"the connection broke: {error}") from error
    return chunk


class _SafeRedirects(HTTPRedirectHandler):
    """Follow redirects only to https, and on this machine."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        try:
            refuse_unsafe(newurl)
            if urlsplit(newurl).scheme not in ("https", urlsplit(req.full_url).scheme):
                raise FetchError(f"{req.full_url}: a redirect to {newurl} is refused")
        except FetchError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)
