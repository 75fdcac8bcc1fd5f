"""The restoring commands: one function serves every task."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import typer

from restore_cli import registry
from restore_cli.cli.choices import CommonOptions, with_choices
from restore_cli.cli.console import Reporter, binary_stdin, binary_stdout, reporter
from restore_cli.cli.options import (
    OVERLAP_WORDS,
    TILE_WORDS,
    ModelName,
    Strength,
    WeightsName,
    existing_targets,
    pixels_or,
)
from restore_cli.errors import RestoreError, UsageError

if TYPE_CHECKING:
    from restore_cli.batch.plan import Job, Plan
    from restore_cli.batch.run import Result
    from restore_cli.inference.chain import Chain
    from restore_cli.inference.rain import Rain
    from restore_cli.inference.report import Report
    from restore_cli.inference.restorer import Restorer, RunOptions
    from restore_cli.inference.upscaler import Upscaler

    AnyRestorer = Restorer | Upscaler | Chain

Load = Callable[["RunOptions"], "AnyRestorer"]
Refine = Callable[["AnyRestorer", "Sequence[Job]", Reporter], "AnyRestorer"]
Failure = tuple[str, RestoreError]  # of which source

SOME_FAILED = 6
HARDLY_ANY = 0.7 / 255  # noise; rounding alone is 0.3
LEFT = "left as it is"
GRAINY = 2 / 255  # noise sigma of a result, as imaging.guided_filter.noise_std estimates it
CIRCUMSTANCES = (
    "seconds",
    "model",
    "weights",
    "weights_sha256",
    "device",
    "precision",
    "tile",
    "width",
    "height",
    "seed",
)
FINDINGS = ("noise_sigma", "rain")  # null where nothing was found, or looked for


def restoring(task: str, summary: str) -> Callable[..., None]:
    """The command that does `task` to images; `summary` is its line of help."""

    def command(
        choices: CommonOptions,
        model: ModelName = None,
        weights: WeightsName = None,
        strength: Strength = 1.0,
    ) -> None:
        def load(options: RunOptions) -> Restorer:
            from restore_cli.inference.restorer import load_restorer

            return load_restorer(task, replace(options, weights=weights, strength=strength))

        run_batch(task, choices, load, model=registry.find_for_task(task, model).arch)

    command.__name__, command.__doc__ = task, summary
    return with_choices(command)


def run_batch(
    task: str,
    choices: CommonOptions,
    load: Load,
    *,
    model: str,
    scale: str = "1",
    refine: Refine | None = None,
) -> None:
    """Refuse contradictions, plan, and restore.

    load: gets what all commands let choose; what one has of its own, it puts in there.
    scale, model: as they stand in names of targets. refine: the network, before it restores.
    """
    existing = existing_targets(choices.overwrite, choices.skip_existing)
    tile = pixels_or(choices.tile, TILE_WORDS, option="--tile")
    overlap = pixels_or(choices.overlap, OVERLAP_WORDS, option="--overlap", least=0)
    from restore_cli.batch.plan import plan

    planned = plan(
        choices.source,
        choices.output,
        task=task,
        model=model,
        scale=scale,
        recursive=choices.recursive,
        format=choices.format,
        existing=existing,
    )
    _refuse_contradictions(planned, choices)
    with reporter(task, quiet=choices.quiet, json=choices.json) as report:
        if choices.dry_run:
            _show_plan(planned, report)
            return

        def load_network() -> AnyRestorer:
            from restore_cli.inference.restorer import RunOptions

            restorer = load(
                RunOptions(
                    model=model,
                    tile="auto" if tile == "exact" else tile,
                    overlap=overlap,
                    exact=tile == "exact",
                    device=choices.device,
                    precision=choices.precision,
                    seed=choices.seed,
                )
            )
            return restorer if refine is None else refine(restorer, planned.jobs, report)

        restore_all(
            task,
            planned,
            load_network,
            report,
            quality=choices.quality,
            overwrite=choices.overwrite,
            record=choices.record,
        )


derain = restoring("derain", "Remove rain from images, folders and videos (DPENet).")


def restore_all(
    task: str,
    planned: Plan,
    load: Callable[[], AnyRestorer],
    report: Reporter,
    *,
    quality: int | None,
    overwrite: bool,
    record: bool,
) -> None:
    """Do what is planned, and say what became of it.

    Raises the error of an image that was the only one; leaves with code 6 where some of several
    failed.
    """
    began = time.monotonic()
    failures: list[Failure] = [(item.source, item.error) for item in planned.unreadable]
    if report.json:
        _show_settled(planned, report)
    if planned.jobs:
        failures += _run(
            task,
            planned.jobs,
            load,
            report,
            quality=quality,
            overwrite=overwrite,
            record=record,
        )
    if failures and len(planned) == 1:
        raise failures[0][1]
    failed, skipped = len(failures), len(planned.skipped)
    counts = {"restored": len(planned) - skipped - failed, "skipped": skipped, "failed": failed}
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    report.say(f"{said} in {time.monotonic() - began:.1f} s")
    for source, error in failures:
        report.error(error, about=source)
    if failures:
        raise typer.Exit(SOME_FAILED)


def _run(
    task: str,
    jobs: Sequence[Job],
    load: Callable[[], AnyRestorer],
    report: Reporter,
    *,
    quality: int | None,
    overwrite: bool,
    record: bool,
) -> list[Failure]:
    """Run the jobs, show each result, and return the failures by their sources."""
    from restore_cli.batch.plan import Standard
    from restore_cli.batch.provenance import Recipe, settings_of
    from restore_cli.batch.run import run
    from restore_cli.inference.device import keep_freed_memory

    keep_freed_memory()
    alone = len(jobs) == 1
    stdin = binary_stdin().read() if jobs[0].source is Standard.INPUT else b""
    stdout = binary_stdout() if jobs[0].target is Standard.OUTPUT else None
    restorer = load()
    bar = report.progress(None if alone else len(jobs), str(jobs[0].source) if alone else task)

    def on_tile(index: int, done: int, total: int) -> None:
        if alone:
            bar.update(done, total)
        else:
            bar.update(index + done / total)

    results = run(
        jobs,
        restorer,
        overwrite=overwrite,
        quality=quality,
        stdin=stdin,
        stdout=stdout,
        on_tile=on_tile,
        recipe=Recipe(task, settings_of(restorer.options, restorer.device)) if record else None,
    )
    failures: list[Failure] = []
    described = False
    with closing(results):
        for result in results:
            if result.error is not None:
                failures.append((str(result.job.source), result.error))
            if result.report is not None:
                if not described:
                    report.say(_how(result, result.report, restorer))
                    described = True
                where = "" if alone else f"{result.job.source}: "
                _say_findings(task, result.report, restorer, where, result.job, report)
            _show(result, restorer, report)
    return failures


def _say_findings(
    task: str, found: Report, restorer: AnyRestorer, where: str, job: Job, report: Reporter
) -> None:
    if found.noise_sigma is not None:
        report.say(_estimated(found.noise_sigma, restorer, where))
    if found.brightness is not None:
        _say_if_bright(found.brightness, where, report)
    if task == "enhance" and found.grain is not None and found.grain > GRAINY:
        report.say(_grainy(found.grain, job, where))
    if found.rain is not None:
        report.say(_rain_found(found.rain, where))


def _refuse_contradictions(planned: Plan, choices: CommonOptions) -> None:
    from restore_cli.batch.plan import Standard
    from restore_cli.imaging.formats import is_container, is_lossy

    formats = {job.format for job in planned.jobs}
    videos = {format for format in formats if is_container(format)}
    lossy = {format for format in formats if is_lossy(format)}
    if choices.quality is not None and formats and not lossy:
        raise UsageError(
            f"--quality has no effect on {' and '.join(sorted(formats))}",
            hint="leave it out, or add --format jpeg",
        )
    if choices.format is not None and formats and formats == videos:
        raise UsageError(
            f"--format {choices.format} is for images, and there are videos only",
            hint="leave it out; the name after -o chooses, for example -o out.mkv",
        )
    if choices.json and any(job.target is Standard.OUTPUT for job in planned.jobs):
        raise UsageError(
            "the image and --json cannot both go to stdout", hint="add -o FILE for the image"
        )


def _show_plan(planned: Plan, report: Reporter) -> None:
    if report.json:
        _show_settled(planned, report)
    for job in planned.jobs:
        if report.json:
            report.data(_record(str(job.source), None, target=str(job.target)))
        else:
            report.data(f"{job.source} -> {job.target}")
    for job in planned.skipped:
        report.say(f"{job.source} would be skipped: {job.target} exists")
    for item in planned.unreadable:
        report.error(item.error)
    report.say(f"{len(planned.jobs)} to do; nothing was done (--dry-run)")


def _show_settled(planned: Plan, report: Reporter) -> None:
    """The lines of JSON that are known before any work."""
    for job in planned.skipped:
        report.data(_record(str(job.source), "skipped", target=str(job.target)))
    for item in planned.unreadable:
        report.data(_record(item.source, "failed", error=item.error))


def _show(result: Result, restorer: AnyRestorer, report: Reporter) -> None:
    job = result.job
    if report.json:
        known = _record(str(job.source), result.status, target=str(job.target), error=result.error)
        report.data(known | _circumstances(result, restorer))
    elif result.error is None and str(job.target) != "-":
        report.data(str(job.target))


def _record(
    source: str,
    status: Literal["ok", "skipped", "failed"] | None,
    *,
    target: str | None = None,
    error: RestoreError | None = None,
) -> dict[str, object]:
    """The JSON of one image, all fields there; what is not known is null."""
    return {
        "source": source,
        "target": target,
        "status": status,
        "error": error and {"kind": error.kind, "message": error.message, "hint": error.hint},
    } | dict.fromkeys(CIRCUMSTANCES + FINDINGS)


def _circumstances(result: Result, restorer: AnyRestorer) -> dict[str, object]:
    known: dict[str, object] = {
        "seconds": round(result.seconds, 3),
        "model": restorer.model,
        "device": str(restorer.device),
        "width": result.width,
        "height": result.height,
        "seed": restorer.options.seed,
    }
    if result.report is None:
        return known
    sigma = result.report.noise_sigma
    return known | {
        "weights": result.report.weights,
        "weights_sha256": result.report.sha256,
        "precision": result.report.precision,
        "tile": result.report.tile,
        "noise_sigma": None if sigma is None else round(255 * sigma, 2),
        "rain": _rain_as_json(result.report.rain),
    }


def _estimated(sigma: float, restorer: AnyRestorer, where: str) -> str:
    said = f"{where}estimated noise sigma {255 * sigma:.1f} (of 255)"
    unchanged = restorer.options.noise_limit == "auto" and sigma < HARDLY_ANY
    return f"{said}: nearly unchanged" if unchanged else said


def _grainy(grain: float, job: Job, where: str) -> str:
    found = f"{where}grainy result (noise sigma {255 * grain:.0f} of 255)"
    source = "SOURCE" if str(job.source) == "-" else shlex.quote(str(job.source))
    return f"{found}: try restore run {source} --steps enhance,denoise"


def _rain_found(rain: Rain, where: str) -> str:
    if not rain.found:
        return f"{where}no rain found: nearly unchanged"
    said = f"{where}rain on {100 * rain.share:.0f} % of the image"
    if rain.angle is None:
        return said
    angle = round(abs(rain.angle))
    return f"{said}, streaks {angle} degree{'' if angle == 1 else 's'} from vertical"


def _rain_as_json(rain: Rain | None) -> dict[str, float | None] | None:
    if rain is None or not rain.found:
        return None
    return {
        "share": round(rain.share, 4),
        "angle": None if rain.angle is None else round(rain.angle, 1),
        "strength": round(rain.strength, 4),
    }


def _say_if_bright(brightness: float, where: str, report: Reporter) -> None:
    from restore_cli.inference.preprocessing import darkness, dullness

    changed = darkness(brightness)
    said = f"{where}mean brightness {100 * brightness:.0f} %"
    if changed == 0:
        points = "at most its black and white points are set" if dullness(brightness) else LEFT
        report.say(f"{said}: not dark, {points}")
    elif changed < 1:
        report.say(f"{said}: not very dark, {100 * changed:.0f} % of the change is made")


def _how(result: Result, found: Report, restorer: AnyRestorer) -> str:
    tiles = f"tiles of {found.tile} px" if found.tile else "untiled"
    said = f"{found.weights} on {restorer.device}, {found.precision}, {tiles}"
    if result.frames is None:
        return said
    return f"{said}; {result.frames} frames, {result.frames / result.seconds:.1f} a second"
