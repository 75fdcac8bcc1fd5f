"""`restore bench`: quality on test sets, and speed compared with plain PyTorch."""

from __future__ import annotations

import json as json_format
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restore_cli.cli import choices
from restore_cli.cli.console import Bar, Reporter, reporter
from restore_cli.cli.metrics import Metrics, load_perceptual
from restore_cli.cli.options import (
    Backend,
    Device,
    Ensemble,
    Overlap,
    Precision,
    ProtocolName,
    Quiet,
    Tile,
    run_options,
)
from restore_cli.cli.panels import Command
from restore_cli.errors import SOME_FAILED, NothingToDo, OutputError, RestoreError, UsageError
from restore_cli.inference.options import RunOptions
from restore_cli.tasks import TaskName

if TYPE_CHECKING:
    from restore_cli.bench.peers import Peer
    from restore_cli.bench.quality import Earlier
    from restore_cli.bench.rows import Row
    from restore_cli.bench.speed import Workload
    from restore_cli.bench.suite import Candidate
    from restore_cli.bench.tables import Table
    from restore_cli.data.sets import PairSet
    from restore_cli.inference.options import RunOptions
    from restore_cli.report.page import Page
    from restore_cli.report.views import View

app = typer.Typer(no_args_is_help=True)
command = partial(app.command, cls=Command)

REGRESSION = 7

Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME|FOLDER",
        help="Public test set, or folder of pairs (docs/evaluation.md); repeatable. "
        "[default: all public sets in --data]",
        autocompletion=choices.sets,
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Network, or weights by name or file; repeatable. "
        "[default: all weights on this machine]",
        autocompletion=choices.models_and_weights,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder with one subfolder per public set. [default: data/]"),
]
JsonFile = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="File for the JSON document; - for stdout."),
]
Peers = Annotated[
    list[str] | None,
    typer.Option(
        "--peer",
        metavar="ncnn:PARAM,BIN,SCALE",
        help="Upscaling network in ncnn files, measured on the CPU for comparison; repeatable. "
        "Needs the extra `peers`.",
    ),
]
CsvFile = Annotated[
    Path | None, typer.Option("--csv", metavar="FILE", help="File for the table as CSV.")
]
MarkdownFile = Annotated[
    Path | None, typer.Option("--markdown", metavar="FILE", help="File for the table as Markdown.")
]
LatexFile = Annotated[
    Path | None, typer.Option("--latex", metavar="FILE", help="File for the table as LaTeX.")
]
HtmlFile = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="File for an HTML page with images.")
]


@command(epilog="Example: restore bench quality --set set5 --data sets/ --html report.html")
def quality(
    set: Sets = None,
    model: Models = None,
    peer: Peers = None,
    data: Data = None,
    task: Annotated[
        TaskName | None,
        typer.Option(help="Task of folders with input/ and target/."),
    ] = None,
    protocol: Annotated[
        ProtocolName | None,
        typer.Option(help="Protocol (docs/evaluation.md). [default: as in the papers]"),
    ] = None,
    metric: Metrics = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    tile: Tile = "auto",
    overlap: Overlap = "auto",
    ensemble: Ensemble = False,
    json: JsonFile = None,
    html: HtmlFile = None,
    csv: CsvFile = None,
    markdown: MarkdownFile = None,
    latex: LatexFile = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the rows of the --json file; measure the rest.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Measure quality on test sets, as in the papers."""
    if resume and json in (None, "-"):
        raise UsageError("--resume continues a JSON file", hint="add --json FILE")
    tables = {"csv": csv, "markdown": markdown, "latex": latex}
    _refuse_unwritable(json, html, *tables.values())
    options = replace(run_options(None, None, tile, overlap, device, precision), ensemble=ensemble)
    with reporter("bench", quiet=quiet) as report:
        metrics = [*load_perceptual(metric, report)]
        peers = _peers(peer or [])
        sets = _sets(set or [], data, task, report)
        from restore_cli.bench.quality import run_quality
        from restore_cli.bench.report import quality_page, quality_table
        from restore_cli.bench.suite import candidates

        chosen: list[Candidate | Peer] = [*candidates(model or []), *peers]
        _report_uncovered(sets, chosen, report)
        views: list[View] | None = None if html is None else []
        result = _Result(options, json, html, report, tables, resume=resume)
        with _Cases(report) as cases:
            for outcome in run_quality(
                sets,
                chosen,
                options,
                protocol=protocol,
                metrics=metrics,
                views=views,
                earlier=result.earlier,
                on_case=cases.show,
            ):
                for note in outcome.notes:
                    report.warn(note)
                result.add(outcome.rows, outcome.error, failed=bool(outcome.notes))
        table = quality_table(result.rows)
        result.finish(table, lambda facts: quality_page(facts, result.rows, views or []))


@command(epilog="Example: restore bench speed --model dpenet --size 1024 --rounds 5")
def speed(
    set: Sets = None,
    model: Models = None,
    data: Data = None,
    size: Annotated[
        list[int] | None,
        typer.Option(
            min=16,
            metavar="PIXELS",
            help="Side of a square image; repeatable. [default: 512]",
        ),
    ] = None,
    rounds: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Number of rounds, of which the median is reported."),
    ] = 3,
    device: Device = "auto",
    precision: Precision = "auto",
    backend: Backend = "auto",
    tile: Tile = "auto",
    overlap: Overlap = "auto",
    json: JsonFile = None,
    html: HtmlFile = None,
    quiet: Quiet = False,
) -> None:
    """Measure the speed of the pipeline and of plain PyTorch."""
    if set and size:
        raise UsageError("--set and --size contradict each other", hint="give one of them")
    _refuse_unwritable(json, html)
    options = run_options(None, None, tile, overlap, device, precision, backend=backend)
    with reporter("bench", quiet=quiet) as report:
        sets = _sets(set, data, None, report) if set else []
        from restore_cli.bench.report import speed_page, speed_table
        from restore_cli.bench.speed import run_speed
        from restore_cli.bench.suite import candidates

        work = _workloads(candidates(model or []), sets, size or [512])
        result = _Result(options, json, html, report)
        with _Cases(report) as cases:
            for rows, error in run_speed(work, options, rounds, cases.show):
                result.add(rows, error)
        table = speed_table(result.rows)
        result.finish(table, lambda facts: speed_page(facts, result.rows))


@command(epilog="Example: restore bench diff before.json after.json --psnr 0.05")
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", readable=False, help="Earlier document.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", readable=False, help="Later document.")],
    psnr: Annotated[
        float, typer.Option(min=0, metavar="DB", help="Tolerated loss of PSNR, in dB.")
    ] = 0.01,
    ssim: Annotated[
        float,
        typer.Option(min=0, metavar="LOSS", help="Tolerated loss of SSIM or MS-SSIM."),
    ] = 0.001,
    slower: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="PERCENT",
            help="Tolerated increase of time. [default: time is not compared]",
        ),
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="PERCENT",
            help="Tolerated increase of memory. [default: memory is not compared]",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Compare two JSON documents of the same benchmark.

    The exit code is 7 if a value became worse.
    Rows are matched by task, weights, set, scale and protocol. Rows that only NEW has are ignored.
    """
    with reporter("bench", quiet=quiet) as report:
        from restore_cli.bench.compare import Tolerance, changes
        from restore_cli.bench.rows import read_document

        before, after = read_document(old), read_document(new)
        if before.get("machine") != after.get("machine") and (slower, memory) != (None, None):
            report.warn("the documents come from different machines or versions")
        shares = [None if share is None else share / 100 for share in (slower, memory)]
        found = list(changes(before["rows"], after["rows"], Tolerance(psnr, ssim, *shares)))
        for change in found:
            verdict = "regression" if change.is_regression else "changed"
            report.data(f"{verdict}: {change.about}: {change.text}")
        worse = sum(change.is_regression for change in found)
        report.say(f"{len(before['rows'])} rows compared, {worse} regressions")
    if worse:
        raise typer.Exit(REGRESSION)


def _sets(
    names: Sequence[str],
    data: Path | None,
    task: TaskName | None,
    report: Reporter,
) -> list[PairSet]:
    """Return the pairs of the named sets, or of all public sets found."""
    from restore_cli.data.public_sets import SETS, find_set
    from restore_cli.data.sets import folder_pairs, public_pairs

    where = Path("data") if data is None else data
    if data is not None and not data.is_dir():
        raise NothingToDo(f"{data}: no such folder", hint="--data is the folder of the sets")
    found: list[PairSet] = []
    for name in names:
        if public := find_set(name):
            known, part = public
            found += public_pairs(known, where, part)
        elif Path(name).is_dir():
            found += folder_pairs(Path(name), task)
        else:
            raise UsageError(
                f"--set {name}: neither a folder nor a known set",
                hint=f"known sets: {', '.join(SETS)}",
            )
    if names:
        return found
    missing = []
    for known in SETS.values():
        if (where / known.name).is_dir():
            found += public_pairs(known, where)
        else:
            missing.append(known.name)
    if not found:
        raise NothingToDo(
            f"{where} has none of the sets {', '.join(missing)}",
            hint="for the source of a set: restore bench quality --set NAME",
        )
    if missing:
        report.say(f"not in {where}: {', '.join(missing)}")
    return found


def _peers(given: Sequence[str]) -> list[Peer]:
    """Return the named peers, each loaded and tried before anything is measured."""
    from restore_cli.bench.peers import peer_of

    peers = [peer_of(text) for text in given]
    for peer in peers:
        peer.load()
    return peers


def _report_uncovered(
    sets: Sequence[PairSet], candidates: Sequence[Candidate | Peer], report: Reporter
) -> None:
    """Report the sets without weights. Raises NothingToDo where no set has any."""
    uncovered = [
        f"{pairs.name} x{pairs.scale}" if pairs.scale > 1 else pairs.name
        for pairs in sets
        if not any(each.supports(pairs) for each in candidates)
    ]
    if len(uncovered) == len(sets):
        raise NothingToDo(
            f"no weights for {', '.join(uncovered)}", hint="see: restore weights list"
        )
    if uncovered:
        report.say(f"no weights for {', '.join(uncovered)}")


def _workloads(
    candidates: Sequence[Candidate], sets: Sequence[PairSet], sizes: Sequence[int]
) -> list[tuple[Candidate, Workload]]:
    from restore_cli.bench.speed import Degraded, Square

    work: list[tuple[Candidate, Workload]] = []
    for candidate in candidates:
        work += [(candidate, Degraded(pairs)) for pairs in sets if candidate.supports(pairs)]
        if not sets:
            work += [(candidate, Square(side)) for side in sizes]
    if not work:
        raise NothingToDo("no weights for these sets", hint="see: restore weights list")
    return work


class _Cases:
    """One progress bar at a time, for the case that is measured."""

    def __init__(self, report: Reporter):
        self.report = report
        self.what = ""
        self.bar: Bar | None = None

    def show(self, what: str, done: int, total: int) -> None:
        if what != self.what:
            self.close()
            self.what, self.bar = what, self.report.progress(total, what)
        if self.bar is not None:
            self.bar.update(done, total)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def __enter__(self) -> _Cases:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Result:
    """Measured rows; the JSON file is rewritten after each, so that no row is lost."""

    def __init__(
        self,
        options: RunOptions,
        json: str | None,
        html: Path | None,
        report: Reporter,
        tables: Mapping[str, Path | None] | None = None,
        *,
        resume: bool = False,
    ):
        from restore_cli.bench.machine import describe
        from restore_cli.bench.quality import NOTHING_EARLIER
        from restore_cli.bench.rows import options_row
        from restore_cli.inference.device import pick_device

        self.json, self.html, self.report = json, html, report
        self.tables = {name: path for name, path in (tables or {}).items() if path is not None}
        self.machine = describe(pick_device(options.device))
        self.options = options_row(options)
        self.rows: list[Row] = []
        self.earlier = self._read() if resume else NOTHING_EARLIER
        self.incomplete = False

    def add(self, rows: Sequence[Row], error: RestoreError | None, failed: bool = False) -> None:
        self.rows += rows
        self.incomplete |= failed or error is not None
        if error is not None:
            self.report.error(error, about=f"{rows[0]['weights']} on {rows[0]['set']}")
        if self.json not in (None, "-"):
            from restore_cli.files import write_atomically

            write_atomically(Path(str(self.json)), self._document().encode(), overwrite=True)

    def finish(self, table: Table, page: Callable[[Mapping[str, str]], Page]) -> None:
        """Write the table and all files. Raises Exit with code 6 where something failed."""
        from restore_cli import __version__
        from restore_cli.bench.tables import FORMATS
        from restore_cli.files import write_atomically
        from restore_cli.report.page import circumstances, render

        columns, lines = table
        self.report.table(columns, lines)
        if self.html is not None:
            html = render(page(circumstances(__version__, self.machine)))
            write_atomically(self.html, html, overwrite=True)
        for name, target in self.tables.items():
            write_atomically(target, FORMATS[name](table).encode(), overwrite=True)
        if self.json == "-":
            for line in self._document().splitlines():
                self.report.data(line)
        for path in (self.json, self.html, *self.tables.values()):
            if path not in (None, "-"):
                self.report.data(str(path))
        if self.incomplete:
            raise typer.Exit(SOME_FAILED)

    def _document(self) -> str:
        from restore_cli.bench.rows import document, key_of

        measured = {key_of(row) for row in self.rows}
        rows = [*self.rows, *(row for row in self.earlier.rows if key_of(row) not in measured)]
        return json_format.dumps(document(self.machine, self.options, rows), indent=1) + "\n"

    def _read(self) -> Earlier:
        """Return the rows of the --json file, none where there is no file yet. Raises UsageError.

        Figures of another machine, version or option do not belong into one table.
        """
        from restore_cli.bench.quality import NOTHING_EARLIER, Earlier
        from restore_cli.bench.rows import document, read_document

        if not Path(str(self.json)).exists():
            return NOTHING_EARLIER
        before = read_document(Path(str(self.json)))
        for name, value in document(self.machine, self.options, []).items():
            if name != "rows" and before.get(name) != value:
                raise UsageError(
                    f"{self.json} was measured with another {name.rstrip('s')}",
                    hint="leave out --resume, or name another --json FILE",
                )
        return Earlier(before["rows"])


def _refuse_unwritable(json: str | None, *files: Path | None) -> None:
    """Refuse files in missing folders before measuring. Raises OutputError."""
    for target in (None if json in (None, "-") else Path(str(json)), *files):
        if target is not None and not target.absolute().parent.is_dir():
            raise OutputError(f"{target}: no such folder", hint="create it first")
