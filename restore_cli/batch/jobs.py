"""Jobs of a plan, in a temporary database: a million of them take little memory."""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple, Protocol, cast

from restore_cli.errors import RestoreError
from restore_cli.imaging.formats import Container, Format
from restore_cli.imaging.headers import Size
from restore_cli.storage import Location, Url, location

State = Literal["open", "elsewhere", "skipped", "arriving", "failed"]  # elsewhere: other shards

PAGE = 1000  # jobs in memory at a time
CREATE = """
CREATE TEMP TABLE plan (
    number INTEGER PRIMARY KEY,
    state TEXT NOT NULL,
    replaces INTEGER NOT NULL DEFAULT 0,
    source TEXT,     -- path or address, NULL: stdin
    target TEXT,     -- path or address, NULL: stdout
    format TEXT NOT NULL,
    origin TEXT,     -- source, with real folders
    result TEXT,     -- target, with real folders
    name TEXT UNIQUE,  -- of the target, equal for names that some file system takes for one
    file TEXT,       -- device and inode of the source
    present TEXT,    -- of the target; empty for a broken link, NULL where there is none
    size INTEGER,
    mtime INTEGER,   -- ns
    height INTEGER,  -- of an image, from its header
    width INTEGER,
    pixel_bytes INTEGER,
    other TEXT       -- another source of the same target
)
"""
INSERT = """
INSERT INTO plan (state, source, target, format, origin, result, name, file, present, size, mtime)
VALUES (?, CAST(? AS TEXT), CAST(? AS TEXT), ?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT),
    ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET other = excluded.source WHERE source IS NOT excluded.source
"""


class Standard(Enum):
    """An image that is piped in or out."""

    INPUT = "stdin"
    OUTPUT = "stdout"

    def __str__(self) -> str:
        return "-"


@dataclass(frozen=True)
class Job:
    """One image or video to read, and the place of its output.

    replaces: the target may be replaced, since an earlier run with the same ledger began it.
    size: of an image, from its header, if that has been read.
    """

    source: Location | Standard
    target: Location | Standard
    format: Format | Container
    replaces: bool = False
    size: Size | None = None


@dataclass(frozen=True)
class Unreadable:
    """A source that fails before any work."""

    source: str
    error: RestoreError


class Place(NamedTuple):
    """A job, and what the file system says about its source and its target."""

    state: State
    job: Job
    origin: str | None
    result: str | None
    name: str | None
    file: str | None
    present: str | None
    size: int | None
    mtime: int | None


def connect(path: str) -> sqlite3.Connection:
    """Open a database that is closed with its last user; "" is a temporary one.

    File names are bytes on POSIX: they are bound as bytes, cast to text, and read as here.
    """
    connection = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    connection.text_factory = os.fsdecode
    return connection


class Connected(Protocol):
    connection: sqlite3.Connection


class JobTable:
    """The table `plan` of a connection, in the order of the sources."""

    def __init__(self, ledger: Connected | None = None):
        """Use the connection of a ledger, or a temporary database."""
        self._ledger = ledger  # which closes the connection when it goes
        self.connection = connect("") if ledger is None else ledger.connection
        if ledger is None:
            weakref.finalize(self, self.connection.close)
        self.connection.execute("DROP TABLE IF EXISTS temp.plan")
        self.connection.execute(CREATE)

    def fill(self, places: Iterable[Place]) -> None:
        """Add jobs; the same source and target count once. Raises what `places` raises."""
        self.connection.execute("BEGIN")
        try:
            self.connection.executemany(INSERT, map(_row, places))
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def jobs(self, state: State) -> Jobs:
        return Jobs(self, state)

    def first(self, condition: str, count: int = 1) -> list[tuple[str, ...]]:
        """Return source, target and `other` of the first jobs that meet a condition in SQL."""
        sql = f"SELECT source, target, other FROM plan WHERE {condition} ORDER BY number LIMIT ?"
        rows = self.connection.execute(sql, (count,))
        return [tuple(text and str(location(text)) for text in row) for row in rows]

    def count(self, condition: str) -> int:
        sql = f"SELECT COUNT(*) FROM plan WHERE {condition}"
        return cast(int, self.connection.execute(sql).fetchone()[0])

    def mark(self, numbers: Iterable[int], state: State) -> None:
        rows = ((state, number) for number in numbers)
        self.connection.executemany("UPDATE plan SET state = ? WHERE number = ?", rows)

    def keep_size(self, number: int, size: Size) -> None:
        """Keep what the header of a job says."""
        sql = "UPDATE plan SET height = ?, width = ?, pixel_bytes = ? WHERE number = ?"
        self.connection.execute(sql, (*size, number))

    def change(self, condition: str, state: State) -> None:
        """Change the state of the jobs that meet a condition in SQL, and forgive collisions."""
        self.connection.execute(
            f"UPDATE plan SET state = '{state}', other = NULL WHERE {condition}"
        )

    def replaced_source(self) -> tuple[str, str] | None:
        """Return a target that is also a source, and that source; None if there is none."""
        found = self.connection.execute(
            "SELECT job.target, source.source FROM plan AS job "
            "JOIN plan AS source ON job.present = source.file LIMIT 1"
        ).fetchone()
        return None if found is None else (str(location(found[0])), str(location(found[1])))


class Jobs:
    """The jobs of a state, read page by page."""

    def __init__(self, table: JobTable, state: State):
        self._table = table
        self._state = state

    def __len__(self) -> int:
        return self._table.count(f"state = '{self._state}'")

    def __iter__(self) -> Iterator[Job]:
        return (job for _, job in self.numbered())

    def numbered(self) -> Iterator[tuple[int, Job]]:
        """Yield the jobs with their numbers in the table."""
        last = 0
        while page := self._table.connection.execute(
            "SELECT number, source, target, format, replaces, height, width, pixel_bytes FROM plan "
            "WHERE number > ? AND state = ? ORDER BY number LIMIT ?",
            (last, self._state, PAGE),
        ).fetchall():
            for last, source, target, format, replaces, *size in page:
                yield (
                    last,
                    Job(
                        Standard.INPUT if source is None else location(source),
                        Standard.OUTPUT if target is None else location(target),
                        format,
                        bool(replaces),
                        None if size[0] is None else Size(*size),
                    ),
                )


def _row(place: Place) -> tuple[object, ...]:
    job = place.job
    return (
        place.state,
        _bound(job.source),
        _bound(job.target),
        job.format,
        _bound(place.origin),
        _bound(place.result),
        _bound(place.name),
        place.file,
        place.present,
        place.size,
        place.mtime,
    )


def _bound(path: Location | Standard | str | None) -> str | bytes | None:
    """Return a file name or an address for CAST(? AS TEXT), None for a pipe."""
    if path is None or isinstance(path, Standard):
        return None
    text = path.address if isinstance(path, Url) else str(path)
    return text if text.isascii() else os.fsencode(text)  # a name may be no valid text
