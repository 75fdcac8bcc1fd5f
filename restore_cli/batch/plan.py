"""Plan of jobs from sources and an output; every refusal comes before any work."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from restore_cli.batch.jobs import Job, Jobs, JobTable, Place, Standard, State, Unreadable
from restore_cli.batch.naming import ALWAYS_DISTINCT, BY_SCALE, DISTINCT, Naming
from restore_cli.batch.needs import Need, need_of, refuse_little_disk, refuse_little_memory
from restore_cli.batch.sources import (
    PassedOver,
    Shard,
    Source,
    describe_passed_over,
    expand,
    shown,
)
from restore_cli.batch.targets import (
    ELSEWHERE,
    identity_of,
    name_everywhere,
    nearest_existing,
    refuse_full_disk,
    refuse_long_name,
    refuse_unwritable_folders,
    same_everywhere,
)
from restore_cli.errors import (
    NothingToDo,
    OutputCollision,
    OutputError,
    OutputExists,
    RestoreError,
    UsageError,
)
from restore_cli.imaging.formats import (
    READABLE_SUFFIXES,
    VIDEO_SUFFIXES,
    Format,
    is_container,
    is_lossy,
    refuse_beyond,
    refuse_hdr,
)
from restore_cli.imaging.headers import Header, read_header
from restore_cli.inference.options import ImageSize
from restore_cli.memory import Room, room
from restore_cli.storage import Entry, Objects, Url, find

if TYPE_CHECKING:
    from restore_cli.batch.ledger import Ledger

Existing = Literal["error", "overwrite", "skip"]

LISTED_AT_MOST = 3  # files in one message
TAKEN = "state = 'open' AND present IS NOT NULL AND NOT replaces"


@dataclass(frozen=True)
class Plan:
    """Jobs to do, jobs skipped because their targets exist, and sources that fail already.

    passed_over: number of files of folders and globs that are no image or video, by suffix.
    large: what images that are not held in memory take, by source.
    """

    jobs: Jobs
    skipped: Jobs
    again: Callable[[], Plan]  # the same plan of the files that there are then
    unreadable: tuple[Unreadable, ...] = ()
    existing: Existing = "error"
    passed_over: Mapping[str, int] = field(default_factory=dict)
    large: Mapping[str, Need] = field(default_factory=dict)
    ledger: Ledger | None = None

    def __len__(self) -> int:
        return len(self.jobs) + len(self.skipped) + len(self.unreadable)


@dataclass(frozen=True)
class Enlargement:
    """Size of the results: the size of the source times a factor, or a size of its own."""

    factor: float = 1.0
    size: ImageSize | None = None

    def of(self, height: int, width: int) -> tuple[int, int]:
        if self.size is not None:
            return self.size.of(height, width)
        return round(height * self.factor), round(width * self.factor)

    def __str__(self) -> str:
        return f"{self.factor:g}" if self.size is None else str(self.size)


SAME_SIZE = Enlargement()


def plan(
    sources: Sequence[str],
    output: str | None,
    *,
    task: str,
    model: str,
    scale: Enlargement = SAME_SIZE,
    recursive: bool = False,
    format: Format | None = None,
    existing: Existing = "error",
    shard: Shard | None = None,
    ledger: Ledger | None = None,
) -> Plan:
    """Plan the jobs for `sources`: files, folders, globs, or "-" alone for stdin.

    output: None (beside each source), "-" (stdout), a file, a folder, or a template.
    task, model: text for the fields of a template. format: of images, not of videos.
    Folders give their visible images and videos, with `recursive` also those of their subfolders;
    links to folders are not followed. A source that is missing or whose header shows that it
    cannot be restored becomes `unreadable`; the rest is planned.
    Raises NothingToDo, UsageError, OutputCollision, OutputExists, OutputError.
    """
    if "" in sources or output == "":
        raise UsageError(
            "a source is empty" if "" in sources else "-o is empty",
            hint="check for an unset variable in your script",
        )
    naming = Naming(task, model, str(scale), output, format)
    passed_over: Counter[str] = Counter()
    items = _items(sources, naming, recursive, passed_over)
    first = list(islice(items, 2))
    watching = ledger is not None and ledger.watching
    if not first and not watching:
        suffixes = f"known suffixes: {' '.join(sorted(READABLE_SUFFIXES | VIDEO_SUFFIXES))}"
        advice = suffixes if recursive else "--recursive includes subfolders"
        raise NothingToDo(
            f"no image or video in {', '.join(map(shown, sources))}",
            hint=f"{describe_passed_over(passed_over)}; {suffixes}" if passed_over else advice,
        )
    if "-" in sources and len(first) > 1:
        raise UsageError("- (stdin) cannot be mixed with other sources", hint="give it alone")
    unreadable: list[Unreadable] = []
    places = _Places(naming, alone=len(first) == 1 and not watching)
    table = JobTable(ledger)
    table.fill(places.of(_readable(chain(first, items), unreadable), shard))
    if ledger is not None:
        unreadable += ledger.settle(table).values()
    if watching:
        unreadable += _set_aside(table, existing)
    _refuse_collisions(table, naming, partial(_items, sources, naming, recursive, Counter()))
    refuse_unwritable_folders(map(Path, places.folders))
    by_scale = output is None and scale != SAME_SIZE
    example = f", for example -o '{BY_SCALE}'" if by_scale else ""
    refuse_or_skip_existing(table, existing, f"{ELSEWHERE}{example}")
    large: dict[str, Need] = {}
    if ledger is None:  # which is for so many that their headers are not read beforehand
        unreadable += _by_header(table, scale, task, large)
    return Plan(
        jobs=table.jobs("open"),
        skipped=table.jobs("skipped"),
        unreadable=tuple(unreadable),
        existing=existing,
        passed_over=passed_over,
        large=large,
        ledger=ledger,
        again=partial(
            plan,
            sources,
            output,
            task=task,
            model=model,
            scale=scale,
            recursive=recursive,
            format=format,
            existing=existing,
            shard=shard,
            ledger=ledger,
        ),
    )


def _items(
    sources: Sequence[str], naming: Naming, recursive: bool, passed_over: Counter[str]
) -> Iterator[Source | Unreadable]:
    """Yield what `sources` stand for, and count the files of other kinds."""
    for text in sources:
        for item in expand(text, naming.own_outputs, recursive):
            if isinstance(item, PassedOver):
                passed_over[item.suffix] += 1
            else:
                yield item


def _readable(
    items: Iterable[Source | Unreadable], unreadable: list[Unreadable]
) -> Iterator[Source]:
    """Yield the sources, and append the others to `unreadable`."""
    for item in items:
        if isinstance(item, Unreadable):
            unreadable.append(item)
        else:
            yield item


def contains_videos(
    sources: Sequence[str], output: str | None, *, task: str, recursive: bool = False
) -> bool:
    """Return whether `plan` would find a video among the same sources."""
    naming = Naming(task, model="", scale="", output=output, format=None)
    items = (item for text in sources for item in expand(text, naming.own_outputs, recursive))
    return any(isinstance(item, Source) and item.is_video for item in items)


def _set_aside(table: JobTable, existing: Existing) -> list[Unreadable]:
    """Take out what a plan refuses, so that it does not end a run that is watching."""
    condition = f"other IS NOT NULL OR ({TAKEN})" if existing == "error" else "other IS NOT NULL"
    refused: list[Unreadable] = []
    for source, target, other in table.first(condition, -1):
        error: OutputError = OutputExists(f"already exists: {target}")
        if other is not None:
            error = OutputCollision(f"{source} and {other} would both become {target}")
        refused += [Unreadable(name, error) for name in (source, other) if name is not None]
    table.change(condition, "failed")
    return refused


class _Places:
    """Jobs of sources, and what the file system says about them."""

    def __init__(self, naming: Naming, *, alone: bool):
        self._naming = naming
        self._alone = alone
        self._real: dict[str, str] = {}  # folder -> the same without links
        self._objects = Objects()
        self.folders: set[str] = set()  # of targets

    def of(self, sources: Iterable[Source], shard: Shard | None = None) -> Iterator[Place]:
        """Yield the places of the sources, also of other shards. Raises as `Naming.job`."""
        for source in sources:
            state: State = "open" if shard is None or shard.takes(source.relative) else "elsewhere"
            yield self._place(state, source, self._naming.job(source, alone=self._alone))

    def _place(self, state: State, source: Source, job: Job) -> Place:
        origin = result = name = present = file = size = mtime = None
        if isinstance(job.target, Path):
            self.folders.add(os.path.dirname(job.target))
            present = identity_of(job.target)
            result = self._without_links(job.target)
            is_link = present is not None and os.path.islink(job.target)
            name = name_everywhere(job.target) if is_link else same_everywhere(result)
        elif isinstance(job.target, Url):
            exists = find(job.target) if self._alone else job.target in self._objects
            present = job.target.address if exists else None
            result, name = _of_object(job.target), job.target.address
        if isinstance(source.status, Entry):
            origin, file = _of_object(source.status.url), source.status.url.address
            size, mtime = source.status.size, source.status.modified
        elif source.status is not None and isinstance(job.source, Path):
            origin = self._without_links(job.source)
            file = f"{source.status.st_dev}:{source.status.st_ino}"
            size, mtime = source.status.st_size, source.status.st_mtime_ns
        return Place(state, job, origin, result, name, file, present, size, mtime)

    def _without_links(self, path: Path) -> str:
        """Return the path with the real path of its folder."""
        folder, name = os.path.split(path)
        real = self._real.get(folder)
        if real is None:
            real = self._real[folder] = os.path.realpath(folder)
        return os.path.join(real, name)


def _of_object(url: Url) -> str:
    """Return a URL without its secrets, and distinct for each object of a store."""
    shown = str(url)
    if url.is_web or shown == url.address:
        return shown
    return f"{shown}#{hashlib.sha256(os.fsencode(url.address)).hexdigest()[:8]}"


def _refuse_collisions(
    table: JobTable, naming: Naming, again: Callable[[], Iterable[Source | Unreadable]]
) -> None:
    """Refuse two outputs in one file, and an output that replaces a source.

    again: gives the sources once more; the hint is a template that has been tried on them.
    Raises OutputCollision.
    """
    collision = _collision(table)
    if collision is None:
        return
    if collision.hint is None:
        sources = [item for item in again() if isinstance(item, Source)]
        for name in (*DISTINCT, ALWAYS_DISTINCT):
            other = replace(naming, output=naming.distinct(name, sources))
            attempt = JobTable()
            try:
                attempt.fill(_Places(other, alone=False).of(sources))
            except (UsageError, OutputError):
                continue
            if _collision(attempt) is None:
                collision.hint = f"keep them apart: -o {shlex.quote(str(other.output))}"
                break
    raise collision


def _collision(table: JobTable) -> OutputCollision | None:
    """Return the first collision; that of two sources without a hint."""
    for source, target, other in table.first("other IS NOT NULL"):
        return OutputCollision(f"{source} and {other} would both become {target}")
    if found := table.replaced_source():
        target, source = found
        return OutputCollision(
            f"{target} is a source: {source}",
            hint=f"sources are never replaced: leave it out, or {ELSEWHERE}",
        )
    return None


def _by_header(
    table: JobTable, scale: Enlargement, task: str, large: dict[str, Need]
) -> list[Unreadable]:
    """Sort out the jobs that must fail, from the headers of their sources and their targets.

    large: gets the needs of images that are not held in memory.
    Raises OutputError if the results cannot fit on the disk.
    """
    impossible: dict[int, Unreadable] = {}
    needs: Counter[Path] = Counter()
    free = room()
    for number, job in table.jobs("open").numbered():
        try:
            header = read_header(job.source) if isinstance(job.source, Path) else None
            if isinstance(job.target, Path):
                refuse_long_name(job.target)
                needs[job.target.parent] += _least_bytes(job, header, scale)
            if header is not None and not is_container(job.format):
                refuse_beyond(cast(Format, job.format), *scale.of(header.height, header.width))
                refuse_hdr(cast(Format, job.format), header.hdr, name=str(job.source))
                need = _need(job, header, scale, task, free)
                table.keep_size(number, header.size)
                if need.disk:
                    large[str(job.source)] = need
        except RestoreError as error:
            if not error.message.startswith(str(job.source)):
                error = type(error)(f"{job.source}: {error.message}", hint=error.hint)
            impossible[number] = Unreadable(str(job.source), error)
    table.mark(impossible, "failed")
    refuse_full_disk(needs)
    return list(impossible.values())


def _need(job: Job, header: Header, scale: Enlargement, task: str, free: Room) -> Need:
    """Return what an image takes. Raises OutOfMemory, OutputError if there is too little."""
    assert isinstance(job.source, Path)  # it has a header
    need = need_of(
        header,
        job.source.stat().st_size,
        cast(Format, job.format),
        scale.of(header.height, header.width),
        task=task,
        piped=isinstance(job.target, Standard),
    )
    refuse_little_memory(str(job.source), header, need, free)
    if need.disk and isinstance(job.target, Path):
        refuse_little_disk(job.target, nearest_existing(job.target.parent), need.disk)
    return need


def _least_bytes(job: Job, header: Header | None, scale: Enlargement) -> int:
    """Return a lower bound of the space that a result takes, from the density of its source.

    A file as dense as its source is usual. Better compression leaves an eighth of it; a fiftieth
    where the source is not compressed or the result is lossy. A replaced file gives its space back.
    """
    assert isinstance(job.target, Path)
    if header is None or not isinstance(job.source, Path) or is_container(job.format):
        return 1
    height, width = scale.of(header.height, header.width)
    growth = height * width / (header.height * header.width)
    from_jpeg, from_png = header.still.name == "JPEG", header.still.name == "PNG"
    is_dense = from_jpeg or (from_png and not is_lossy(job.format))
    freed = job.target.stat().st_size if job.target.is_file() else 0
    least = job.source.stat().st_size * growth / (8 if is_dense else 50)
    return max(1, round(least) - freed)


def refuse_or_skip_existing(table: JobTable, existing: Existing, advice: str) -> None:
    """Refuse or skip the jobs whose targets exist. Raises OutputExists; advice: for its hint."""
    if existing == "error" and (count := table.count(TAKEN)):
        named = ", ".join(target for _, target, _ in table.first(TAKEN, LISTED_AT_MOST))
        more = f" and {count - LISTED_AT_MOST} more" if count > LISTED_AT_MOST else ""
        raise OutputExists(
            f"already exists: {named}{more}",
            hint=f"add --overwrite or --skip-existing, or {advice}",
        )
    if existing == "skip":
        table.change(TAKEN, "skipped")
