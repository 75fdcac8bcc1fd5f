"""Names of outputs: beside the sources, in a folder, or by a template."""

from __future__ import annotations

import hashlib
import os
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from restore_cli.batch.jobs import Job, Standard
from restore_cli.batch.sources import OwnOutputs, Source, expanded, is_folder, shown
from restore_cli.errors import UsageError
from restore_cli.imaging.formats import (
    CONTAINERS,
    READABLE_SUFFIXES,
    SUFFIX_OF,
    SUFFIXES,
    VIDEO_SUFFIXES,
    Format,
    container_of,
    format_of,
)
from restore_cli.storage import Location, Url, location
from restore_cli.tasks import TASKS

# Endings of the names of outputs; `run` does several tasks.
PARTICIPLES = {str(task.name): task.participle for task in TASKS.values()} | {"run": "restored"}
FIELDS = ("stem", "ext", "task", "model", "scale", "rel", "suffix", "parent", "folder", "hash")
BESIDE = "{folder}/"  # begins a template of outputs beside their sources
BY_SCALE = f"{BESIDE}{{stem}}_x{{scale}}{{ext}}"  # keeps enlargements of one image apart
# Names that keep apart sources of one stem, in the order in which they are tried.
DISTINCT = ("{stem}", "{stem}_{suffix}", "{parent}_{stem}", "{parent}_{stem}_{suffix}")
ALWAYS_DISTINCT = "{stem}_{hash}"


def template_fields(output: str | None) -> set[str]:
    """Return the fields of a template, such as {"stem", "ext"}; of other outputs, none."""
    try:
        return {name for _, name, _, _ in string.Formatter().parse(output or "") if name}
    except ValueError:
        return set()  # a broken template, which `plan` refuses


@dataclass(frozen=True)
class Naming:
    """Options that name the targets."""

    task: str
    model: str
    scale: str
    output: str | None
    format: Format | None

    @cached_property
    def chosen(self) -> Location:
        """Place of the outputs. Raises UsageError."""
        return expanded(self.output or "")

    @property
    def own_outputs(self) -> OwnOutputs:
        """Outputs of earlier runs with these options."""
        return OwnOutputs(None if self.output is None else self.chosen, self.own_names)

    @property
    def ending(self) -> str:
        return PARTICIPLES[self.task]

    @cached_property
    def own_names(self) -> re.Pattern[str] | None:
        """Pattern of the names of outputs beside their sources; None: they are elsewhere."""
        if self.output is None:
            return re.compile(rf"(?s:.*)_{self.ending}(\.[^.]*)?")
        template = self.output.removeprefix(BESIDE)
        if template == self.output or not template_fields(template) & {"task", "scale", "model"}:
            return None
        patterns = {"task": self.ending, "scale": r"[\d.x]+", "ext": r"\.[^.]*", "": ""}
        parts = string.Formatter().parse(template)
        words = (
            re.escape(text) + patterns.get(name or "", "(?s:.+)") for text, name, _, _ in parts
        )
        return re.compile("".join(words))

    def job(self, source: Source, *, alone: bool) -> Job:
        """Return the job of a source; alone: there is no other. Raises UsageError, OutputError."""
        if self.output == "-" or (self.output is None and source.location is Standard.INPUT):
            if not alone:
                raise UsageError(
                    "-o - takes one image, but there are several sources",
                    hint="name a folder, for example -o out/",
                )
            if source.is_video:
                raise UsageError(
                    f"{source.location}: a video cannot go to stdout", hint="name a file with -o"
                )
            return Job(source.location, Standard.OUTPUT, SUFFIXES[self._suffix(source).lower()])
        target = self._target(source, alone)
        if isinstance(target, Url) and target.is_web:
            raise UsageError(
                f"{target}: outputs cannot be written to a web server", hint="add -o FOLDER"
            )
        if isinstance(target, Url) and target.scheme == "memory":
            raise UsageError(
                f"{target}: outputs in memory are lost at the end", hint="add -o FOLDER"
            )
        format = container_of(target) if source.is_video else format_of(target)
        if self.format not in (None, format) and not source.is_video:
            raise UsageError(
                f"{target.name} is {format}, but --format says {self.format}",
                hint="leave one of them out, or write {ext} for the suffix",
            )
        return Job(source.location, target, format)

    def _target(self, source: Source, alone: bool) -> Location:
        path, chosen = source.path, self.chosen
        if self.output is None:
            return path.with_name(f"{path.stem}_{self.ending}{self._suffix(source)}")
        if "{" in self.output and not is_folder(chosen):
            return self._fill_template(self.output, source)
        if self._names_folder(chosen, alone):
            return chosen / (os.path.splitext(source.relative)[0] + self._suffix(source))
        if not alone:
            raise UsageError(
                f"-o {shown(self.output)} is one file, but there are several sources",
                hint="name a folder, for example -o out/",
            )
        return chosen

    def _names_folder(self, chosen: Location, alone: bool) -> bool:
        looks_so = str(self.output).endswith(("/", os.sep)) or not chosen.suffix
        if looks_so or is_folder(chosen):
            return True
        # With several sources, run.2 is a folder, and only a known suffix makes a file.
        return not alone and chosen.suffix.lower() not in READABLE_SUFFIXES | VIDEO_SUFFIXES

    def _suffix(self, source: Source) -> str:
        """Return the suffix of the output: that of the source where the format is kept."""
        suffix = source.path.suffix
        if source.is_video:
            return suffix if suffix.lower() in CONTAINERS else ".mkv"  # takes any sound
        written = SUFFIXES.get(suffix.lower())
        if source.location is Standard.INPUT and self.format is None:
            raise UsageError(
                "the format of an image from stdin must be given", hint="add --format png"
            )
        if self.format is None:
            return suffix if written else ".png"  # BMP, GIF and PPM are not written
        return suffix if written == self.format else SUFFIX_OF[self.format]

    def _fill_template(self, template: str, source: Source) -> Location:
        path = source.path
        real = str(path) if isinstance(path, Url) else os.path.realpath(path)
        values = (
            path.stem,
            self._suffix(source) if "{ext}" in template else "",
            self.ending,
            self.model,
            self.scale,
            Path(source.relative).parent.as_posix(),
            path.suffix[1:],
            Path(real).parent.name,
            str(path.parent),
            hashlib.sha256(os.fsencode(real)).hexdigest()[:8],
        )
        try:
            for _, name, _, _ in string.Formatter().parse(template):
                if name is not None and name not in FIELDS:
                    raise ValueError(f"unknown field {name!r}")
            filled = template.format(**dict(zip(FIELDS, values, strict=True)))
        except ValueError as error:
            raise UsageError(
                f"-o {shown(template)}: {error}",
                hint=f"fields: {' '.join('{' + name + '}' for name in FIELDS)}",
            ) from error
        return expanded(filled)

    def distinct(self, name: str, sources: Sequence[Source]) -> str:
        """Return a template like the output, whose names are `name` in place of {stem}."""
        folder: Location
        if self.output is None:
            roots = {source.root for source in sources}
            folder, ending = (roots.pop() if len(roots) == 1 else Path("out")), "_{task}{ext}"
        elif "{stem}" in self.output:
            return self.output.replace("{stem}", name)
        elif "{" in self.output and not is_folder(self.chosen):
            template = location(self.output)
            folder, ending = template.parent, template.suffix or "{ext}"
            return str(folder / f"{name}{ending}")
        else:
            folder, ending = location(self.output), "{ext}"
        plain = location(str(folder).replace("{", "{{").replace("}", "}}"))
        is_deep = any("/" in source.relative.replace(os.sep, "/") for source in sources)
        return str(plain / ("{rel}" if is_deep else "") / f"{name}{ending}")
