"""A list of jobs from sources and an output; every refusal comes before any work."""

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
from restore_cli.tasks import TASKS

Existing = Literal["error", "overwrite", "skip"]

# Endings of the names of outputs; `run` does several tasks.
PARTICIPLES = {str(task.name): task.participle for task in TASKS.values()} | {"run": "restored"}
FIELDS = ("stem", "ext", "task", "model", "scale", "rel")
LISTED_AT_MOST = 3  # files in one message


class Standard(Enum):
    """An image that is piped in or out."""

    INPUT = "stdin"
    OUTPUT = "stdout"

    def __str__(self) -> str:
        return "-"


@dataclass(frozen=True)
class Job:
    """One image or video to read, and the place of its output."""

    source: Path | Standard
    target: Path | Standard
    format: Format | Container


@dataclass(frozen=True)
class Unreadable:
    """A source that fails before any work."""

    source: str
    error: InputError


@dataclass(frozen=True)
class Plan:
    """Jobs to do, jobs skipped because their targets exist, and unreadable sources."""

    jobs: tuple[Job, ...]
    skipped: tuple[Job, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()

    def __len__(self) -> int:
        return len(self.jobs) + len(self.skipped) + len(self.unreadable)


@dataclass(frozen=True)
class _Found:
    """A source, and the folder whose tree is mirrored in the output folder."""

    source: Path | Standard
    root: Path

    @property
    def path(self) -> Path:
        """Path for naming: stdin counts as a file of that name."""
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
    """Plan the jobs for `sources`: files, folders, globs, or "-" alone for stdin.

    output: None (beside each source), "-" (stdout), a file, a folder, or a template.
    task, model, scale: text for the fields of a template. format: of images, not of videos.
    Folders give their visible images and videos, with `recursive` also those of their subfolders;
    links to folders are not followed. A missing source becomes `unreadable`; the rest is planned.
    Raises NothingToDo, UsageError, OutputCollision, OutputExists, OutputError.
    """
    if "" in sources or output == "":
        raise UsageError(
            "a source is empty" if "" in sources else "-o is empty",
            hint="check for an unset variable in your script",
        )
    naming = _Naming(task, model, scale, output, format)
    items = [item for text in sources for item in _expand(text, naming, recursive)]
    if not items:
        raise NothingToDo(
            f"no image or video in {', '.join(sources)}",
            hint="--recursive includes subfolders"
            if not recursive
            else f"known suffixes: {' '.join(sorted(READABLE_SUFFIXES | VIDEO_SUFFIXES))}",
        )
    if "-" in sources and len(items) > 1:
        raise UsageError("- (stdin) cannot be mixed with other sources", hint="give it alone")
    found = [item for item in items if isinstance(item, _Found)]
    jobs = list(dict.fromkeys(naming.job(item, alone=len(items) == 1) for item in found))
    _refuse_collisions(jobs)
    refuse_unwritable([job.target for job in jobs if isinstance(job.target, Path)])
    present = [job for job in jobs if _exists(job.target)]
    if present and existing == "error":
        raise OutputExists(
            f"already exists: {_some([job.target for job in present])}",
            hint="add --overwrite or --skip-existing, or choose another output with -o",
        )
    skipped = present if existing == "skip" else []
    return Plan(
        jobs=tuple(job for job in jobs if job not in set(skipped)),
        skipped=tuple(skipped),
        unreadable=tuple(item for item in items if isinstance(item, Unreadable)),
    )


def contains_videos(
    sources: Sequence[str], output: str | None, *, task: str, recursive: bool = False
) -> bool:
    """Return whether `plan` would find a video among the same sources."""
    naming = _Naming(task, model="", scale="", output=output, format=None)
    items = (item for text in sources for item in _expand(text, naming, recursive))
    return any(isinstance(item, _Found) and item.is_video for item in items)


def template_fields(output: str | None) -> set[str]:
    """Return the fields of a template, such as {"stem", "ext"}; of other outputs, none."""
    try:
        return {name for _, name, _, _ in string.Formatter().parse(output or "") if name}
    except ValueError:
        return set()  # a broken template, which `plan` refuses


@dataclass(frozen=True)
class _Naming:
    """Options that name the targets."""

    task: str
    model: str
    scale: str
    output: str | None
    format: Format | None

    @property
    def ending(self) -> str:
        return PARTICIPLES[self.task]

    def job(self, found: _Found, *, alone: bool) -> Job:
        """Return the job of a source; alone: there is no other. Raises UsageError, OutputError."""
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
            raise OutputError(f"{target} is a folder", hint="choose another output with -o")
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
        # With several sources, run.2 is a folder, and only a known suffix makes a file.
        return not alone and chosen.suffix.lower() not in READABLE_SUFFIXES | VIDEO_SUFFIXES

    def _suffix(self, found: _Found) -> str:
        """Return the suffix of the output: that of the source where the format is kept."""
        own = found.path.suffix
        if found.is_video:
            return own if own.lower() in CONTAINERS else ".mkv"  # takes any sound
        written = SUFFIXES.get(own.lower())
        if found.source is Standard.INPUT and self.format is None:
            raise UsageError(
                "the format of an image from stdin must be given", hint="add --format png"
            )
        if self.format is None:
            return own if written else ".png"  # BMP, GIF and PPM are not written
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
    """Expand ~ to the home folder; ~name of an unknown user stays."""
    return Path(os.path.expanduser(text))


def is_video(name: str) -> bool:
    """Return whether a file counts as a video, by its suffix."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def is_source(name: str) -> bool:
    """Return whether a file of a folder is a source: visible, with a known suffix.

    Not .ts, which is a video by name only: TypeScript programs have the same suffix.
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
    except OSError as error:  # no permission for a folder, or a name that is too long
        yield Unreadable(text, UnreadableImage(f"{text}: {error.strerror}"))


def _in_folder(folder: Path, naming: _Naming, recursive: bool) -> Iterator[_Found | Unreadable]:
    """Yield the sources of a folder, without earlier outputs and without the output folder."""
    failures: list[OSError] = []
    output = _path(naming.output).resolve() if naming.output else None
    for parent, folders, names in os.walk(folder, onerror=failures.append):
        visible = sorted(name for name in folders if recursive and not name.startswith("."))
        folders[:] = [name for name in visible if Path(parent, name).resolve() != output]
        for name in sorted(names):
            if not is_source(name) or _is_own_output(name, naming):
                continue
            path = Path(parent, name)
            if os.path.isfile(path):
                yield _Found(path, folder)
            else:
                yield Unreadable(str(path), UnreadableImage(f"{path}: broken link"))
    for failure in failures:
        name = str(failure.filename)
        yield Unreadable(name, UnreadableImage(f"{name}: {failure.strerror}"))


def _matching(pattern: str, naming: _Naming) -> Iterator[_Found | Unreadable]:
    """Yield the images and videos that match a glob."""
    parts = Path(pattern).parts
    plain = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:plain])
    paths = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
    sources = [path for path in paths if is_source(path.name) and os.path.isfile(path)]
    if not sources:
        yield Unreadable(pattern, NothingToDo(f"no image or video matches {pattern}"))
    for path in sources:
        if not _is_own_output(path.name, naming):
            yield _Found(path, root)


def _is_own_output(name: str, naming: _Naming) -> bool:
    """Return whether a file beside the sources is an output of an earlier run."""
    return naming.output is None and Path(name).stem.endswith(f"_{naming.ending}")


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    """Refuse two outputs in one file, and an output that replaces a source."""
    sources = {_identity(job.source): job.source for job in jobs if isinstance(job.source, Path)}
    taken: dict[str, Job] = {}
    for job in jobs:
        if not isinstance(job.target, Path):
            continue
        other = taken.setdefault(name_everywhere(job.target), job)
        if other is not job:
            raise OutputCollision(
                f"{other.source} and {job.source} would both become {job.target}",
                hint="use a template that keeps them apart: -o 'out/{rel}/{stem}_{task}{ext}'",
            )
        if os.path.exists(job.target) and _identity(job.target) in sources:
            raise OutputCollision(
                f"{job.target} is a source: {sources[_identity(job.target)]}",
                hint="sources are never replaced: leave it out, or choose another output with -o",
            )


def _identity(path: Path) -> tuple[int, int]:
    """Return the device and inode of a file, the same through any link."""
    status = path.stat()
    return status.st_dev, status.st_ino


def name_everywhere(path: Path) -> str:
    """Return a key equal for names that some file system takes for one: by case or accents."""
    return unicodedata.normalize("NFC", str(path.resolve())).casefold()


def refuse_unwritable(targets: Sequence[Path]) -> None:
    """Refuse targets in folders that cannot be written. Raises OutputError."""
    for folder in {target.parent for target in targets}:
        nearest = next(
            path for path in (folder, *folder.absolute().parents) if os.path.exists(path)
        )
        if not os.path.isdir(nearest):
            raise OutputError(f"{nearest} is not a folder", hint="choose another output with -o")
        if not os.access(nearest, os.W_OK):
            raise OutputError(
                f"{nearest}: no write permission", hint="choose another output with -o"
            )


def _exists(target: Path | Standard) -> bool:
    return isinstance(target, Path) and os.path.lexists(target)


def _some(paths: Sequence[Path | Standard]) -> str:
    """List the first few names and the number of the others."""
    more = len(paths) - LISTED_AT_MOST
    names = ", ".join(map(str, paths[:LISTED_AT_MOST]))
    return f"{names} and {more} more" if more > 0 else names
