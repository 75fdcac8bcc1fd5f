"""Work behind the page of `restore ui`: the plans and runs of the commands."""

from __future__ import annotations

import logging.handlers
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from restore_cli.batch.plan import Enlargement, Existing, Plan, plan
from restore_cli.batch.sources import is_video
from restore_cli.cli import options as option
from restore_cli.cli.denoise import sigma_or_word
from restore_cli.cli.findings import messages
from restore_cli.cli.upscale import PHOTO_MODEL, factor_or_size
from restore_cli.cli.upscaling import default_network
from restore_cli.errors import RestoreError, UsageError
from restore_cli.imaging.formats import Format, is_container
from restore_cli.imaging.headers import read_header
from restore_cli.inference.options import Precision, Resize
from restore_cli.memory import keep_freed_memory

if TYPE_CHECKING:
    from restore_cli.batch.run import Result
    from restore_cli.inference.report import ImageRestorer

KEPT = 2  # restorers in memory: those of the last choices
LARGEST_SHOWN = 1 << 26  # pixels of an image that the slider shows
SIDE, QUALITY = 1600, 90  # of the images of the slider
MOST_WARNINGS = 1000

Purpose = Literal["auto", "photo", "clean"]
OnProgress = Callable[[float, str], None]  # share of the work, what is done
Row = tuple[str, str, str]  # source, one of STATES, message
STATES = ("failed", "warning", "ok", "planned", "skipped")  # in the order of a table


@dataclass(frozen=True)
class Choices:
    """Values of options as they would be typed; empty ones leave the default of the command."""

    task: str = "derain"
    scale: str = ""
    purpose: Purpose = "auto"
    strength: float = 1.0
    noise_limit: str = "auto"
    resize: Resize = "detail"
    weights: str = ""
    tile: str = "auto"
    device: str = "auto"
    precision: Precision = "auto"
    format: Format | Literal[""] = ""
    quality: int | None = None

    @property
    def factor(self) -> float:
        """Raises UsageError, WeightsError."""
        if self.task != "upscale":
            return 1.0
        return factor_or_size(self.scale or None, None, self.weights or None)[0] or 1.0


@dataclass
class Done:
    """Outcome of a plan; made: sources and targets."""

    rows: list[Row]
    made: list[tuple[str, str]] = field(default_factory=list)
    is_stopped: bool = False

    def add(self, result: Result, found: str) -> None:
        source, target = str(result.job.source), str(result.job.target)
        if result.error is not None:
            self.rows.append((source, "failed", describe(result.error)))
            return
        self.rows.append((source, result.status, f"{target}; {found}" if found else target))
        if result.status == "ok":
            self.made.append((source, target))


class _Stopped(Exception):
    """Raised inside a run that is to end."""


def plan_of(
    choices: Choices,
    sources: Sequence[str],
    output: str | None,
    *,
    recursive: bool = False,
    existing: Existing = "error",
) -> Plan:
    """Plan as the command of the task does. Raises RestoreError."""
    return plan(
        sources,
        output,
        task=choices.task,
        model=option.network_of(choices.task, None, choices.weights or None, output),
        scale=Enlargement(choices.factor),
        recursive=recursive,
        format=choices.format or None,
        existing=existing,
    )


@lru_cache(maxsize=KEPT)
def load(choices: Choices, *, videos: bool) -> ImageRestorer:
    """Load the networks as the command of the task does, once. Raises RestoreError."""
    from restore_cli.inference.restorer import load_restorer
    from restore_cli.inference.upscaler import Target, load_upscaler

    task, weights, kind = choices.task, choices.weights or None, choices.purpose
    options = option.run_options(
        None, weights, choices.tile, "auto", choices.device, choices.precision, backend="torch"
    )
    if task != "upscale":
        limit = sigma_or_word(choices.noise_limit)
        options = replace(options, strength=choices.strength, noise_limit=limit)
        return load_restorer(task, replace(options, resize=choices.resize))
    if weights is None:
        usual = default_network(options.device, choices.factor, repeat=False, videos=videos)
        options = replace(options, model=PHOTO_MODEL if kind == "photo" else usual)
    elif kind != "auto":
        raise UsageError("--for and --weights contradict each other", hint="give one of them")
    purpose = "clean" if kind == "auto" and videos else kind
    return load_upscaler(options, Target(choices.factor), purpose)


class Work:
    """One computation at a time, which can be stopped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Stop the computation in progress after its tile, and wait for its end."""
        self._stopping.set()
        with self._lock:
            pass

    def run(self, choices: Choices, planned: Plan, on_progress: OnProgress) -> Done:
        """Run a plan. Raises RestoreError where no network can be loaded."""
        from restore_cli.batch.provenance import CommandRecord
        from restore_cli.batch.run import run

        done, count = Done(failed_or_skipped(planned)), len(planned.jobs)
        if not count:
            return done

        def on_tile(index: int, tiles: int, total: int) -> None:
            if self._stopping.is_set():
                raise _Stopped
            on_progress((index + tiles / total) / count, f"{index + 1} of {count}")

        with self._lock, _warnings_in(done.rows):
            self._stopping.clear()
            on_progress(0, "loading")
            keep_freed_memory()
            videos = any(is_container(job.format) for job in planned.jobs)
            restorer = load(replace(choices, format="", quality=None), videos=videos)
            record = CommandRecord(choices.task, restorer.options, restorer.device.type)
            results = run(
                planned.jobs,
                restorer,
                existing=planned.existing,
                quality=choices.quality,
                on_tile=on_tile,
                record=record,
            )
            try:
                with closing(results):
                    for result in results:
                        found = messages(choices.task, result, restorer)
                        done.add(result, "; ".join(found))
            except _Stopped:
                done.is_stopped = True
        return done


def failed_or_skipped(planned: Plan) -> list[Row]:
    """Return the rows of the sources that are no jobs."""
    rows: list[Row] = [(item.source, "failed", describe(item.error)) for item in planned.unreadable]
    return rows + [
        (str(job.source), "skipped", f"already exists: {job.target}") for job in planned.skipped
    ]


def describe(error: RestoreError) -> str:
    """Return message and hint as one text."""
    return error.message if error.hint is None else f"{error.message} (hint: {error.hint})"


@contextmanager
def _warnings_in(rows: list[Row]) -> Iterator[None]:
    """Add the warnings of the library to the rows."""
    handler = logging.handlers.BufferingHandler(MOST_WARNINGS)
    handler.setLevel(logging.WARNING)
    logging.getLogger("restore_cli").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("restore_cli").removeHandler(handler)
        rows += [("", "warning", record.getMessage()) for record in handler.buffer]


def previews(source: str, target: str) -> tuple[str, str] | None:
    """Write an image before and after beside the target, of one size, as browsers show them.

    None for a video, and for an image that is too large to show. Raises InputError.
    """
    from restore_cli.imaging.image import Image
    from restore_cli.imaging.io import encode
    from restore_cli.report.views import at_size, visible_pixels, within

    if is_video(Path(source).name):
        return None
    headers = [read_header(Path(path)) for path in (source, target)]
    if any(each is None or each.height * each.width > LARGEST_SHOWN for each in headers):
        return None
    after = within(visible_pixels(Path(target)), SIDE)
    before = at_size(visible_pixels(Path(source)), *after.shape[-2:])
    folder = Path(tempfile.mkdtemp(dir=Path(target).parent))
    paths = folder / "before.webp", folder / "after.webp"
    for path, pixels in zip(paths, (before, after), strict=True):
        path.write_bytes(encode(Image(pixels), format="webp", quality=QUALITY))
    return str(paths[0]), str(paths[1])


def pack(paths: Sequence[str], target: Path) -> str:
    """Write files into an archive, unchanged; a name that is there already goes into a folder."""
    names: set[str] = set()
    with zipfile.ZipFile(target, "w") as archive:
        for path in map(Path, paths):
            name = path.name if path.name not in names else f"{path.parent.name}/{path.name}"
            names.add(name)
            archive.write(path, name)
    return str(target)
