"""From what the user named to a list of jobs, with every refusal before any work."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from restore_cli.errors import (
    InputError,
    NothingToDo,
    OutputCollision,
    OutputExists,
    UnreadableImage,
    UsageError,
)
from restore_cli.imaging.files import READABLE_SUFFIXES, SUFFIXES, format_of

Existing = Literal["error", "overwrite", "skip"]

PARTICIPLES = {
    "denoise": "denoised",
    "derain": "derained",
    "enhance": "enhanced",
    "upscale": "upscaled",
}
FORMAT_SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif"}


@dataclass(frozen=True)
class Naming:
    """How targets are called."""

    task: str
    model: str
    scale: int = 1
    output: str | None = None
    format: str | None = None


@dataclass(frozen=True)
class Job:
    source: Path
    target: Path
    error: InputError | None = None  # already known to fail: the source is not there


@dataclass(frozen=True)
class Plan:
    jobs: tuple[Job, ...]
    skipped: tuple[Job, ...]  # their target exists


@dataclass(frozen=True)
class _Found:
    source: Path
    root: Path  # the folder that the user named; the tree below it is mirrored


def plan(
    sources: Sequence[str], naming: Naming, *, recursive: bool = False, existing: Existing = "error"
) -> Plan:
    """The jobs for `sources`: files, folders and globs.

    Raises NothingToDo, UsageError, OutputExists, OutputCollision.
    """
    found = [item for text in sources for item in _expand(text, naming, recursive)]
    if not found:
        raise NothingToDo(
            f"no picture in {', '.join(sources)}",
            hint="name files or folders; --recursive looks into folders within folders",
        )
    several = len(found) > 1 or any(Path(text).is_dir() for text in sources)
    jobs = [_job(item, naming, several) for item in found]
    _refuse_collisions(jobs)
    there = [job for job in jobs if job.target.exists()]
    if there and existing == "error":
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise OutputExists(
            f"{there[0].target}{more} exists", hint="add --overwrite or --skip-existing"
        )
    if existing == "overwrite":
        return Plan(tuple(jobs), ())
    return Plan(tuple(job for job in jobs if job not in there), tuple(there))


def _expand(text: str, naming: Naming, recursive: bool) -> list[_Found]:
    path = Path(text).expanduser()
    if path.is_dir():
        return [_Found(p, path) for p in _pictures(path, naming, recursive)]
    if not path.exists() and glob.has_magic(text):
        matches = sorted(glob.glob(os.path.expanduser(text), recursive=True))
        return [_Found(Path(match), Path(match).parent) for match in matches if is_picture(match)]
    return [_Found(path, path.parent)]


def is_picture(name: str | Path) -> bool:
    return Path(name).suffix.lower() in READABLE_SUFFIXES


def _pictures(folder: Path, naming: Naming, recursive: bool) -> list[Path]:
    """Visible pictures in `folder`, less our own earlier results when those would lie there."""
    own_ending = f"_{PARTICIPLES[naming.task]}"
    return sorted(
        path
        for path in folder.glob("**/*" if recursive else "*")
        if is_picture(path)
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not (naming.output is None and path.stem.endswith(own_ending))
    )


def _job(item: _Found, naming: Naming, several: bool) -> Job:
    source = item.source
    target = _target(item, naming, several)
    if target.exists() and source.exists() and target.samefile(source):
        raise OutputCollision(f"{target} is the source itself", hint="choose another -o")
    missing = None if source.is_file() else UnreadableImage(f"{source}: no such file")
    return Job(source, target, missing)


def _target(item: _Found, naming: Naming, several: bool) -> Path:
    source, output = item.source, naming.output
    ending = PARTICIPLES[naming.task]
    suffix = FORMAT_SUFFIXES[naming.format] if naming.format else source.suffix
    if suffix.lower() not in SUFFIXES:
        suffix = ".png"  # read, but not written: BMP, GIF, PPM
    if output is None:
        return source.with_name(f"{source.stem}_{ending}{suffix}")
    if "{" in output:
        return _fill_template(output, item, naming, suffix)
    chosen = Path(output).expanduser()
    names_a_file = chosen.suffix.lower() in SUFFIXES and not chosen.is_dir()
    if names_a_file and several:
        raise UsageError(
            f"-o {output} is one file, but there are several sources", hint="name a folder"
        )
    if names_a_file:
        return chosen
    if not several and chosen.suffix and not chosen.is_dir() and not output.endswith(os.sep):
        format_of(chosen)  # refuses photo.xyz, which is hardly meant as a folder
    return chosen / source.relative_to(item.root).with_suffix(suffix)


def _fill_template(template: str, item: _Found, naming: Naming, suffix: str) -> Path:
    try:
        filled = template.format(
            stem=item.source.stem,
            ext=suffix,
            task=PARTICIPLES[naming.task],
            model=naming.model,
            scale=naming.scale,
            rel=item.source.relative_to(item.root).parent.as_posix(),
        )
    except (KeyError, ValueError, IndexError) as error:
        raise UsageError(
            f"-o {template}: {error} is no field",
            hint="fields: {stem} {ext} {task} {model} {scale} {rel}",
        ) from error
    path = Path(filled).expanduser()
    format_of(path)
    return path


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    """Two sources for one target; case is ignored, as many file systems do."""
    taken: dict[str, Path] = {}
    sources = {job.source.resolve() for job in jobs}
    for job in jobs:
        key = str(job.target.resolve()).casefold()
        if key in taken:
            raise OutputCollision(
                f"{taken[key]} and {job.source} would both become {job.target}",
                hint="use a template such as -o 'out/{stem}_{task}{ext}', or -o per folder",
            )
        if job.target.resolve() in sources:
            raise OutputCollision(f"{job.target} is one of the sources", hint="choose another -o")
        taken[key] = job.source
