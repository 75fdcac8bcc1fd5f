"""derain, and the one way in which every restoring command works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from restore_cli import registry
from restore_cli.cli.console import Reporter, binary_stdin, binary_stdout, reporter
from restore_cli.cli.options import (
    Backend,
    BackendName,
    Device,
    DryRun,
    FormatOption,
    Json,
    ModelName,
    Output,
    Overlap,
    Overwrite,
    Precision,
    PrecisionName,
    Quality,
    Quiet,
    Recursive,
    Seed,
    SkipExisting,
    Sources,
    Tile,
    WeightsName,
    existing_files,
    pixels_or,
)
from restore_cli.errors import UsageError

if TYPE_CHECKING:
    from restore_cli.jobs.plan import Existing, Job
    from restore_cli.jobs.run import Result
    from restore_cli.pipelines.restorer import Restorer, RunOptions


@dataclass(frozen=True)
class Files:
    """What to read and where to write."""

    sources: list[str]
    output: str | None
    format: str | None
    quality: int | None
    recursive: bool
    existing: Existing
    dry_run: bool


def derain(
    source: Sources,
    output: Output = None,
    model: ModelName = None,
    weights: WeightsName = None,
    tile: Tile = "auto",
    overlap: Overlap = "auto",
    device: Device = "auto",
    precision: Precision = PrecisionName.auto,
    backend: Backend = BackendName.torch,
    recursive: Recursive = False,
    format: FormatOption = None,
    quality: Quality = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    json: Json = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    seed: Seed = 0,
) -> None:
    """Remove rain from pictures and folders of pictures (DPENet)."""
    files = Files(
        source,
        output,
        format.value if format else None,
        quality,
        recursive,
        existing_files(overwrite, skip_existing),
        dry_run,
    )
    tile_size = pixels_or(tile, "auto", "off", option="--tile")
    context = pixels_or(overlap, "auto", "exact", option="--overlap")
    spec = registry.find_for_task("derain", model)

    from restore_cli.pipelines.restorer import RunOptions

    options = RunOptions(
        model=spec.arch,
        weights=weights,
        tile=tile_size,  # type: ignore[arg-type]  # pixels_or has narrowed the words
        overlap=context,  # type: ignore[arg-type]
        device=device,
        precision=precision.value,
        seed=seed,
    )
    with reporter("derain", quiet=quiet, json=json) as report:
        restore_all("derain", files, options, report)


def restore_all(task: str, files: Files, options: RunOptions, report: Reporter) -> None:
    """Plan, run and report. Leaves with exit code 6 where some of several files failed."""
    if "-" in files.sources:
        restore_stream(task, files, options, report)
        return
    from restore_cli.jobs.plan import Naming, plan

    naming = Naming(task, str(options.model), 1, files.output, files.format)
    planned = plan(files.sources, naming, recursive=files.recursive, existing=files.existing)
    if files.dry_run:
        for job in planned.jobs:
            report.say(f"{job.source} -> {job.target}")
        for job in planned.skipped:
            report.say(f"{job.source} -> {job.target} (exists, skipped)")
        return
    for job in planned.skipped:
        report_skipped(job, report)
    if planned.jobs:
        run_jobs(task, planned.jobs, files, options, report)


def run_jobs(
    task: str, jobs: tuple[Job, ...], files: Files, options: RunOptions, report: Reporter
) -> None:
    from restore_cli.jobs.run import run
    from restore_cli.pipelines.restorer import load_restorer

    restorer = load_restorer(task, options)
    alone = len(jobs) == 1
    bar = report.progress(None if alone else len(jobs), f"{task} {len(jobs)} file(s)")
    failures: list[Result] = []
    results = run(
        jobs,
        restorer,
        overwrite=files.existing == "overwrite",
        quality=files.quality,
        on_progress=bar.update if alone else None,
    )
    for number, result in enumerate(results, start=1):
        if not alone:
            bar.update(number)
        if report.json:
            report.data(as_json(result, restorer))
        elif result.error is None:
            report.data(str(result.job.target))
        if result.error is not None:
            failures.append(result)
    if alone and failures and failures[0].error is not None:
        raise failures[0].error
    report.say(
        f"{len(jobs) - len(failures)} done by {restorer.checkpoint.name} on {restorer.device} in "
        f"{restorer.precision}, {f'tiles of {restorer.tile} px' if restorer.tile else 'untiled'}"
    )
    for failure in failures:
        if failure.error is not None:
            report.error(failure.error)
    if failures:
        raise typer.Exit(6)


def restore_stream(task: str, files: Files, options: RunOptions, report: Reporter) -> None:
    """stdin to stdout, or to the file that -o names."""
    if files.sources != ["-"]:
        raise UsageError("- stands for stdin and cannot be mixed with files")
    from pathlib import Path

    from restore_cli.imaging.files import decode, encode, write
    from restore_cli.pipelines.restorer import load_restorer

    to_stdout = files.output in (None, "-")
    if to_stdout and files.format is None:
        raise UsageError("stdout needs a format", hint="add --format png")
    image = decode(binary_stdin().read(), name="stdin")
    restored = load_restorer(task, options)(image)
    if to_stdout:
        binary_stdout().write(encode(restored, format=files.format, quality=files.quality))  # type: ignore[arg-type]
        return
    target = Path(str(files.output))
    write(restored, target, quality=files.quality, overwrite=files.existing == "overwrite")
    report.data(str(target))


def as_json(result: Result, restorer: Restorer) -> dict[str, Any]:
    error = result.error
    return {
        "source": str(result.job.source),
        "target": str(result.job.target),
        "status": "ok" if error is None else "failed",
        "error": error and {"kind": error.kind, "message": error.message, "hint": error.hint},
        "seconds": round(result.seconds, 3),
        "model": restorer.spec.arch,
        "weights": restorer.checkpoint.name,
        "weights_sha256": restorer.checkpoint.sha256,
        "device": str(restorer.device),
        "precision": restorer.precision,
        "tile": result.tile,
        "width": result.width,
        "height": result.height,
        "seed": restorer.options.seed,
    }


def report_skipped(job: Job, report: Reporter) -> None:
    if not report.json:
        report.say(f"{job.target} exists, skipped")
        return
    unknown = ["error", "seconds", "model", "weights", "weights_sha256", "device", "precision"]
    unknown += ["tile", "width", "height", "seed"]
    about = {"source": str(job.source), "target": str(job.target), "status": "skipped"}
    report.data({**about, **dict.fromkeys(unknown)})
