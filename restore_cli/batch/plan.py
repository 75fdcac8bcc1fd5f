"""From what the user named to a list of jobs; every refusal comes before any work."""

from __future__ import annotations

import glob
import os
import string
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

from restore_cli.errors import (
    InputError,
    NothingToDo,
    OutputCollision,
    OutputError,
    OutputExists,
    UnreadableImage,
    UsageError,
)
from restore_cli.imaging.formats import (
    CONTAINERS,
    READABLE_SUFFIXES,
    SUFFIX_OF,
    SUFFIXES,
    VIDEO_SUFFIXES,
    Container,
    Format,
    container_of,
    format_of,
)

Existing = Literal["error", "overwrite", "skip"]

PARTICIPLES = {
    "denoise": "denoised",
    "derain": "derained",
    "enhance": "enhanced",
    "upscale": "upscaled",
    "run": "restored",
}
FIELDS = ("stem", "ext", "task", "model", "scale", "rel")
NAMED_AT_MOST = 3  # files in one message


class Standard(Enum):
    """An image that comes or goes through a pipe."""

    INPUT = "stdin"
    OUTPUT = "stdout"

    def __str__(self) -> str:
        return "-"


@dataclass(frozen=True)
class Job:
    """One image or video to read and the place where its result goes."""

    source: Path | Standard
    target: Path | Standard
    format: Format | Container


@dataclass(frozen=True)
class Unreadable:
    """A source that is known to fail before any work."""

    source: str
    error: InputError


@dataclass(frozen=True)
class Plan:
    """What there is to do. `skipped`: their targets exist and are left as they are."""

    jobs: tuple[Job, ...]
    skipped: tuple[Job, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()

    def __len__(self) -> int:
        return len(self.jobs) + len(self.skipped) + len(self.unreadable)


@dataclass(frozen=True)
class _Found:
    """A source and the folder below which its place is mirrored in the output folder."""

    source: Path | Standard
    root: Path

    @property
    def path(self) -> Path:
        """As it counts for naming: stdin is a file called so."""
        return self.source if isinstance(self.source, Path) else self.root / self.source.value

    @property
    def is_video(self) -> bool:
        return is_video(self.path.name)


def plan(
    sources: Sequence[str],
    output: str | None,
    *,
    task: str,
    model: str,
    scale: str = "1",
    recursive: bool = False,
    format: Format | None = None,
    existing: Existing = "error",
) -> Plan:
    """The jobs for `sources`: files, folders, globs, or "-" alone for stdin.

    output: None (beside each source), "-" (stdout), a file, a folder, or a template.
    Folders give their visible images and videos, `recursive` those below them too; links to
    folders are not followed. A source that is not there becomes `unreadable`, the others are still
    planned. `format` is for images alone.
    Raises NothingToDo, UsageError, OutputCollision, OutputExists, OutputError.
    """
    if "" in sources or output == "":
        raise UsageError(
            "a source is empty" if "" in sources else "-o is empty",
            hint="perhaps a variable of your script is not set",
        )
    naming = _Naming(task, model, scale, output, format)
    items = [item for text in sources for item in _expand(text, naming, recursive)]
    if not items:
        raise NothingToDo(
            f"no image or video in {', '.join(sources)}",
            hint="--recursive looks into the folders inside"
            if not recursive
            else f"suffixes that count: {' '.join(sorted(READABLE_SUFFIXES | VIDEO_SUFFIXES))}",
        )
    if "-" in sources and len(items) > 1:
        raise UsageError("- (stdin) cannot be mixed with other sources", hint="give it alone")
    found = [item for item in items if isinstance(item, _Found)]
    jobs = list(dict.fromkeys(naming.job(item, alone=len(items) == 1) for item in found))
    _refuse_collisions(jobs)
    refuse_unwritable([job.target for job in jobs if isinstance(job.target, Path)])
    there = {job for job in jobs if _exists(job.target)}
    if there and existing == "error":
        raise OutputExists(
            f"there already: {_some([job.target for job in jobs if job in there])}",
            hint="add --overwrite or --skip-existing, or choose another place with -o",
        )
    skipped = there if existing == "skip" else set()
    return Plan(
        jobs=tuple(job for job in jobs if job not in skipped),
        skipped=tuple(job for job in jobs if job in skipped),
        unreadable=tuple(item for item in items if isinstance(item, Unreadable)),
    )


def hold_videos(
    sources: Sequence[str], output: str | None, *, task: str, recursive: bool = False
) -> bool:
    """Whether any of `sources` is a video, or gives one; arguments as those of `plan`."""
    naming = _Naming(task, model="", scale="", output=output, format=None)
    items = (item for text in sources for item in _expand(text, naming, recursive))
    return any(isinstance(item, _Found) and item.is_video for item in items)


@dataclass(frozen=True)
class _Naming:
    """How targets are called."""

    task: str
    model: str
    scale: str
    output: str | None
    format: Format | None

    @property
    def ending(self) -> str:
        return PARTICIPLES[self.task]

    def job(self, found: _Found, *, alone: bool) -> Job:
        """alone: it is the only source. Raises UsageError, OutputError."""
        if self.output == "-" or (self.output is None and found.source is Standard.INPUT):
            if not alone:
                raise UsageError(
                    "-o - takes one image, but there are several sources",
                    hint="name a folder, for example -o out/",
                )
            if found.is_video:
                raise UsageError(
                    f"{found.source}: a video cannot go to stdout", hint="name a file with -o"
                )
            return Job(found.source, Standard.OUTPUT, SUFFIXES[self._suffix(found).lower()])
        target = self._target(found, alone)
        format = container_of(target) if found.is_video else format_of(target)
        if self.format not in (None, format) and not found.is_video:
            raise UsageError(
                f"{target.name} is {format}, but --format says {self.format}",
                hint="leave one of them out, or write {ext} for the suffix",
            )
        if os.path.isdir(target):
            raise OutputError(f"{target} is a folder", hint="choose another place with -o")
        return Job(found.source, target, format)

    def _target(self, found: _Found, alone: bool) -> Path:
        path = found.path
        if self.output is None:
            return path.with_name(f"{path.stem}_{self.ending}{self._suffix(found)}")
        chosen = _path(self.output)
        if "{" in self.output and not os.path.isdir(chosen):
            return self._fill_template(self.output, found)
        if self._is_folder(chosen, alone):
            return chosen / path.relative_to(found.root).with_suffix(self._suffix(found))
        if not alone:
            raise UsageError(
                f"-o {self.output} is one file, but there are several sources",
                hint="name a folder, for example -o out/",
            )
        return chosen

    def _is_folder(self, chosen: Path, alone: bool) -> bool:
        looks_so = str(self.output).endswith(("/", os.sep)) or not chosen.suffix
        if looks_so or os.path.isdir(chosen):
            return True
        # With many sources a dot is part of a folder's name (run.2), unless it is an image's.
        return not alone and chosen.suffix.lower() not in READABLE_SUFFIXES | VIDEO_SUFFIXES

    def _suffix(self, found: _Found) -> str:
        """Of the result: the source's own where its format is kept."""
        own = found.path.suffix
        if found.is_video:
            return own if own.lower() in CONTAINERS else ".mkv"  # which holds any sound
        written = SUFFIXES.get(own.lower())
        if found.source is Standard.INPUT and self.format is None:
            raise UsageError(
                "stdin does not tell the format of the result", hint="add --format png"
            )
        if self.format is None:
            return own if written else ".png"  # BMP, GIF and PPM are read, but not written
        return own if written == self.format else SUFFIX_OF[self.format]

    def _fill_template(self, template: str, found: _Found) -> Path:
        path = found.path
        values = (
            path.stem,
            self._suffix(found) if "{ext}" in template else "",
            self.ending,
            self.model,
            self.scale,
            path.parent.relative_to(found.root).as_posix(),
        )
        try:
            for _, name, _, _ in string.Formatter().parse(template):
                if name is not None and name not in FIELDS:
                    raise ValueError(f"unknown field {name!r}")
            filled = template.format(**dict(zip(FIELDS, values, strict=True)))
        except ValueError as error:
            raise UsageError(
                f"-o {template}: {error}",
                hint=f"fields: {' '.join('{' + name + '}' for name in FIELDS)}",
            ) from error
        return _path(filled)


def _path(text: str) -> Path:
    """With ~ for the home folder; ~ and a name that nobody has stays as it is."""
    return Path(os.path.expanduser(text))


def is_video(name: str) -> bool:
    """Whether a file that is named counts as a video: by its suffix."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def is_source(name: str) -> bool:
    """Whether a file counts in a folder: by its suffix, and only if visible.

    Programs in TypeScript have the suffix of broadcasts, .ts; those count only if named.
    """
    suffix = Path(name).suffix.lower()
    known = suffix in READABLE_SUFFIXES or (suffix in VIDEO_SUFFIXES and suffix != ".ts")
    return known and not name.startswith(".")


def _expand(text: str, naming: _Naming, recursive: bool) -> Iterator[_Found | Unreadable]:
    if text == "-":
        yield _Found(Standard.INPUT, Path())
        return
    path = _path(text)
    try:
        if path.is_dir():
            yield from _in_folder(path, naming, recursive)
        elif path.exists():
            yield _Found(path, path.parent)
        elif glob.has_magic(text):
            yield from _matching(str(path), naming)
        else:
            yield Unreadable(text, UnreadableImage(f"{text}: no such file", hint="check the name"))
    except OSError as error:  # a folder on the way may not be entered, or the name is too long
        yield Unreadable(text, UnreadableImage(f"{text}: {error.strerror}"))


def _in_folder(folder: Path, naming: _Naming, recursive: bool) -> Iterator[_Found | Unreadable]:
    """What counts in a folder; neither our own earlier results nor what lies in the output."""
    failures: list[OSError] = []
    results = _path(naming.output).resolve() if naming.output else None
    for parent, folders, names in os.walk(folder, onerror=failures.append):
        visible = sorted(name for name in folders if recursive and not name.startswith("."))
        folders[:] = [name for name in visible if Path(parent, name).resolve() != results]
        for name in sorted(names):
            if not is_source(name) or _is_own_result(name, naming):
                continue
            path = Path(parent, name)
            if os.path.isfile(path):
                yield _Found(path, folder)
            else:
                yield Unreadable(str(path), UnreadableImage(f"{path}: a link that leads nowhere"))
    for failure in failures:
        name = str(failure.filename)
        yield Unreadable(name, UnreadableImage(f"{name}: {failure.strerror}"))


def _matching(pattern: str, naming: _Naming) -> Iterator[_Found | Unreadable]:
    """Images and videos that match a glob which the shell has left to us."""
    parts = Path(pattern).parts
    plain = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:plain])
    paths = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
    sources = [path for path in paths if is_source(path.name) and os.path.isfile(path)]
    if not sources:
        yield Unreadable(pattern, NothingToDo(f"no image or video matches {pattern}"))
    for path in sources:
        if not _is_own_result(path.name, naming):
            yield _Found(path, root)


def _is_own_result(name: str, naming: _Naming) -> bool:
    """Results beside their sources are no sources when the same command runs again."""
    return naming.output is None and Path(name).stem.endswith(f"_{naming.ending}")


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    """No two results in one file, and no result over a source."""
    sources = {_identity(job.source): job.source for job in jobs if isinstance(job.source, Path)}
    taken: dict[str, Job] = {}
    for job in jobs:
        if not isinstance(job.target, Path):
            continue
        other = taken.setdefault(name_everywhere(job.target), job)
        if other is not job:
            raise OutputCollision(
                f"{other.source} and {job.source} would both become {job.target}",
                hint="tell them apart by a template, for example -o 'out/{rel}/{stem}_{task}{ext}'",
            )
        if os.path.exists(job.target) and _identity(job.target) in sources:
            raise OutputCollision(
                f"{job.target} is a source: {sources[_identity(job.target)]}",
                hint="sources are never replaced: leave it out, or choose another place with -o",
            )


def _identity(path: Path) -> tuple[int, int]:
    """The file itself, whatever links lead to it."""
    status = path.stat()
    return status.st_dev, status.st_ino


def name_everywhere(path: Path) -> str:
    """Equal for names that some file system takes for one: by case, or by form of the accents."""
    return unicodedata.normalize("NFC", str(path.resolve())).casefold()


def refuse_unwritable(targets: Sequence[Path]) -> None:
    """Better now than after the first image has been computed. Raises OutputError."""
    for folder in {target.parent for target in targets}:
        nearest = next(
            path for path in (folder, *folder.absolute().parents) if os.path.exists(path)
        )
        if not os.path.isdir(nearest):
            raise OutputError(f"{nearest} is no folder", hint="choose another place with -o")
        if not os.access(nearest, os.W_OK):
            raise OutputError(
                f"{nearest}: no permission to write there", hint="choose another place with -o"
            )


def _exists(target: Path | Standard) -> bool:
    return isinstance(target, Path) and os.path.lexists(target)


def _some(paths: Sequence[Path | Standard]) -> str:
    """The first few names, and how many more there are."""
    more = len(paths) - NAMED_AT_MOST
    names = ", ".join(map(str, paths[:NAMED_AT_MOST]))
    return f"{names} and {more} more" if more > 0 else names
