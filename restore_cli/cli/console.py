"""Console output: data on stdout, messages on stderr. No other module prints."""

from __future__ import annotations

import io
import json as json_format
import logging
import math
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from restore_cli.assets import environment
from restore_cli.errors import OutputError, RestoreError, UsageError, without_secrets

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def show_error(error: RestoreError, *, about: str = "") -> None:
    """Write the message and the hint of an error to stderr.

    about: the name of a file, put in front unless the message has it.
    """
    named = error.message if about in error.message else f"{about}: {error.message}"
    _to_stderr(visible(f"restore: {named}"))
    if error.hint:
        _to_stderr(visible(f"hint: {error.hint}"))


def show_usage_error(message: str, command: str | None) -> None:
    """Write a usage error of Typer in the form of a RestoreError."""
    if message.startswith("Usage:"):  # the help of a command without arguments
        _to_stderr(message)
        return
    plain = message.rstrip(".").replace("Value error, ", "")  # prefix from pydantic
    show_error(UsageError(plain, hint=f"see: {command or 'restore'} --help"))


def show_line(text: str) -> None:
    """Write a line to stdout outside any command."""
    print(text, flush=True)


def show_interrupted() -> None:
    _to_stderr("restore: interrupted")


def keep_odd_file_names() -> None:
    """Let stdout take any file name: as bytes on POSIX, with escapes elsewhere."""
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return  # closed, or replaced by a test
    if os.name == "posix":
        sys.stdout.reconfigure(encoding=sys.getfilesystemencoding(), errors="surrogateescape")
    else:
        sys.stdout.reconfigure(errors="backslashreplace")


def drop_stdout() -> None:
    """Discard the rest of the buffer once stdout is closed or full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def binary_stdin() -> BinaryIO:
    """Return stdin for an image. Raises UsageError for a terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(
            "stdin is a terminal or closed, not an image",
            hint="for example: cat in.png | restore derain - --format png > out.png",
        )
    return sys.stdin.buffer


def binary_stdout() -> BinaryIO:
    """Return stdout for an image. Raises UsageError for a terminal."""
    if sys.stdout is None or sys.stdout.isatty():
        raise UsageError(
            "stdout is a terminal or closed, not a file or pipe for an image",
            hint="add > out.png, or -o out.png",
        )
    return sys.stdout.buffer


def visible(text: str) -> str:
    """Return a text with escapes for what a terminal would obey instead of showing it.

    These are control characters, line breaks among them, and changes of the writing direction.
    """
    return INVISIBLE.sub(lambda found: ascii(found[0])[1:-1], text)


def _to_stdout(text: str, end: str = "\n") -> None:
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise full_stdout(error) from error


def full_stdout(error: OSError) -> OutputError:
    """Return the error of a stdout that takes no more, and discard the rest for it."""
    drop_stdout()
    return OutputError(f"stdout: {error.strerror}")


def _to_stderr(line: str) -> None:
    if sys.stderr is not None:  # None when closed; print would write to stdout
        sys.stderr.write(f"{line}\n")  # at once: a signal may come between two writes
        sys.stderr.flush()


# Control characters, marks of the writing direction, and separators of lines.
INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\udc80-\udcff]"
)


class Bar:
    """Progress bar, drawn on a terminal only."""

    def __init__(self, progress: Progress | None, task: TaskID | None):
        self._progress = progress
        self._task = task

    @property
    def is_drawn(self) -> bool:
        return self._progress is not None

    def update(self, done: float, total: float | None = None) -> None:
        """Set the progress; without `total` the previous one stays."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total)

    def advance(self, amount: float = 1) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, amount)

    def close(self) -> None:
        """Remove the bar, as the reporter does when it ends."""
        if self._progress is not None and self._task is not None:
            self._progress.remove_task(self._task)
        self._task = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Reporter:
    """Output of one command, with the warnings that the library logs.

    quiet: no progress, no messages, no tables; warnings and errors stay.
    json: stored for the command, which chooses the items for `data`.
    print0: paths end with NUL.
    """

    def __init__(
        self, command: str, *, quiet: bool = False, json: bool = False, print0: bool = False
    ):
        self.command = command
        self.quiet = quiet
        self.json = json
        self.print0 = print0
        self._is_warned_of_breaks = False
        self._began = time.monotonic()
        self._progress: Progress | None = None
        self._lock = threading.RLock()  # the library also logs from other threads
        self._handler = _WarningHandler(self)

    def __enter__(self) -> Reporter:
        logging.getLogger("restore_cli").addHandler(self._handler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        logging.getLogger("restore_cli").removeHandler(self._handler)
        if self._progress is not None:
            self._progress.stop()

    @property
    def seconds(self) -> float:
        """Time since the reporter was made."""
        return time.monotonic() - self._began

    def data(self, item: str | Mapping[str, object]) -> None:
        """Write a result to stdout: a text as one line, a mapping as one line of JSON.

        Infinity and NaN, which JSON does not have, become null.
        """
        if not isinstance(item, str):
            item = json_format.dumps(_finite(item), allow_nan=False)
        with self._above_the_bar():
            if self.print0:
                _to_stdout(item, end="\0")
            else:
                _to_stdout(self._as_one_line(item))

    def _as_one_line(self, text: str) -> str:
        """Return a text for stdout: on a terminal `visible`, in a pipe without line breaks."""
        if "\n" in text and not self._is_warned_of_breaks:
            self._is_warned_of_breaks = True
            self.warn("a name has a line break, shown as \\n; --json and --print0 keep it")
        is_seen = sys.stdout is not None and sys.stdout.isatty()
        return visible(text) if is_seen else text.replace("\n", "\\n")

    def say(self, text: str) -> None:
        """Write a message to stderr, unless --quiet."""
        if not self.quiet:
            self._to_people(text)

    def warn(self, text: str) -> None:
        """Write a warning to stderr, even with --quiet."""
        self._to_people(f"restore {self.command}: warning: {text}")

    def error(self, error: RestoreError, *, about: str = "") -> None:
        """Write an error that does not end the command; about: the name of its file."""
        with self._above_the_bar():
            show_error(error, about=about)

    def columns(self, rows: Sequence[tuple[str, ...]]) -> None:
        """Write aligned columns to stdout."""
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.data("  ".join(cells).rstrip())

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Write a table to stderr, unless --quiet; None is an empty cell."""
        if self.quiet:
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(Text(column), overflow="fold")
        for row in rows:
            table.add_row(*(Text("" if cell is None else visible(str(cell))) for cell in row))
        with self._above_the_bar():
            # Only a terminal has a width at which lines break.
            Console(stderr=True, width=None if sys.stderr.isatty() else 1000).print(table)

    def progress(self, total: float | None, what: str) -> Bar:
        """Start a progress bar; total None: not known yet."""
        if self.quiet or not _can_draw():
            return Bar(None, None)
        if self._progress is None:
            self._progress = _new_progress()
            self._progress.start()
        return Bar(self._progress, self._progress.add_task(visible(what), total=total))

    def _to_people(self, text: str) -> None:
        with self._above_the_bar():
            _to_stderr(visible(without_secrets(text)))

    @contextmanager
    def _above_the_bar(self) -> Iterator[None]:
        """Remove the bar while something else is written to either stream."""
        with self._lock:
            drawn = self._progress is not None and self._progress.live.is_started
            if self._progress is not None and drawn:
                self._progress.stop()
            yield
            if self._progress is not None and drawn:
                self._progress.start()


_maker: ContextVar[Callable[..., Reporter]] = ContextVar("maker", default=Reporter)


def reporter(
    command: str, *, quiet: bool = False, json: bool = False, print0: bool = False
) -> Reporter:
    """Return a reporter, for `with reporter("derain") as report:`."""
    return _maker.get()(command, quiet=quiet, json=json, print0=print0)


@contextmanager
def reported_by(maker: Callable[..., Reporter]) -> Iterator[None]:
    """Give the commands that this thread runs inside another kind of reporter."""
    token = _maker.set(maker)
    try:
        yield
    finally:
        _maker.reset(token)


class _WarningHandler(logging.Handler):
    def __init__(self, report: Reporter):
        super().__init__(logging.WARNING)
        self.report = report

    def emit(self, record: logging.LogRecord) -> None:
        self.report.warn(record.getMessage())


def _can_draw() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and not environment().dumb_terminal


def _new_progress() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,  # rich would send stdout to its own stream, stderr
    )


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
