"""Plan of the files that prompts become: one image each, or several in a grid."""

from __future__ import annotations

import os
import re
import shlex
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from restore_cli.batch.jobs import Job, JobTable, Place, Standard, State, Unreadable
from restore_cli.batch.plan import Existing, refuse_or_skip_existing
from restore_cli.batch.sources import Shard
from restore_cli.batch.targets import (
    name_everywhere,
    refuse_full_disk,
    refuse_long_name,
    refuse_unwritable,
)
from restore_cli.errors import (
    OutputCollision,
    OutputError,
    RestoreError,
    UsageError,
)
from restore_cli.imaging.contact_sheet import columns_for, sheet_size
from restore_cli.imaging.formats import Format, format_of_new, refuse_beyond
from restore_cli.storage import is_url

if TYPE_CHECKING:
    from restore_cli.batch.ledger import Ledger

FIELDS = ("prompt", "number", "index", "seed", "model")
LONGEST_NAME = 60  # characters of a prompt in a file name


@dataclass(frozen=True)
class Grid:
    """One file to generate: images of (prompt, seed), row by row.

    replaces: as of a Job.
    """

    images: tuple[tuple[str, int], ...]
    columns: int
    target: Path | Standard
    replaces: bool = False

    @property
    def format(self) -> Format:
        """Format of the file. Raises UsageError for a suffix that cannot be written."""
        return "png" if isinstance(self.target, Standard) else format_of_new(self.target)

    def refuse_beyond(self, size: tuple[int, int]) -> None:
        """Refuse images of a size (H, W) whose sheet the format cannot hold. Raises OutputError."""
        refuse_beyond(self.format, *sheet_size(len(self.images), self.columns, *size))

    @property
    def source(self) -> str:
        """The prompts, for messages and JSON."""
        return ", ".join(dict.fromkeys(prompt for prompt, _ in self.images))

    @property
    def item(self) -> str:
        """Seeds and prompts, for a ledger: no two grids with other images have the same."""
        first, last = self.images[0][1], self.images[-1][1]
        seeds = f"seed {first}" if first == last else f"seeds {first} to {last}"
        return f"{seeds}: {shlex.join(prompt for prompt, seed in self.images if seed == first)}"


@dataclass(frozen=True)
class GridPlan:
    """The files to generate, those to skip, and those that failed before by the ledger."""

    numbered: Sequence[tuple[int, Grid]]
    skipped: Sequence[Grid] = ()
    failed: Sequence[tuple[Grid, RestoreError]] = ()
    existing: Existing = "error"
    ledger: Ledger | None = None

    @property
    def grids(self) -> list[Grid]:
        return [grid for _, grid in self.numbered]

    @property
    def unreadable(self) -> list[Unreadable]:
        return [Unreadable(grid.item, error) for grid, error in self.failed]

    def __len__(self) -> int:
        return len(self.numbered) + len(self.skipped) + len(self.failed)


def plan_grids(
    prompts: Sequence[str],
    output: str | None,
    *,
    count: int,
    seed: int,
    model: str,
    size: tuple[int, int] | None = None,
    existing: Existing = "error",
    shard: Shard | None = None,
    ledger: Ledger | None = None,
) -> GridPlan:
    """Plan `count` images of each prompt; image i has the seed `seed` + i.

    size: (H, W) of each image, if it is known. shard: of the files, by `Grid.item`.
    output: None for {prompt}.png of each prompt; "-" for stdout; a file for one grid of all; a
    folder, or a template with {index} or {seed}, for a file per image; any other template for a
    file per prompt.
    Raises UsageError, OutputCollision, OutputExists, OutputError.
    """
    refuse_empty(prompts, output)
    if output is not None and is_url(output):
        raise UsageError("-o takes local files here", hint="copy them to the store afterwards")
    grids = _grids(prompts, output, range(seed, seed + count), model)
    targets = [grid.target for grid in grids if isinstance(grid.target, Path)]
    _refuse_collisions(targets)
    refuse_unwritable(targets)
    for target in targets:
        refuse_long_name(target)
    refuse_full_disk(Counter(target.parent for target in targets))
    for grid in grids:
        _ = grid.format  # refuses an unknown suffix
        if size is not None:
            grid.refuse_beyond(size)
    if folders := sorted(target for target in targets if target.is_dir()):
        raise OutputError(f"{folders[0]} is a folder", hint="add a / to its name")
    table = JobTable(ledger)
    table.fill(_place(grid, shard) for grid in grids)
    failed = {} if ledger is None else ledger.settle(table)
    refuse_or_skip_existing(table, existing, "choose another place with -o")
    return GridPlan(
        [
            (number, replace(grids[number - 1], replaces=job.replaces))
            for number, job in table.jobs("open").numbered()
        ],
        [grids[number - 1] for number, _ in table.jobs("skipped").numbered()],
        [(grids[number - 1], item.error) for number, item in failed.items()],
        existing,
        ledger,
    )


def _place(grid: Grid, shard: Shard | None) -> Place:
    """Return a grid as a job, and what the file system says about its target."""
    state: State = "open" if shard is None or shard.takes(grid.item) else "elsewhere"
    job = Job(Path(grid.item), grid.target, grid.format)
    if isinstance(grid.target, Standard):
        return Place(state, job, grid.item, None, None, None, None, None, None)
    folder, name = os.path.split(grid.target)
    result = os.path.join(os.path.realpath(folder), name)
    present = "" if os.path.lexists(grid.target) else None
    everywhere = name_everywhere(grid.target)
    return Place(state, job, grid.item, result, everywhere, None, present, len(grid.images), 0)


def refuse_empty(prompts: Sequence[str], output: str | None) -> None:
    """Raise UsageError for no prompt, and for an empty prompt or output."""
    if not prompts:
        raise UsageError("no prompt", hint="name a class, one of: restore generate --list-classes")
    if "" in prompts or output == "":
        raise UsageError("a prompt or -o is empty", hint="perhaps a variable is not set")


def _grids(
    prompts: Sequence[str], output: str | None, seeds: Sequence[int], model: str
) -> list[Grid]:
    def one_for(prompt: str, target: Path) -> Grid:
        images = tuple((prompt, seed) for seed in seeds)
        return Grid(images, columns_for(len(images)), target)

    if output is None:
        return [one_for(prompt, Path(f"{file_name(prompt)}.png")) for prompt in prompts]
    path = Path(os.path.expanduser(output))
    if "{" in output and not path.is_dir():
        if not re.search(r"\{(index|seed)\b", output):
            return [
                one_for(prompt, _filled(output, prompt, number, 0, seeds[0], model))
                for number, prompt in enumerate(prompts, start=1)
            ]
        return [
            Grid(((prompt, seed),), 1, _filled(output, prompt, number, index, seed, model))
            for number, prompt in enumerate(prompts, start=1)
            for index, seed in enumerate(seeds)
        ]
    if output.endswith(("/", os.sep)) or path.is_dir():
        return [
            Grid(((prompt, seed),), 1, path / f"{file_name(prompt)}_{seed}.png")
            for prompt in prompts
            for seed in seeds
        ]
    images = tuple((prompt, seed) for prompt in prompts for seed in seeds)
    target = Standard.OUTPUT if output == "-" else path
    return [Grid(images, columns_of(len(prompts), len(seeds)), target)]


def columns_of(prompts: int, seeds: int) -> int:
    """Return the columns of a grid of all prompts and seeds: a row per prompt, or nearly square."""
    return seeds if prompts > 1 and seeds > 1 else columns_for(prompts * seeds)


def file_name(prompt: str) -> str:
    """Return a prompt as a part of a file name that every system takes."""
    plain = re.sub(r"[^\w]+", "-", prompt, flags=re.UNICODE).strip("-_")
    return plain[:LONGEST_NAME].rstrip("-_") or "image"


def _filled(template: str, prompt: str, number: int, index: int, seed: int, model: str) -> Path:
    values: Mapping[str, object] = {
        "prompt": file_name(prompt),
        "number": number,
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
    names: set[str] = set()
    for target in targets:
        name = name_everywhere(target)
        if name in names:
            raise OutputCollision(
                f"two images would be written to {target}",
                hint="use distinct names, for example -o 'out/{number}_{seed}.png'",
            )
        names.add(name)
