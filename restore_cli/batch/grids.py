"""From prompts to files, an image each or several on one sheet; no network is loaded for it."""

from __future__ import annotations

import math
import os
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from restore_cli.batch.plan import Existing, Standard, name_everywhere, refuse_unwritable
from restore_cli.errors import OutputCollision, OutputError, OutputExists, UsageError
from restore_cli.imaging.formats import Format, format_of

FIELDS = ("prompt", "index", "seed", "model")
LONGEST_NAME = 60  # characters of a prompt in the name of a file


@dataclass(frozen=True)
class Grid:
    """One file to be made: images of (prompt, seed), row by row."""

    images: tuple[tuple[str, int], ...]
    columns: int
    target: Path | Standard

    @property
    def format(self) -> Format:
        return "png" if isinstance(self.target, Standard) else format_of(self.target)

    @property
    def source(self) -> str:
        return ", ".join(dict.fromkeys(prompt for prompt, _ in self.images))


def plan_grids(
    prompts: Sequence[str],
    output: str | None,
    *,
    count: int,
    seed: int,
    model: str,
    existing: Existing = "error",
) -> tuple[list[Grid], list[Grid]]:
    """(to do, skipped because their targets exist). Image i of a prompt has the seed `seed` + i.

    output: None for {prompt}.png of each prompt; "-" for stdout; a file for all in one; a folder,
    or a template with {index} or {seed}, for a file each; any other template for a file a prompt.
    Raises UsageError, OutputCollision, OutputExists, OutputError.
    """
    if "" in prompts or output == "":
        raise UsageError("a prompt or -o is empty", hint="perhaps a variable is not set")
    sheets = _sheets(prompts, output, range(seed, seed + count), model)
    targets = [sheet.target for sheet in sheets if isinstance(sheet.target, Path)]
    _refuse_collisions(targets)
    refuse_unwritable(targets)
    for sheet in sheets:
        _ = sheet.format  # refuses what cannot be written
    there = [target for target in targets if os.path.lexists(target)]
    if folders := [target for target in there if target.is_dir()]:
        raise OutputError(f"{folders[0]} is a folder", hint="write a / behind it")
    if there and existing == "error":
        raise OutputExists(
            f"there already: {', '.join(map(str, there[:3]))}",
            hint="add --overwrite or --skip-existing, or choose another place with -o",
        )
    skipped = [sheet for sheet in sheets if existing == "skip" and sheet.target in there]
    return [sheet for sheet in sheets if sheet not in skipped], skipped


def _sheets(
    prompts: Sequence[str], output: str | None, seeds: Sequence[int], model: str
) -> list[Grid]:
    def all_of(prompt: str, target: Path) -> Grid:
        images = tuple((prompt, seed) for seed in seeds)
        return Grid(images, _columns(len(images)), target)

    if output is None:
        return [all_of(prompt, Path(f"{file_name(prompt)}.png")) for prompt in prompts]
    path = Path(os.path.expanduser(output))
    if "{" in output and not path.is_dir():
        if not re.search(r"\{(index|seed)\b", output):
            return [all_of(p, _filled(output, p, 0, seeds[0], model)) for p in prompts]
        return [
            Grid(((prompt, seed),), 1, _filled(output, prompt, index, seed, model))
            for prompt in prompts
            for index, seed in enumerate(seeds)
        ]
    if output.endswith(("/", os.sep)) or path.is_dir():
        return [
            Grid(((prompt, seed),), 1, path / f"{file_name(prompt)}_{seed}.png")
            for prompt in prompts
            for seed in seeds
        ]
    images = tuple((prompt, seed) for prompt in prompts for seed in seeds)
    return [Grid(images, columns_of(prompts, seeds), Standard.OUTPUT if output == "-" else path)]


def columns_of(prompts: Sequence[str], seeds: Sequence[int]) -> int:
    """Of a sheet of each prompt with each seed: a row a prompt, or nearly square."""
    if len(prompts) > 1 and len(seeds) > 1:
        return len(seeds)
    return _columns(len(prompts) * len(seeds))


def _columns(count: int) -> int:
    """Of a sheet that is nearly square."""
    return math.ceil(math.sqrt(count))


def file_name(prompt: str) -> str:
    """A prompt as a part of a file name that every system takes."""
    plain = re.sub(r"[^\w]+", "-", prompt, flags=re.UNICODE).strip("-_")
    return plain[:LONGEST_NAME].rstrip("-_") or "image"


def _filled(template: str, prompt: str, index: int, seed: int, model: str) -> Path:
    values: Mapping[str, object] = {
        "prompt": file_name(prompt),
        "index": index,
        "seed": seed,
        "model": model,
    }
    try:
        for _, name, _, _ in string.Formatter().parse(template):
            if name is not None and name not in FIELDS:
                raise ValueError(f"unknown field {name!r}")
        return Path(os.path.expanduser(template.format(**values)))
    except ValueError as error:
        raise UsageError(
            f"-o {template}: {error}", hint=f"fields: {' '.join('{' + f + '}' for f in FIELDS)}"
        ) from error


def _refuse_collisions(targets: Sequence[Path]) -> None:
    taken: set[str] = set()
    for target in targets:
        name = name_everywhere(target)
        if name in taken:
            raise OutputCollision(
                f"two images would both become {target}",
                hint="tell them apart, for example -o 'out/{prompt}_{seed}.png'",
            )
        taken.add(name)
