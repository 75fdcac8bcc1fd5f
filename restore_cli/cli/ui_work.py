"""Work behind the page of `restore ui`: its commands, run as if they were typed."""

from __future__ import annotations

import os
import tempfile
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from restore_cli.batch.sources import is_video
from restore_cli.cli.console import Bar, Reporter, reported_by
from restore_cli.cli.ui_options import Line
from restore_cli.errors import RestoreError
from restore_cli.imaging.headers import read_header
from restore_cli.inference.options import RunOptions

if TYPE_CHECKING:
    from restore_cli.inference.restorer import Restorer
    from restore_cli.inference.upscaler import Upscaler

KEPT = 2  # restorers in memory: those of the last loads
LARGEST_SHOWN = 1 << 26  # pixels of an image that the slider shows
SIDE, QUALITY = 1600, 90  # of the images of the slider

OnProgress = Callable[[float | None, str], None]  # share of the work if it is known, what is done
Row = tuple[str, str, str]  # source, one of STATES, message
STATES = ("failed", "warning", "ok", "planned", "skipped")  # in the order of a table


class Stopped(KeyboardInterrupt):
    """Interrupts a run, as Ctrl-C does in a terminal."""


@dataclass
class Outcome:
    """Rows and messages that a command reported; results: sources and targets."""

    rows: list[Row] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    is_stopped: bool = False


class Work:
    """One computation at a time, which can be stopped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._kept = Kept()

    def stop(self) -> None:
        """Stop the computation in progress after its tile, and wait for its end."""
        self._stopping.set()
        with self._lock:
            pass

    def plan(self, line: Line) -> Outcome:
        """Return the plan of a command that restores. Raises RestoreError, BadParameter."""
        return _reported(line, ["--dry-run"], lambda share, text: None, self._kept)

    def run(self, line: Line, on_progress: OnProgress) -> Outcome:
        """Run a command that restores. Raises RestoreError, BadParameter.

        An error of one source among others is a row.
        """

        def watched(share: float | None, text: str) -> None:
            if self._stopping.is_set():
                raise Stopped
            on_progress(share, text)

        with self._lock:
            self._stopping.clear()
            on_progress(None, "loading")
            return _reported(line, [], watched, self._kept)


class Kept:
    """The restorers of the last loads. Another strength or tile needs no other network."""

    def __init__(self) -> None:
        self._restorers: OrderedDict[object, Restorer | Upscaler] = OrderedDict()

    def __call__(self, load: partial[Any]) -> Restorer | Upscaler:
        """Return what `load` returns, loaded now or before. Raises as it does."""
        options = next(value for value in load.args if isinstance(value, RunOptions))
        general = [value.of_loading if value is options else value for value in load.args]
        key = (load.func, *general, _modified(options.weights))
        if key not in self._restorers:
            self._restorers[key] = load()
            while len(self._restorers) > KEPT:
                self._restorers.popitem(last=False)
        self._restorers.move_to_end(key)
        return self._restorers[key].with_options(options)


def _modified(weights: str | None) -> int | None:
    """Return the time of modification of a weight file in ns; None for a name."""
    try:
        return None if weights is None else os.stat(os.path.expanduser(weights)).st_mtime_ns
    except OSError:
        return None


def _reported(
    line: Line, more: Sequence[str], on_progress: OnProgress, keep: Callable[..., Any]
) -> Outcome:
    """Run a command and return what it reported."""
    outcome = Outcome()
    words = [*line.arguments, "--json", *more]
    make = partial(_PageReporter, outcome, on_progress)
    try:
        with reported_by(make):
            context = line.command.make_context(
                str(line.command.name), words, default_map=line.settings, obj=keep
            )
            with context:
                line.command.invoke(context)
    except typer.Exit:  # some of several failed
        pass
    except Stopped:
        outcome.is_stopped = True
    except RestoreError:
        if not outcome.rows:  # otherwise the error of the only source
            raise
    return outcome


class _PageReporter(Reporter):
    """Reporter whose output is an Outcome."""

    def __init__(self, outcome: Outcome, on_progress: OnProgress, command: str, **options: bool):
        super().__init__(command, **options)
        self._outcome, self._on_progress = outcome, on_progress

    def data(self, item: str | Mapping[str, Any]) -> None:
        assert not isinstance(item, str)  # by --json
        source, target, error = item["source"], item["target"], item["error"]
        messages, about = self._outcome.messages, f"{source}: "
        own = [text.removeprefix(about) for text in messages if text.startswith(about)]
        messages[:] = [text for text in messages if not text.startswith(about)]
        state = item["status"] or "planned"
        if state == "ok":
            self._outcome.results.append((source, target))
        if error is not None:
            text = _described(error["message"], error["hint"])
        else:
            prefix = "already exists: " if state == "skipped" else ""
            text = "; ".join([f"{prefix}{target}", *own])
        self._outcome.rows.append((source, state, text))

    def say(self, text: str) -> None:
        self._outcome.messages.append(text.removeprefix(f"restore {self.command}: "))

    def warn(self, text: str) -> None:
        self._outcome.rows.append(("", "warning", text))

    def error(self, error: RestoreError, *, about: str = "") -> None:
        """Pass over an error: it is in a row."""

    def progress(self, total: float | None, what: str) -> Bar:
        return _PageBar(self._on_progress, total, what)


class _PageBar(Bar):
    def __init__(self, on_progress: OnProgress, total: float | None, what: str):
        super().__init__(None, None)
        self._on_progress, self._total, self._what = on_progress, total, what

    def update(self, done: float, total: float | None = None) -> None:
        total = total or self._total
        self._on_progress(done / total if total else None, self._what)


def describe(error: RestoreError) -> str:
    """Return message and hint as one text."""
    return _described(error.message, error.hint)


def _described(message: str, hint: str | None) -> str:
    return message if hint is None else f"{message} (hint: {hint})"


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
    if any(h is None or h.height * h.width > LARGEST_SHOWN for h in headers):
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
