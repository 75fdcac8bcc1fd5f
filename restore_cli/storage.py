"""Objects of stores behind URLs, through fsspec: S3, Google Cloud Storage, Azure, web servers.

Apart from `downloads` the only module that uses the network. Credentials come from the chain of
each library and from the configuration of fsspec, and are never part of a message.
"""

from __future__ import annotations

import os
import re
import sqlite3
import weakref
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote

from restore_cli.assets import environment
from restore_cli.errors import (
    HIDDEN,
    FetchError,
    ImageTooLarge,
    InputError,
    MissingExtra,
    OutputError,
    OutputExists,
    RestoreError,
    UsageError,
)

WEB = ("http", "https")
PACKAGES = {  # that fsspec needs for the schemes
    "s3": "s3fs",
    "gs": "gcsfs",
    "az": "adlfs",
    **dict.fromkeys(WEB, "aiohttp"),
    "memory": "fsspec",
}
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # of two letters or more: C:/ is a path
FLATTENED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[/\\]")  # a URL that was read as a path
LOGIN = re.compile(r"(?!arn:)[^/]*[:@]")  # where buckets have their name
BROKEN = re.compile(r"[^/\[]*:(?!\d*(/|$))")  # no port, perhaps a password with a slash
NOT_FOUND = 404
TIMEOUT = 30.0  # seconds without data from a web server; of stores their libraries decide
CONNECTIONS = 4  # transfers of one large object at a time, each of 50 MB
STAMPS = ("LastModified", "last_modified", "mtime", "updated", "created", "Last-Modified", "ETag")
CREDENTIALS = "credentials come from the environment: docs/scale.md, Storage"


@dataclass(frozen=True, repr=False)
class Url:
    """An object or a folder of a store. As text it hides passwords and signatures."""

    address: str

    def __str__(self) -> str:
        user, place, query = self._parts()
        if not self.is_web:
            place = re.sub(r"\?.*=.*", f"?{HIDDEN}", place)
        shown = f"{HIDDEN}@{place}" if user else place
        return f"{self.scheme}://{shown}{f'?{HIDDEN}' if query else ''}"

    def __repr__(self) -> str:
        return f"Url({self})"

    def __truediv__(self, child: str) -> Url:
        return Url(f"{self.address.rstrip('/')}/{child}") if child else self

    @property
    def scheme(self) -> str:
        return self.address.partition("://")[0]

    @property
    def is_web(self) -> bool:
        return self.scheme in WEB

    def _parts(self) -> tuple[str, str, str]:
        """Split what follows the scheme into user, host with path, and query."""
        rest = self.address.partition("://")[2]
        if not self.is_web:
            return "", rest, ""
        user = rest[: rest.partition("/")[0].rfind("@") + 1]
        place = re.split("[?#]", rest[len(user) :])[0]
        return user, place, rest[len(user) + len(place) :]

    @property
    def name(self) -> str:
        """Last part of the path; empty for a bucket."""
        path = self._parts()[1].partition("/")[2]
        if self.is_web:
            path = unquote(path).replace("\0", "")
        return path.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> Url:
        user, place, _ = self._parts()
        return Url(f"{self.scheme}://{user}{place.rpartition('/')[0]}")

    def with_name(self, name: str) -> Url:
        return self.parent / name

    def below(self, folder: Url) -> str:
        """Return the path below a folder; of a file of a web server its name."""
        return self.name if self.is_web else self.address[len(folder.address) :].lstrip("/")

    def is_below(self, folder: Url) -> bool:
        return self.address.rstrip("/").startswith(folder.address.rstrip("/") + "/")


Location = Path | Url


class Entry(NamedTuple):
    """An object that a store lists."""

    url: Url
    size: int
    modified: int  # ns; where the store tells no time, another sign of changed contents


def is_url(text: str) -> bool:
    return URL.match(text) is not None


def location(text: str) -> Location:
    """Return the URL or the path that a text stands for. Raises UsageError."""
    match = URL.match(text)
    if match is None:
        return Path(text)
    url = Url(match[1].lower() + text[len(match[1]) :])
    if url.scheme not in PACKAGES:
        schemes = " ".join(f"{scheme}://" for scheme in PACKAGES if scheme != "memory")
        raise UsageError(f"{match[0]} is not a known kind of storage", hint=f"known: {schemes}")
    if not url.is_web and LOGIN.match(text[match.end() :]):
        raise UsageError(
            f"{match[0]} does not accept a user or password in a URL", hint=CREDENTIALS
        )
    user, place, _ = url._parts()
    if url.is_web and (BROKEN.match(place) or re.search("[?#]", user)):
        raise UsageError(f"{match[0]}: no valid host and port", hint="write / as %2F, ? as %3F")
    return url


def refuse_url(path: Path, option: str) -> None:
    """Refuse a URL where a local path is needed. Raises UsageError."""
    if FLATTENED.match(str(path)):
        raise UsageError(f"{option} takes a local path", hint="copy it to the store afterwards")


def find(url: Url) -> Entry | None:
    """Return the object of a URL; None if there is none, or a folder.

    Raises InputError, FetchError, MissingExtra.
    """
    with _failures(url, InputError):
        try:
            info = _system(url).info(url.address)
        except FileNotFoundError as error:  # of a web server, whatever failed
            failure = error.__cause__ if url.is_web else None
        else:
            return _entry(url, info) if info["type"] == "file" else None
        if failure is None or getattr(failure, "status", None) == NOT_FOUND:
            return None
        raise failure


def entries(folder: Url, *, recursive: bool = False) -> Iterator[Entry]:
    """Yield the visible objects of a folder in the order of the store, page by page.

    As in local folders, names are hidden if one of their parts begins with a dot.
    Raises InputError, FetchError, MissingExtra.
    """
    with _failures(folder, InputError):
        for inside, info in _listed(folder, recursive):
            is_visible = not any(part.startswith(".") for part in inside.split("/"))
            if is_visible and inside and not inside.endswith("/"):  # a marker of a folder
                yield _entry(folder / inside, info)


def matching(pattern: Url) -> tuple[Url, Iterator[Entry]]:
    """Return the folder before the first part with a wildcard, and the objects that match a glob.

    Objects and errors as of `entries`.
    """
    from fsspec.utils import glob_translate

    fixed = re.split(r"[*?\[]", pattern.address, maxsplit=1)[0]
    folder = Url(fixed.rpartition("/")[0])
    inside = pattern.below(folder)
    match = re.compile(glob_translate(inside)).match
    listed = entries(folder, recursive="/" in inside)
    return folder, (entry for entry in listed if match(entry.url.below(folder)))


class Objects:
    """Objects that exist in the folders that it is asked about; each folder is listed once.

    Names are in a temporary database, since a folder may hold millions.
    """

    def __init__(self) -> None:
        self._folders: set[str] = set()
        self._names: sqlite3.Connection | None = None

    def __contains__(self, url: Url) -> bool:
        """Return whether an object exists. Raises OutputError, FetchError, MissingExtra."""
        if self._names is None:
            self._names = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            weakref.finalize(self, self._names.close)
            self._names.execute("CREATE TABLE names (address TEXT PRIMARY KEY) WITHOUT ROWID")
        folder = url.parent
        if folder.address not in self._folders:
            self._folders.add(folder.address)
            with _failures(folder, OutputError):
                listed = ((f"{folder.address}/{inside}",) for inside, _ in _listed(folder, False))
                self._names.execute("BEGIN")
                self._names.executemany("INSERT OR IGNORE INTO names VALUES (?)", listed)
                self._names.execute("COMMIT")
        found = self._names.execute("SELECT 1 FROM names WHERE address = ?", (url.address,))
        return found.fetchone() is not None


def download(url: Url, target: Path, *, limit: int | None = None) -> None:
    """Copy an object into a file. Raises InputError, ImageTooLarge, FetchError, MissingExtra.

    limit: bytes, beyond which no image is copied.
    """

    def refuse(size: int | None, value: int, **_: object) -> None:
        if limit is not None and max(size or 0, value) > limit:
            raise ImageTooLarge(
                f"{url}: more than {limit:,} bytes", hint="split the image into parts"
            )

    with _failures(url, InputError):
        from fsspec.callbacks import Callback

        callback = Callback(hooks={"size": refuse})
        _system(url).get_file(url.address, str(target), callback=callback)


def upload(source: Path, url: Url, *, overwrite: bool) -> None:
    """Copy a complete file into an object, which appears whole or not at all.

    Raises OutputExists where the store can tell, OutputError, FetchError, MissingExtra.
    """
    with _failures(url, OutputError):
        mode = "overwrite" if overwrite else "create"
        _system(url).put_file(str(source), url.address, mode=mode)


def _system(url: Url) -> Any:
    if environment().offline and url.scheme != "memory":
        raise FetchError(f"{url}: the network is disabled", hint="unset RESTORE_OFFLINE")
    return _system_of(url.scheme, os.getpid())


@lru_cache
def _system_of(scheme: str, process: int) -> Any:
    """Return the file system of fsspec for a scheme, one for all threads of a process."""
    import fsspec

    options: dict[str, Any] = {}
    if scheme == "s3":
        options = {"max_concurrency": CONNECTIONS}
    elif scheme in WEB:
        from aiohttp import ClientTimeout

        limit = ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)
        options = {"client_kwargs": {"timeout": limit, "trust_env": True}}
    return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True, **options)


def _listed(folder: Url, recursive: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the path below a folder and the facts of each object.

    S3 is listed by pages of 1000 objects, others by folders: fsspec has no pages.
    """
    system = _system(folder)
    if folder.scheme == "s3":
        bucket, key, _ = system.split_path(folder.address)
        prefix = key.rstrip("/") + "/" if key else ""
        options = {} if recursive else {"Delimiter": "/"}
        while True:
            page = system.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **options)
            for item in page.get("Contents", ()):
                yield item["Key"][len(prefix) :], {**item, "size": item["Size"]}
            if not page.get("IsTruncated"):
                return
            options["ContinuationToken"] = page["NextContinuationToken"]
    root = system._strip_protocol(folder.address)
    depth = None if recursive else 1
    try:
        for _, _, files in system.walk(root, maxdepth=depth, detail=True, on_error="raise"):
            for info in files.values():
                yield info["name"][len(root) :].lstrip("/"), info
    except FileNotFoundError:
        return


def _entry(url: Url, info: Mapping[str, Any]) -> Entry:
    stamp = next((info[name] for name in STAMPS if info.get(name)), "")
    if isinstance(stamp, datetime):
        modified = round(stamp.timestamp() * 1e9)
    else:
        modified = zlib.crc32(str(stamp).encode())
    return Entry(url, info["size"] or 0, modified)


@contextmanager
def _failures(url: Url, kind: type[RestoreError]) -> Iterator[None]:
    """Turn the failures of a store into one line about the masked URL."""
    try:
        yield
    except RestoreError:
        raise
    except ImportError as error:
        raise MissingExtra(
            f"{url.scheme}:// needs the package {PACKAGES[url.scheme]}",
            hint="pip install 'restore-cli[storage]'",
        ) from error
    except FileNotFoundError as error:
        raise kind(f"{url}: no such object or bucket", hint="check the name") from error
    except FileExistsError as error:
        raise OutputExists(
            f"already exists: {url}", hint="add --overwrite or --skip-existing"
        ) from error
    except Exception as error:  # each library raises exceptions of its own
        names = " ".join(each.__name__ for each in type(error).__mro__)
        status = getattr(error, "status", None)
        if "Connect" in names or "Timeout" in names:
            raise FetchError(f"{url}: cannot be reached ({_reason(error)})") from error
        if isinstance(error, PermissionError) or "Credentials" in names or status in (401, 403):
            raise kind(f"{url}: access denied ({_reason(error)})", hint=CREDENTIALS) from error
        raise kind(f"{url}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return the first line of a message, without URLs, which may be signed."""
    if status := getattr(error, "status", None):
        return f"the server responds {status}"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = re.sub(r"\S*://\S*", "...", reason).strip().partition("\n")[0]
    kept = "".join(letter if letter.isprintable() else " " for letter in line[:200])
    return kept or type(error).__name__
