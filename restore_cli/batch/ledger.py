"""State of each item of a batch in an SQLite database, so that a run can be continued.

A row is written before the work on an item begins and again when it has ended, each time whole.
So a process that is killed leaves the rows of what it had in work as `started`, and the next run
does these again. Several processes of one machine may write to one ledger.
"""

from __future__ import annotations

import sqlite3
import time
import weakref
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from restore_cli import errors
from restore_cli.batch.jobs import JobTable, Standard, Unreadable, connect
from restore_cli.errors import InputError, OutputError, RestoreError, UsageError
from restore_cli.files import sha256_of
from restore_cli.storage import Location, location, refuse_url

if TYPE_CHECKING:
    from restore_cli.batch.generate import GeneratedFile
    from restore_cli.batch.pipeline import Result

Fingerprint = Literal["mtime", "sha256"]

APPLICATION = 0x52535452  # of the header of the database: RSTR
VERSION = 1
CREATE = """
CREATE TABLE items (
    target TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime INTEGER NOT NULL,
    source_sha256 TEXT,
    options TEXT NOT NULL,
    status TEXT NOT NULL,
    error TEXT,
    message TEXT,
    hint TEXT,
    weights TEXT,
    weights_sha256 TEXT,
    output_sha256 TEXT,
    seconds REAL,
    attempts INTEGER NOT NULL,
    updated REAL NOT NULL
) WITHOUT ROWID
"""
START = """
INSERT INTO items (target, source, size, mtime, source_sha256, options, status, attempts, updated)
SELECT result, origin, size, mtime, ?, ?, 'started', 1, ? FROM plan WHERE number = ?
ON CONFLICT (target) DO UPDATE SET
    attempts = 1 + CASE WHEN source = excluded.source AND size = excluded.size
        AND mtime = excluded.mtime AND options = excluded.options THEN attempts ELSE 0 END,
    source = excluded.source, size = excluded.size, mtime = excluded.mtime,
    source_sha256 = excluded.source_sha256, options = excluded.options, status = 'started',
    error = NULL, message = NULL, hint = NULL, weights = NULL, weights_sha256 = NULL,
    output_sha256 = NULL, seconds = NULL, updated = excluded.updated
"""
FINISH = """
UPDATE items SET status = ?, error = ?, message = ?, hint = ?, weights = ?, weights_sha256 = ?,
    output_sha256 = ?, seconds = ?, updated = ?
    WHERE target = (SELECT result FROM plan WHERE number = ?)
"""
# Jobs of a plan whose items have the same source, options and weights.
SAME = """
SELECT plan.number, plan.source, items.source_sha256, items.status
FROM plan JOIN items ON items.target = plan.result
WHERE plan.state = 'open' AND items.source = plan.origin AND items.size = plan.size
    AND (? OR items.mtime = plan.mtime) AND items.options = ?
    AND (items.status = 'ok' AND plan.present IS NOT NULL OR items.status = 'failed')
    AND (items.weights_sha256 IS NULL OR items.weights_sha256 IN current)
"""
SKIP = """
UPDATE plan SET state = 'skipped' WHERE number IN (SELECT number FROM same WHERE status = 'ok')
"""
FAILED = """
SELECT plan.number, plan.source, items.* FROM same JOIN plan USING (number)
JOIN items ON items.target = plan.result WHERE same.status = 'failed'
"""
REPLACE = """
UPDATE plan SET replaces = 1 WHERE state = 'open' AND result IN (SELECT target FROM items)
"""
MERGE = """
INSERT OR REPLACE INTO items SELECT theirs.* FROM other.items AS theirs
LEFT JOIN main.items AS ours USING (target)
WHERE ours.target IS NULL OR ours.updated < theirs.updated
"""


class Work(Protocol):
    """A job, or a grid of images to generate."""

    @property
    def source(self) -> Location | Standard | str: ...


W = TypeVar("W", bound=Work)
Done = TypeVar("Done", bound="Result | GeneratedFile")


@dataclass(frozen=True)
class Item:
    """A row of a ledger, with absolute paths; `target` is its key."""

    target: str
    source: str
    size: int
    mtime: int  # ns
    source_sha256: str | None
    options: str  # SHA-256
    status: Literal["started", "ok", "failed"]
    error: str | None  # class of the error
    message: str | None
    hint: str | None
    weights: str | None
    weights_sha256: str | None
    output_sha256: str | None
    seconds: float | None
    attempts: int
    updated: float  # seconds since 1970


class Ledger:
    """A ledger file, and what a run compares its rows with.

    options: SHA-256 of the options that change a result. weights: SHA-256 of all weight files
    that there are; an item made with another one is done again. None: `options` stands for them.
    fingerprint: sign of an unchanged source; size and time of modification, or the contents.
    """

    def __init__(
        self,
        path: Path,
        *,
        options: str = "",
        weights: Collection[str] | None = (),
        fingerprint: Fingerprint = "mtime",
        retry_failed: bool = False,
        watching: bool = False,
        exists: bool = False,
        dry_run: bool = False,
    ):
        """exists: a missing file is refused. dry_run: it is not created.

        Raises UsageError, InputError, OutputError.
        """
        refuse_url(path, "a ledger")
        if exists and not path.exists():
            raise InputError(f"{path}: no such ledger", hint="check the name")
        self.path = path
        self.options = options
        self.weights = weights
        self.by_hash = fingerprint == "sha256"
        self.retry_failed = retry_failed
        self.watching = watching
        with _database_errors(path):
            self.connection = connect("" if dry_run and not path.exists() else str(path))
            weakref.finalize(self, self.connection.close)
            self._working: dict[Work, int] = {}  # numbers in the plan
            _prepare(self.connection, path)

    def settle(self, table: JobTable) -> dict[int, Unreadable]:
        """Mark the jobs that are done, and return those that failed before, by number.

        Failures are repeated with retry_failed. Where an item has been begun, its target may be
        replaced. When watching, sources that have just arrived or changed are left for later.
        Raises UsageError, OutputError.
        """
        if table.count("result IS NULL OR origin IS NULL"):
            raise UsageError("--ledger and - contradict each other", hint="name files")
        with _database_errors(self.path):
            run = self.connection.execute
            self._find_current_weights()
            self._find_same()
            run(SKIP)
            failed = {} if self.retry_failed else self._failed()
            table.mark(failed, "failed")
            run(REPLACE)
            if self.watching:
                self._leave_arrivals()
            return failed

    def start_each(self, jobs: Iterable[tuple[int, W]]) -> Iterator[W]:
        """Yield numbered jobs, each once its row says `started`. Raises OutputError."""
        for number, job in jobs:
            with _database_errors(self.path):
                row = (self._sha256_of(job.source), self.options, time.time(), number)
                self.connection.execute(START, row)
            self._working[job] = number
            yield job

    def finish(self, result: Result | GeneratedFile) -> None:
        """Write the result of a job that `start_each` gave. Raises OutputError."""
        error, report = result.error, result.report
        with _database_errors(self.path):
            self.connection.execute(
                FINISH,
                (
                    result.status,
                    error and error.kind,
                    error and error.message.encode(errors="replace").decode(),
                    error and error.hint,
                    report and report.weights,
                    report and report.sha256,
                    result.sha256,
                    round(result.seconds, 3),
                    time.time(),
                    self._working.pop(result.job),
                ),
            )

    def items(self, status: str | None = None) -> Iterator[Item]:
        """Yield the items in the order of their targets."""
        with _database_errors(self.path):
            rows = self.connection.execute(
                "SELECT * FROM items WHERE ? IS NULL OR status = ?", (status, status)
            )
            yield from (Item(*row) for row in rows)

    def counts(self) -> dict[str, int]:
        """Return the number of items of each status."""
        with _database_errors(self.path):
            sql = "SELECT status, COUNT(*) FROM items GROUP BY status"
            return dict(self.connection.execute(sql).fetchall())

    def merge(self, other: Path) -> None:
        """Take over the items of another ledger that are newer. Raises InputError, OutputError."""
        Ledger(other, exists=True)  # checks it
        with _database_errors(self.path):
            self.connection.execute("ATTACH ? AS other", (str(other),))
            self.connection.execute(MERGE)
            self.connection.execute("DETACH other")

    def _sha256_of(self, source: Location | Standard | str) -> str | None:
        """Return the hash of a source, if sources are compared by it and it can be read."""
        if not self.by_hash or isinstance(source, Standard | str):
            return None
        with suppress(OSError, RestoreError):  # restoring reports it
            return sha256_of(source)
        return None

    def _find_current_weights(self) -> None:
        """Collect the hashes that rows name and that still are those of weight files."""
        run = self.connection.execute
        run("CREATE TEMP TABLE IF NOT EXISTS current (weights_sha256 TEXT PRIMARY KEY)")
        rows = run("SELECT DISTINCT weights_sha256 FROM items WHERE weights_sha256 IS NOT NULL")
        current = [row for row in rows if self._are_current(row[0].split("+"))]
        self.connection.executemany("INSERT OR IGNORE INTO current VALUES (?)", current)

    def _are_current(self, weights: list[str]) -> bool:
        return self.weights is None or {*weights} <= {*self.weights}

    def _find_same(self) -> None:
        """Collect the numbers of the jobs that have not changed, in a table on disk."""
        run = self.connection.execute
        run("DROP TABLE IF EXISTS temp.same")
        run("CREATE TEMP TABLE same (number INTEGER PRIMARY KEY, status TEXT)")
        run("BEGIN")
        self.connection.executemany("INSERT INTO same VALUES (?, ?)", self._same())
        run("COMMIT")

    def _same(self) -> Iterator[tuple[int, str]]:
        """Yield numbers and statuses of the jobs that have not changed."""
        rows = self.connection.execute(SAME, (self.by_hash, self.options))
        for number, source, sha256, status in rows:
            if not self.by_hash or sha256 == self._sha256_of(location(source)):
                yield number, status

    def _failed(self) -> dict[int, Unreadable]:
        """Return the unchanged jobs that failed, by number."""
        return {
            number: Unreadable(str(location(source)), _error_of(Item(*row)))
            for number, source, *row in self.connection.execute(FAILED)
        }

    def _leave_arrivals(self) -> None:
        """Mark the jobs whose sources were not there, or not the same, at the last plan."""
        run = self.connection.execute
        run("CREATE TEMP TABLE IF NOT EXISTS earlier (origin TEXT, size INTEGER, mtime INTEGER)")
        run(
            "UPDATE plan SET state = 'arriving' WHERE state = 'open' AND "
            "(origin, size, mtime) NOT IN (SELECT origin, size, mtime FROM earlier)"
        )
        run("DELETE FROM earlier")
        run(
            "INSERT INTO earlier SELECT origin, size, mtime FROM plan "
            "WHERE state IN ('open', 'arriving')"
        )


def recorded(
    ledger: Ledger | None,
    jobs: Iterable[tuple[int, W]],
    engine: Callable[[Iterable[W]], Generator[Done, None, None]],
) -> Generator[Done, None, None]:
    """Yield what an engine makes of numbered jobs, once it is in the ledger, if there is one."""
    working = (job for _, job in jobs) if ledger is None else ledger.start_each(jobs)
    with closing(engine(working)) as results:
        for result in results:
            if ledger is not None:
                ledger.finish(result)
            yield result


def _error_of(item: Item) -> RestoreError:
    kind = getattr(errors, item.error or "", RestoreError)
    is_error = isinstance(kind, type) and issubclass(kind, RestoreError)
    error = (kind if is_error else RestoreError)(item.message or "", hint=item.hint)
    error.hint = error.hint or "--retry-failed tries it again"
    return error


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Create the table in a new file. Raises InputError for another database."""
    run = connection.execute
    run("PRAGMA journal_mode = WAL")
    run("PRAGMA synchronous = NORMAL")  # after a power cut the last rows may be missing
    run("BEGIN IMMEDIATE")  # another process may create it at the same time
    try:
        (application,) = run("PRAGMA application_id").fetchone()
        (version,) = run("PRAGMA user_version").fetchone()
        (tables,) = run("SELECT COUNT(*) FROM sqlite_master").fetchone()
        if not tables:
            run(f"PRAGMA application_id = {APPLICATION}")
            run(f"PRAGMA user_version = {VERSION}")
            run(CREATE)
        elif application != APPLICATION:
            raise InputError(f"{path}: not a ledger", hint="name another file")
        elif version != VERSION:
            raise InputError(
                f"{path}: a ledger of version {version}; this is restore for version {VERSION}",
                hint="use the version of restore that wrote it",
            )
    finally:
        run("COMMIT")


@contextmanager
def _database_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_NOTADB" or "not a database" in str(
            error
        ):
            raise InputError(f"{path}: not a ledger", hint="name another file") from error
        raise OutputError(f"{path}: {error}", hint="a ledger belongs on a local disk") from error
