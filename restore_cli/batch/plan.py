"""A list of jobs from sources and an output; every refusal comes before any work."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shlex
import stat
import string
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from restore_cli.batch.jobs import Job as Job
from restore_cli.batch.jobs import Jobs, JobTable, Place, State
from restore_cli.batch.jobs import Standard as Standard
from restore_cli.batch.jobs import Unreadable as Unreadable
from restore_cli.batch.needs import Need, need_of, refuse_little_disk, refuse_little_memory
from restore_cli.errors import (
    FetchError,
    InputError,
    NothingToDo,
    OutputCollision,
    OutputError,
    OutputExists,
    RestoreError,
    UnreadableImage,
    UsageError,
)
from restore_cli.files import free_space
from restore_cli.imaging.formats import (
    CONTAINERS,
    READABLE_SUFFIXES,
    SUFFIX_OF,
    SUFFIXES,
    VIDEO_SUFFIXES,
    Format,
    container_of,
    format_of,
    is_container,
    is_lossy,
    refuse_beyond,
    refuse_hdr,
)
from restore_cli.imaging.headers import Header, read_header
from restore_cli.inference.options import ImageSize
from restore_cli.memory import Room, room
from restore_cli.storage import (
    Entry,
    Location,
    Objects,
    Url,
    entries,
    find,
    is_url,
    location,
    matching,
)
from restore_cli.tasks import TASKS

if TYPE_CHECKING:
    from restore_cli.batch.ledger import Ledger

Existing = Literal["error", "overwrite", "skip"]

# Endings of the names of outputs; `run` does several tasks.
PARTICIPLES = {str(task.name): task.participle for task in TASKS.values()} | {"run": "restored"}
FIELDS = ("stem", "ext", "task", "model", "scale", "rel", "suffix", "parent", "folder", "hash")
BESIDE = "{folder}/"  # begins a template of outputs beside their sources
BY_SCALE = f"{BESIDE}{{stem}}_x{{scale}}{{ext}}"  # keeps enlargements of one image apart
# Names that keep apart sources of one stem, in the order in which they are tried.
DISTINCT = ("{stem}", "{stem}_{suffix}", "{parent}_{stem}", "{parent}_{stem}_{suffix}")
ALWAYS_DISTINCT = "{stem}_{hash}"
LISTED_AT_MOST = 3  # files in one message
TAKEN = "state = 'open' AND present IS NOT NULL AND NOT replaces"
ELSEWHERE = "choose another output with -o"


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
class _Found:
    """A source, and the folder whose tree is mirrored in the output folder."""

    source: Location | Standard
    root: Location
    status: os.stat_result | Entry | None = None

    @property
    def path(self) -> Location:
        """Path for naming: stdin counts as a file of that name."""
        return self.root / self.source.value if isinstance(self.source, Standard) else self.source

    @property
    def inside(self) -> str:
        """Path below the root."""
        if isinstance(self.source, Url) and isinstance(self.root, Url):
            return self.source.below(self.root)
        text, root = str(self.path), str(self.root)
        return text if root == "." else text[len(root) :].lstrip(os.sep)

    @cached_property
    def is_video(self) -> bool:
        return is_video(self.path.name)


@dataclass(frozen=True)
class _PassedOver:
    """A file of a folder or a glob that is no image or video by its name."""

    suffix: str


_Item = _Found | Unreadable | _PassedOver


@dataclass(frozen=True)
class Shard:
    """One of several parts of the sources, the same on every machine."""

    number: int  # from 1
    count: int

    def __contains__(self, found: _Found) -> bool:
        inside = unicodedata.normalize("NFC", found.inside.replace(os.sep, "/"))
        digest = zlib.crc32(os.fsencode(inside))
        return digest % self.count == self.number - 1


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
    naming = _Naming(task, model, str(scale), output, format)
    passed_over: Counter[str] = Counter()
    items = _items(sources, naming, recursive, passed_over)
    first = list(islice(items, 2))
    watching = ledger is not None and ledger.watching
    if not first and not watching:
        known = f"known suffixes: {' '.join(sorted(READABLE_SUFFIXES | VIDEO_SUFFIXES))}"
        wider = known if recursive else "--recursive includes subfolders"
        raise NothingToDo(
            f"no image or video in {', '.join(map(_shown, sources))}",
            hint=f"{describe_passed_over(passed_over)}; {known}" if passed_over else wider,
        )
    if "-" in sources and len(first) > 1:
        raise UsageError("- (stdin) cannot be mixed with other sources", hint="give it alone")
    unreadable: list[Unreadable] = []
    places = _Places(naming, alone=len(first) == 1 and not watching)
    table = JobTable(ledger)
    table.fill(places.of(_readable(chain(first, items), unreadable), shard))
    if ledger is not None:
        unreadable += ledger.settle(table)
    if watching:
        unreadable += _set_aside(table, existing)
    _refuse_collisions(table, naming, partial(_items, sources, naming, recursive, Counter()))
    _refuse_unwritable_folders(map(Path, places.folders))
    if existing == "error" and (count := table.count(TAKEN)):
        some = [target for _, target, _ in table.first(TAKEN, LISTED_AT_MOST)]
        raise OutputExists(
            f"already exists: {_some(some, count)}",
            hint=f"add --overwrite or --skip-existing, or {ELSEWHERE}"
            + (f", for example -o '{BY_SCALE}'" if output is None and scale != SAME_SIZE else ""),
        )
    if existing == "skip":
        table.change(TAKEN, "skipped")
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
    sources: Sequence[str], naming: _Naming, recursive: bool, passed_over: Counter[str]
) -> Iterator[_Found | Unreadable]:
    """Yield what `sources` stand for, and count the files of other kinds."""
    for text in sources:
        for item in _expand(text, naming, recursive):
            if isinstance(item, _PassedOver):
                passed_over[item.suffix] += 1
            else:
                yield item


def _readable(
    items: Iterable[_Found | Unreadable], unreadable: list[Unreadable]
) -> Iterator[_Found]:
    """Yield the sources, and append the others to `unreadable`."""
    for item in items:
        if isinstance(item, Unreadable):
            unreadable.append(item)
        else:
            yield item


def describe_passed_over(counts: Mapping[str, int]) -> str:
    """Return the message about files of folders and globs that are no image or video."""
    total = sum(counts.values())
    kinds = ", ".join(
        suffix if len(counts) == 1 else f"{suffix} {count}"
        for suffix, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )
    if total == 1:
        return f"1 file of another kind ({kinds}) was passed over"
    return f"{total} files of other kinds ({kinds}) were passed over"


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

    @cached_property
    def chosen(self) -> Location:
        """Place of the outputs. Raises UsageError."""
        return _path(self.output or "")

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
        known = {"task": self.ending, "scale": r"[\d.x]+", "ext": r"\.[^.]*", "": ""}
        parts = string.Formatter().parse(template)
        words = (re.escape(text) + known.get(name or "", "(?s:.+)") for text, name, _, _ in parts)
        return re.compile("".join(words))

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
        if isinstance(target, Url) and target.is_web:
            raise UsageError(f"{target}: web servers take no outputs", hint="add -o FOLDER")
        format = container_of(target) if found.is_video else format_of(target)
        if self.format not in (None, format) and not found.is_video:
            raise UsageError(
                f"{target.name} is {format}, but --format says {self.format}",
                hint="leave one of them out, or write {ext} for the suffix",
            )
        return Job(found.source, target, format)

    def _target(self, found: _Found, alone: bool) -> Location:
        path, chosen = found.path, self.chosen
        if self.output is None:
            return path.with_name(f"{path.stem}_{self.ending}{self._suffix(found)}")
        if "{" in self.output and not _is_folder(chosen):
            return self._fill_template(self.output, found)
        if self._names_folder(chosen, alone):
            return chosen / (os.path.splitext(found.inside)[0] + self._suffix(found))
        if not alone:
            raise UsageError(
                f"-o {_shown(self.output)} is one file, but there are several sources",
                hint="name a folder, for example -o out/",
            )
        return chosen

    def _names_folder(self, chosen: Location, alone: bool) -> bool:
        looks_so = str(self.output).endswith(("/", os.sep)) or not chosen.suffix
        if looks_so or _is_folder(chosen):
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

    def _fill_template(self, template: str, found: _Found) -> Location:
        path = found.path
        real = str(path) if isinstance(path, Url) else os.path.realpath(path)
        values = (
            path.stem,
            self._suffix(found) if "{ext}" in template else "",
            self.ending,
            self.model,
            self.scale,
            Path(found.inside).parent.as_posix(),
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
                f"-o {_shown(template)}: {error}",
                hint=f"fields: {' '.join('{' + name + '}' for name in FIELDS)}",
            ) from error
        return _path(filled)

    def distinct(self, name: str, found: Sequence[_Found]) -> str:
        """Return a template like the output, whose names are `name` in place of {stem}."""
        folder: Location
        if self.output is None:
            roots = {item.root for item in found}
            folder, ending = (roots.pop() if len(roots) == 1 else Path("out")), "_{task}{ext}"
        elif "{stem}" in self.output:
            return self.output.replace("{stem}", name)
        elif "{" in self.output and not _is_folder(self.chosen):
            given = location(self.output)
            folder, ending = given.parent, given.suffix or "{ext}"
            return str(folder / f"{name}{ending}")
        else:
            folder, ending = location(self.output), "{ext}"
        plain = location(str(folder).replace("{", "{{").replace("}", "}}"))
        is_deep = any("/" in item.inside.replace(os.sep, "/") for item in found)
        return str(plain / ("{rel}" if is_deep else "") / f"{name}{ending}")


def _path(text: str) -> Location:
    """Return a URL, or a path with ~ expanded to the home folder. Raises UsageError.

    ~name of an unknown user stays.
    """
    return location(os.path.expanduser(text))


def _shown(text: str) -> str:
    """Return the text of a source without its secrets."""
    return str(location(text)) if is_url(text) else text


def _is_folder(path: Location) -> bool:
    """Return whether a local folder exists; stores have none."""
    return isinstance(path, Path) and os.path.isdir(path)


def is_video(name: str) -> bool:
    """Return whether a file counts as a video, by its suffix."""
    return _suffix_of(name) in VIDEO_SUFFIXES


def is_source(name: str) -> bool:
    """Return whether a file of a folder is a source: visible, with a known suffix.

    Not .ts, which is a video by name only: TypeScript programs have the same suffix.
    """
    suffix = _suffix_of(name)
    known = suffix in READABLE_SUFFIXES or (suffix in VIDEO_SUFFIXES and suffix != ".ts")
    return known and not name.startswith(".")


def _expand(text: str, naming: _Naming, recursive: bool) -> Iterator[_Item]:
    if text == "-":
        yield _Found(Standard.INPUT, Path())
        return
    path = _path(text)
    if isinstance(path, Url):
        yield from _in_store(path, naming, recursive)
        return
    try:
        if path.is_dir():
            yield from _in_folder(path, naming, recursive)
        elif path.exists():
            yield _file(path, path.parent)
        elif glob.has_magic(text):
            yield from _matching(str(path), naming)
        else:
            yield Unreadable(text, UnreadableImage(f"{text}: no such file", hint="check the name"))
    except OSError as error:  # no permission for a folder, or a name that is too long
        yield Unreadable(text, UnreadableImage(f"{text}: {error.strerror}"))


def _file(path: Path, root: Path) -> _Found | Unreadable:
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
    return _Found(path, root, status)


def _in_store(url: Url, naming: _Naming, recursive: bool) -> Iterator[_Item]:
    """Yield the object of a URL, those that match a glob, or those of a folder.

    Raises MissingExtra.
    """
    try:
        found = find(url) if url.name else None
        if found is not None:
            yield _Found(url, url.parent, found)
        elif url.is_web:
            yield Unreadable(
                str(url), UnreadableImage(f"{url}: no such file", hint="check the URL")
            )
        else:
            yield from _in_listing(url, naming, recursive)
    except (InputError, FetchError) as error:
        yield Unreadable(str(url), error)


def _in_listing(url: Url, naming: _Naming, recursive: bool) -> Iterator[_Item]:
    """Yield the sources of a folder or a glob, without earlier outputs and the output folder."""
    is_glob = glob.has_magic(url.address)
    output = naming.chosen
    root, listed = matching(url) if is_glob else (url, entries(url, recursive=recursive))
    is_empty = True
    for entry in listed:
        is_empty = False
        name = entry.url.name
        if isinstance(output, Url) and output.is_below(root) and entry.url.is_below(output):
            continue
        if not is_source(name):
            yield _PassedOver(_suffix_of(name))
        elif not _is_own_output(name, naming):
            yield _Found(entry.url, root, entry)
    if is_empty and is_glob:
        nothing = NothingToDo(f"no image or video matches {url}", hint="check folder and suffix")
        yield Unreadable(str(url), nothing)
    elif is_empty and next(entries(url, recursive=True), None) is None:
        missing = UnreadableImage(f"{url}: no such object or folder", hint="check the name")
        yield Unreadable(str(url), missing)


def _in_folder(folder: Path, naming: _Naming, recursive: bool) -> Iterator[_Item]:
    """Yield the sources of a folder, without earlier outputs and without the output folder."""
    failures: list[OSError] = []
    output = _path(naming.output or "")
    beyond = os.path.realpath(output) if naming.output and isinstance(output, Path) else None
    for parent, folders, names in os.walk(folder, onerror=failures.append):
        visible = sorted(name for name in folders if recursive and not name.startswith("."))
        folders[:] = [
            name for name in visible if os.path.realpath(os.path.join(parent, name)) != beyond
        ]
        for name in sorted(names):
            if is_source(name):
                if not _is_own_output(name, naming):
                    yield _file(Path(parent, name), folder)
            elif not name.startswith("."):
                yield _PassedOver(_suffix_of(name))
    for failure in failures:
        name = str(failure.filename)
        yield Unreadable(name, UnreadableImage(f"{name}: {failure.strerror}"))


def _suffix_of(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "no suffix"


def _matching(pattern: str, naming: _Naming) -> Iterator[_Item]:
    """Yield the images and videos that match a glob.

    A folder of that very name is meant before the names that its brackets would match.
    """
    root, rest = Path(), Path(pattern).parts
    while rest and (not glob.has_magic(rest[0]) or os.path.lexists(root / rest[0])):
        root, rest = root / rest[0], rest[1:]
    paths = _glob(root, rest) or _glob(root, [part.replace("[", "[[]") for part in rest])
    sources = [path for path in paths if is_source(path.name)]
    others = [path for path in paths if not is_source(path.name) and os.path.isfile(path)]
    yield from (_PassedOver(_suffix_of(path.name)) for path in others if path.name[0] != ".")
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
        if not _is_own_output(path.name, naming) and not path.is_dir():
            yield _file(path, root)


def _glob(root: Path, parts: Sequence[str]) -> list[Path]:
    """Return the paths below a folder of any name that match the parts of a glob."""
    if not parts:
        return []
    pattern = os.path.join(glob.escape(str(root)) if root.parts else "", *parts)
    return [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]


def _is_own_output(name: str, naming: _Naming) -> bool:
    """Return whether a file beside the sources is an output of an earlier run."""
    return naming.own_names is not None and naming.own_names.fullmatch(name) is not None


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

    def __init__(self, naming: _Naming, *, alone: bool):
        self._naming = naming
        self._alone = alone
        self._real: dict[str, str] = {}  # folder -> the same without links
        self._objects = Objects()
        self.folders: set[str] = set()  # of targets

    def of(self, items: Iterable[_Found], shard: Shard | None = None) -> Iterator[Place]:
        """Yield the places of the sources, also of other shards. Raises as `_Naming.job`."""
        for found in items:
            state: State = "open" if shard is None or found in shard else "elsewhere"
            yield self._place(state, found, self._naming.job(found, alone=self._alone))

    def _place(self, state: State, found: _Found, job: Job) -> Place:
        origin = result = name = present = file = size = mtime = None
        if isinstance(job.target, Path):
            self.folders.add(os.path.dirname(job.target))
            present = _identity(job.target)
            result = self._without_links(job.target)
            is_link = present is not None and os.path.islink(job.target)
            name = name_everywhere(job.target) if is_link else _same_everywhere(result)
        elif isinstance(job.target, Url):
            exists = find(job.target) if self._alone else job.target in self._objects
            present = job.target.address if exists else None
            result, name = str(job.target), job.target.address
        if isinstance(found.status, Entry):
            origin, file = str(job.source), found.status.url.address
            size, mtime = found.status.size, found.status.modified
        elif found.status is not None and isinstance(job.source, Path):
            origin = self._without_links(job.source)
            file = f"{found.status.st_dev}:{found.status.st_ino}"
            size, mtime = found.status.st_size, found.status.st_mtime_ns
        return Place(state, job, origin, result, name, file, present, size, mtime)

    def _without_links(self, path: Path) -> str:
        """Return the path with the real path of its folder."""
        folder, name = os.path.split(path)
        real = self._real.get(folder)
        if real is None:
            real = self._real[folder] = os.path.realpath(folder)
        return os.path.join(real, name)


def _refuse_collisions(
    table: JobTable, naming: _Naming, again: Callable[[], Iterable[_Found | Unreadable]]
) -> None:
    """Refuse two outputs in one file, and an output that replaces a source.

    again: gives the sources once more; the hint is a template that has been tried on them.
    Raises OutputCollision.
    """
    collision = _collision(table)
    if collision is None:
        return
    if collision.hint is None:
        found = [item for item in again() if isinstance(item, _Found)]
        for name in (*DISTINCT, ALWAYS_DISTINCT):
            other = replace(naming, output=naming.distinct(name, found))
            attempt = JobTable()
            try:
                attempt.fill(_Places(other, alone=False).of(found))
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


def _identity(target: Path) -> str | None:
    """Return device and inode of a file, the same through any link.

    Empty for a broken link, None where there is nothing. Raises OutputError for a folder.
    """
    try:
        status = os.lstat(target)
    except (OSError, ValueError):
        return None
    if stat.S_ISLNK(status.st_mode):
        try:
            status = os.stat(target)
        except OSError:
            return ""
    if stat.S_ISDIR(status.st_mode):
        raise OutputError(f"{target} is a folder", hint=ELSEWHERE)
    return f"{status.st_dev}:{status.st_ino}"


def name_everywhere(path: Path) -> str:
    """Return a key equal for names that some file system takes for one: by case or accents."""
    return _same_everywhere(os.path.realpath(path))


def _same_everywhere(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def refuse_unwritable(targets: Sequence[Path]) -> None:
    """Refuse targets in folders that cannot be written. Raises OutputError."""
    _refuse_unwritable_folders({target.parent for target in targets})


def _refuse_unwritable_folders(folders: Iterable[Path]) -> None:
    for folder in folders:
        nearest = _nearest(folder)
        if not os.path.isdir(nearest):
            raise OutputError(f"{nearest} is not a folder", hint=ELSEWHERE)
        if not os.access(nearest, os.W_OK):
            raise OutputError(f"{nearest}: no write permission", hint=ELSEWHERE)


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists; a broken link counts."""
    return next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))


def refuse_long_name(target: Path) -> None:
    """Refuse a path that is longer than its file system allows. Raises OutputError."""
    whole = os.fsencode(os.path.abspath(target))
    names = os.fsencode(target).split(os.fsencode(os.sep))
    lengths = {"NAME": max(map(len, names)), "PATH": len(whole)}
    for kind, limit in _limits(os.path.dirname(whole)).items():
        if 0 < limit < lengths[kind]:
            raise OutputError(
                f"{target}: the {kind.lower()} of the output is too long; the limit is "
                f"{limit} bytes",
                hint="choose a shorter one with -o, for example -o 'out/{hash}{ext}'",
            )


@lru_cache(maxsize=1000)
def _limits(folder: bytes) -> Mapping[str, int]:
    """Return the most bytes of a name and of a path in a folder, where they are known."""
    if not hasattr(os, "pathconf"):
        return {}
    nearest = _nearest(Path(os.fsdecode(folder)))
    return {kind: os.pathconf(nearest, f"PC_{kind}_MAX") for kind in ("NAME", "PATH")}


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
            header = _header_of(job)
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


def _header_of(job: Job) -> Header | None:
    """Return the header of a source; None if it is not known. Raises InputError."""
    return read_header(job.source) if isinstance(job.source, Path) else None


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
        refuse_little_disk(job.target, _nearest(job.target.parent), need.disk)
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


def refuse_full_disk(needs: Mapping[Path, int]) -> None:
    """Refuse results for which a disk has no room. Raises OutputError.

    needs: at least so many bytes go into each folder.
    """
    by_disk: Counter[int] = Counter()
    for folder, least in needs.items():
        nearest = _nearest(folder)
        disk = nearest.stat().st_dev
        by_disk[disk] += least
        free = free_space(nearest)
        if free is not None and by_disk[disk] > free:
            raise OutputError(
                f"{folder}: {free:,} bytes are free, but the results need at least "
                f"{by_disk[disk]:,}",
                hint=f"make room, or {ELSEWHERE}",
            )


def is_taken(target: Location | Standard) -> bool:
    """Return whether a target exists, if only as a broken link."""
    if isinstance(target, Url):
        return find(target) is not None
    return isinstance(target, Path) and os.path.lexists(target)


def _some(names: Sequence[str], count: int) -> str:
    """List the first few names and the number of the others."""
    more = count - LISTED_AT_MOST
    return f"{', '.join(names)} and {more} more" if more > 0 else ", ".join(names)
