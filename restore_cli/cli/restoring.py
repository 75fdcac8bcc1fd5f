"""Steps of a restoring command between its options and its exit code."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from restore_cli.batch.jobs import Standard
from restore_cli.batch.plan import SAME_SIZE, Enlargement, Plan, plan
from restore_cli.batch.sources import describe_passed_over
from restore_cli.batch.targets import is_taken, refuse_unwritable
from restore_cli.cli.console import Reporter, binary_stdin, binary_stdout
from restore_cli.cli.engine_options import refuse_ray_options
from restore_cli.cli.findings import how, messages, result_row, row
from restore_cli.cli.ledger_options import ledger_of
from restore_cli.cli.options import existing_targets, refuse_mixed_stdout, shard_of
from restore_cli.cli.settings import is_typed
from restore_cli.errors import SOME_FAILED, OutputExists, RestoreError, UsageError
from restore_cli.imaging.formats import has_efforts, is_container, is_lossy
from restore_cli.memory import keep_freed_memory, refuse_small_address_space
from restore_cli.storage import refuse_url

if TYPE_CHECKING:
    from restore_cli.batch.distributed import Pool
    from restore_cli.batch.grids import GridPlan
    from restore_cli.batch.pipeline import Result
    from restore_cli.inference.report import ImageRestorer

Failure = tuple[str, RestoreError]  # source, error


def plan_batch(
    context: typer.Context, *, task: str, model: str, scale: Enlargement = SAME_SIZE
) -> Plan:
    """Plan the jobs of a restoring command from its options, and refuse those that do not fit.

    task, model, scale: see `plan`. Raises as `plan` does.
    """
    given = context.params
    planned = plan(
        given["source"],
        given["output"],
        task=task,
        model=model,
        scale=scale,
        recursive=given["recursive"],
        format=given["format"],
        existing=existing_targets(given["overwrite"], given["skip_existing"]),
        shard=shard_of(given["shard"]),
        ledger=ledger_of(context),
    )
    refuse_ray_options(context)
    _refuse_contradictions(planned, context)
    _refuse_report(given["html"], planned)
    return planned


def _refuse_contradictions(planned: Plan, context: typer.Context) -> None:
    """Refuse options that do not fit the planned formats. Raises UsageError.

    A setting is not meant for these sources alone: one without effect is passed over.
    """
    given = context.params
    quality, compress, format = (
        given[name] if is_typed(context, name) else None
        for name in ("quality", "compress", "format")
    )
    formats = {job.format for job in planned.jobs}
    videos = {format for format in formats if is_container(format)}
    if quality is not None and formats and not any(map(is_lossy, formats)):
        raise UsageError(
            f"--quality has no effect on {' and '.join(sorted(formats))}",
            hint="leave it out, or add --format jpeg",
        )
    if compress is not None and formats and not any(map(has_efforts, formats)):
        raise UsageError(
            f"--compress has no effect on {' and '.join(sorted(formats))}",
            hint="leave it out, or add --format png",
        )
    if format is not None and formats and formats == videos:
        raise UsageError(
            f"--format {format} is for images, but all sources are videos",
            hint="leave it out; the suffix of -o chooses, for example -o out.mkv",
        )
    piped = any(job.target is Standard.OUTPUT for job in planned.jobs)
    refuse_mixed_stdout(piped=piped, json=given["json"], print0=given["print0"])


def _refuse_report(target: Path | None, planned: Plan) -> None:
    """Refuse the file of --report before any work. Raises UsageError, OutputError."""
    if target is None:
        return
    refuse_url(target, "--report")
    if target.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--report {target}: not an HTML file", hint="name it FILE.html")
    refuse_unwritable([target])
    if is_taken(target) and planned.existing != "overwrite":
        raise OutputExists(
            f"already exists: {target}", hint="add --overwrite, or name another file"
        )


def work_remains(planned: Plan, report: Reporter, *, dry_run: bool) -> bool:
    """Report all that is known before any work, and return whether there is work.

    With --dry-run, report the plan; without jobs, the summary. Raises as `finish` does, and
    UsageError where an image is piped from or to a terminal, OutOfMemory.
    """
    if planned.passed_over:
        report.say(describe_passed_over(planned.passed_over))
    if report.json:
        for job in planned.skipped:
            report.data(row(job.source, "skipped", target=job.target))
        for item in planned.unreadable:
            report.data(row(item.source, "failed", error=item.error))
    if dry_run:
        show_plan(planned, report)
        raise_failures(planned, [], report)
        return False
    if planned.ledger is not None and planned.ledger.watching:
        report.say("watching for new images; press Ctrl-C to stop")
        return True
    if not planned.jobs:
        finish(planned, [], report)
        return False
    refuse_small_address_space()
    first = next(iter(planned.jobs))
    if first.source is Standard.INPUT:
        binary_stdin()
    if first.target is Standard.OUTPUT:
        binary_stdout()
    return True


def show_plan(planned: Plan, report: Reporter) -> None:
    """Report each job and everything that prevents one."""
    for job in planned.jobs:
        if report.json:
            report.data(row(job.source, None, target=job.target))
        else:
            report.data(f"{job.source} -> {job.target}")
    for source, need in planned.large.items():
        report.say(f"{source}: a large image, takes {need}")
    for job in planned.skipped:
        report.say(f"{job.source} would be skipped, already exists: {job.target}")
    report.say(f"{len(planned.jobs)} planned, nothing done (--dry-run)")


def run_batch(
    planned: Plan,
    restorer: ImageRestorer | Pool,
    report: Reporter,
    context: typer.Context,
) -> None:
    """Restore the planned images and videos by the options, report each result, and finish."""
    from restore_cli.batch.distributed import Pool
    from restore_cli.batch.pipeline import BatchOptions
    from restore_cli.batch.provenance import CommandRecord
    from restore_cli.batch.run import run, run_plan
    from restore_cli.imaging.io import piped

    keep_freed_memory()
    given = context.params
    html: Path | None = given["html"]
    command, jobs = report.command, len(planned.jobs)
    watching = planned.ledger is not None and planned.ledger.watching
    alone = jobs == 1 and not watching
    source, target = next(((job.source, job.target) for job in planned.jobs), (None, None))
    total, what = (None, str(source)) if alone else (None if watching else jobs, command)
    bar = report.progress(total, what)

    def on_tile(index: int, done: int, total: int) -> None:
        if alone:
            bar.update(done, total)
        else:
            bar.update(index + done / total)

    record = CommandRecord(command, restorer.options, restorer.device.type)
    results = run_plan(
        planned,
        restorer.run if isinstance(restorer, Pool) else partial(run, restorer=restorer),
        BatchOptions(
            quality=given["quality"],
            compress=given["compress"],
            record=record if given["record"] else None,
            stdin=piped(binary_stdin()) if source is Standard.INPUT else b"",
            stdout=binary_stdout() if target is Standard.OUTPUT else None,
        ),
        on_tile=on_tile,
    )
    failures: list[Failure] = []
    skipped = 0
    is_first = True
    kept: list[Result] = []
    with closing(results):
        for result in results:
            if result.report is not None and is_first:
                report.say(how(result.report, restorer.device))
                is_first = False
            show_result(result, restorer, report, alone=alone)
            if result.error is not None:
                failures.append((str(result.job.source), result.error))
            skipped += result.status == "skipped"
            if html is not None:
                kept.append(result)
    if html is not None:
        write_page(html, planned, kept, restorer, report)
    finish(planned, failures, report, skipped=skipped)


def write_page(
    target: Path,
    planned: Plan,
    results: Sequence[Result],
    restorer: ImageRestorer | Pool,
    report: Reporter,
) -> None:
    """Write the page of --report. Raises OutputExists, OutputError."""
    from restore_cli import __version__
    from restore_cli.batch.report import batch_page
    from restore_cli.bench.machine import describe
    from restore_cli.files import write_atomically
    from restore_cli.inference.device import pick_device
    from restore_cli.report.page import circumstances, render

    facts = circumstances(__version__, describe(pick_device(str(restorer.device))))
    page = batch_page(report.command, facts, results, planned.unreadable)
    write_atomically(target, render(page), overwrite=planned.existing == "overwrite")
    report.say(f"report: {target}")


def show_result(
    result: Result, restorer: ImageRestorer | Pool, report: Reporter, *, alone: bool
) -> None:
    """Report what was found in an image, and its row of JSON or the path of its output."""
    job = result.job
    for message in messages(report.command, result, restorer):
        about = f"restore {report.command}" if alone else job.source
        report.say(f"{about}: {message}")
    if report.json:
        report.data(result_row(result, restorer))
    elif result.status == "ok" and job.target is not Standard.OUTPUT:
        report.data(str(job.target))


def finish(planned: Plan, failures: list[Failure], report: Reporter, *, skipped: int = 0) -> None:
    """Report the counts and every failure; skipped: of the jobs. Raises as `raise_failures`."""
    failed = len(failures) + len(planned.unreadable)
    skipped += len(planned.skipped)
    if not (failed and len(planned) == 1):
        counts = {
            "restored": len(planned) - skipped - failed,
            "skipped": skipped,
            "failed": failed,
        }
        summary = (
            ", ".join(f"{count} {what}" for what, count in counts.items() if count)
            or "nothing to do"
        )
        report.say(f"{summary} in {report.seconds:.1f} s")
    raise_failures(planned, failures, report)


def raise_failures(planned: Plan | GridPlan, failures: list[Failure], report: Reporter) -> None:
    """Report the failures of the plan and of its jobs.

    Raises the error of the only source, or Exit with code 6 where some of several failed.
    """
    failures = [*((item.source, item.error) for item in planned.unreadable), *failures]
    if failures and len(planned) == 1:
        raise failures[0][1]
    for source, error in failures:
        report.error(error, about=source)
    if failures:
        raise typer.Exit(SOME_FAILED)
