"""Sources of a plan: files, folders, globs, URLs and stdin."""

from __future__ import annotations

import glob
import os
import re
import stat
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from restore_cli.batch.jobs import Standard, Unreadable
from restore_cli.errors import FetchError, InputError, NothingToDo, UnreadableImage
from restore_cli.imaging.formats import READABLE_SUFFIXES, VIDEO_SUFFIXES
from restore_cli.storage import Entry, Location, Url, entries, find, is_url, location, matching


@dataclass(frozen=True)
class Source:
    """A source, and the folder whose tree is mirrored in the output folder."""

    location: Location | Standard
    root: Location
    status: os.stat_result | Entry | None = None

    @property
    def path(self) -> Location:
        """Path for naming: stdin counts as a file of that name."""
        if isinstance(self.location, Standard):
            return self.root / self.location.value
        return self.location

    @property
    def relative(self) -> str:
        """Path below the root."""
        if isinstance(self.location, Url) and isinstance(self.root, Url):
            return self.location.below(self.root)
        text, root = str(self.path), str(self.root)
        return text if root == "." else text[len(root) :].lstrip(os.sep)

    @cached_property
    def is_video(self) -> bool:
        return is_video(self.path.name)


@dataclass(frozen=True)
class PassedOver:
    """A file of a folder or a glob that is no image or video by its name."""

    suffix: str


Item = Source | Unreadable | PassedOver


@dataclass(frozen=True)
class OwnOutputs:
    """Outputs of earlier runs, which are no sources of the next one.

    folder: of the outputs; None: beside the sources.
    names: pattern of the names of outputs that lie beside sources.
    """

    folder: Location | None = None
    names: re.Pattern[str] | None = None

    def include(self, name: str) -> bool:
        """Return whether a file beside the sources has the name of an output."""
        return self.names is not None and self.names.fullmatch(name) is not None


@dataclass(frozen=True)
class Shard:
    """One of several parts of the sources, the same on every machine."""

    number: int  # from 1
    count: int

    def takes(self, name: str) -> bool:
        """Return whether an item of this name belongs to the part."""
        normal = unicodedata.normalize("NFC", name.replace(os.sep, "/"))
        return zlib.crc32(os.fsencode(normal)) % self.count == self.number - 1


def describe_passed_over(counts: Mapping[str, int]) -> str:
    """Return the message about files of folders and globs that are no image or video."""
    total = sum(counts.values())
    kinds = ", ".join(
        suffix if len(counts) == 1 else f"{suffix} {count}"
        for suffix, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )
    if total == 1:
        return f"1 file of another kind ({kinds}) was ignored"
    return f"{total} files of other kinds ({kinds}) were ignored"


def is_video(name: str) -> bool:
    """Return whether a file counts as a video, by its suffix."""
    return _suffix_of(name) in VIDEO_SUFFIXES


def is_source(name: str) -> bool:
    """Return whether a file of a folder is a source: visible, with a known suffix.

    Not .ts, which is a video by name only: TypeScript programs have the same suffix.
    """
    suffix = _suffix_of(name)
    is_readable = suffix in READABLE_SUFFIXES or (suffix in VIDEO_SUFFIXES and suffix != ".ts")
    return is_readable and not name.startswith(".")


def expand(text: str, outputs: OwnOutputs, recursive: bool) -> Iterator[Item]:
    """Yield what one source of the command line stands for, in the order of names."""
    if text == "-":
        yield Source(Standard.INPUT, Path())
        return
    path = expanded(text)
    if isinstance(path, Url):
        yield from _in_store(path, outputs, recursive)
        return
    try:
        if path.is_dir():
            yield from _in_folder(path, outputs, recursive)
        elif path.exists():
            yield _file(path, path.parent)
        elif glob.has_magic(text):
            yield from _matching(str(path), outputs)
        else:
            yield Unreadable(text, UnreadableImage(f"{text}: no such file", hint="check the name"))
    except OSError as error:  # no permission for a folder, or a name that is too long
        yield Unreadable(text, UnreadableImage(f"{text}: {error.strerror}"))


def _file(path: Path, root: Path) -> Source | Unreadable:
    """Return a source unless it is a broken link, or a pipe or a device that may never end."""
    try:
        status = path.stat()
    except OSError:
        return Unreadable(str(path), UnreadableImage(f"{path}: broken link"))
    if not stat.S_ISREG(status.st_mode):
        return Unreadable(
            str(path),
            UnreadableImage(
                f"{path}: a pipe or a device, not a file",
                hint="pipe an image in as -, with --format png",
            ),
        )
    return Source(path, root, status)


def _in_store(url: Url, outputs: OwnOutputs, recursive: bool) -> Iterator[Item]:
    """Yield the object of a URL, those that match a glob, or those of a folder.

    Raises MissingExtra.
    """
    try:
        entry = find(url) if url.name else None
        if entry is not None:
            yield Source(url, url.parent, entry)
        elif url.is_web:
            yield Unreadable(
                str(url), UnreadableImage(f"{url}: no such file", hint="check the URL")
            )
        else:
            yield from _in_listing(url, outputs, recursive)
    except (InputError, FetchError) as error:
        yield Unreadable(str(url), error)


def _in_listing(url: Url, outputs: OwnOutputs, recursive: bool) -> Iterator[Item]:
    """Yield the sources of a folder or a glob, without earlier outputs and the output folder."""
    is_glob = glob.has_magic(url.address)
    root, listed = matching(url) if is_glob else (url, entries(url, recursive=recursive))
    within = (
        outputs.folder
        if isinstance(outputs.folder, Url) and outputs.folder.is_below(root)
        else None
    )
    is_empty = True
    for entry in listed:
        is_empty = False
        name = entry.url.name
        if within is not None and entry.url.is_below(within):
            continue
        if not is_source(name):
            yield PassedOver(_suffix_of(name))
        elif not outputs.include(name):
            yield Source(entry.url, root, entry)
    if is_empty and is_glob:
        nothing = NothingToDo(f"no image or video matches {url}", hint="check folder and suffix")
        yield Unreadable(str(url), nothing)
    elif is_empty and next(entries(url, recursive=True), None) is None:
        missing = UnreadableImage(f"{url}: no such object or folder", hint="check the name")
        yield Unreadable(str(url), missing)


def _in_folder(folder: Path, outputs: OwnOutputs, recursive: bool) -> Iterator[Item]:
    """Yield the sources of a folder, without earlier outputs and without the output folder."""
    failures: list[OSError] = []
    excluded = os.path.realpath(outputs.folder) if isinstance(outputs.folder, Path) else None
    for parent, folders, names in os.walk(folder, onerror=failures.append):
        visible = sorted(name for name in folders if recursive and not name.startswith("."))
        folders[:] = [
            name for name in visible if os.path.realpath(os.path.join(parent, name)) != excluded
        ]
        for name in sorted(names):
            if is_source(name):
                if not outputs.include(name):
                    yield _file(Path(parent, name), folder)
            elif not name.startswith("."):
                yield PassedOver(_suffix_of(name))
    for failure in failures:
        name = str(failure.filename)
        yield Unreadable(name, UnreadableImage(f"{name}: {failure.strerror}"))


def _suffix_of(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "no suffix"


def _matching(pattern: str, outputs: OwnOutputs) -> Iterator[Item]:
    """Yield the images and videos that match a glob.

    A folder of that very name is meant before the names that its brackets would match.
    """
    root, rest = Path(), Path(pattern).parts
    while rest and (not glob.has_magic(rest[0]) or os.path.lexists(root / rest[0])):
        root, rest = root / rest[0], rest[1:]
    paths = _glob(root, rest) or _glob(root, [part.replace("[", "[[]") for part in rest])
    sources = [path for path in paths if is_source(path.name)]
    others = [path for path in paths if not is_source(path.name) and os.path.isfile(path)]
    yield from (PassedOver(_suffix_of(path.name)) for path in others if path.name[0] != ".")
    if not sources:
        found = describe_passed_over(Counter(_suffix_of(path.name) for path in others))
        brackets = "write [[] for a [ that is part of a name" if "[" in pattern else None
        yield Unreadable(
            pattern,
            NothingToDo(
                f"no image or video matches {pattern}",
                hint=found if others else brackets or "check the folder and the suffix",
            ),
        )
    for path in sources:
        if not outputs.include(path.name) and not path.is_dir():
            yield _file(path, root)


def _glob(root: Path, parts: Sequence[str]) -> list[Path]:
    """Return the paths below a folder of any name that match the parts of a glob."""
    if not parts:
        return []
    pattern = os.path.join(glob.escape(str(root)) if root.parts else "", *parts)
    return [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]


def expanded(text: str) -> Location:
    """Return a URL, or a path with ~ expanded to the home folder. Raises UsageError.

    ~name of an unknown user stays.
    """
    return location(os.path.expanduser(text))


def shown(text: str) -> str:
    """Return the text of a source without its secrets."""
    return str(location(text)) if is_url(text) else text


def is_folder(path: Location) -> bool:
    """Return whether a local folder exists; stores have none."""
    return isinstance(path, Path) and os.path.isdir(path)
