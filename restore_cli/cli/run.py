"""`restore run`: restore images in several steps in one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated

import typer

from restore_cli.batch.naming import template_fields
from restore_cli.batch.plan import Enlargement, contains_videos
from restore_cli.cli import choices
from restore_cli.cli import options as option
from restore_cli.cli.console import reporter
from restore_cli.cli.engine_options import loaded
from restore_cli.cli.restoring import plan_batch, run_batch, work_remains
from restore_cli.cli.upscaling import default_factor, default_network
from restore_cli.errors import UsageError
from restore_cli.tasks import TASKS

EXAMPLE = "for example --steps derain,denoise,upscale:2"

Steps = Annotated[
    str,
    typer.Option(
        metavar="STEP,STEP...",
        autocompletion=choices.steps,
        help=f"Steps in order: {', '.join(TASKS)} or upscale:FACTOR.",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="STEP=NAME",
        help="Network of a step; repeatable.",
        autocompletion=choices.models_of_steps,
    ),
]
WeightsOfSteps = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        metavar="STEP=NAME|FILE",
        help="Weights of a step; repeatable.",
        autocompletion=choices.weights_of_steps,
    ),
]


def run(
    context: typer.Context,
    source: option.Sources,
    steps: Steps,
    output: option.Output = None,
    preset: option.Preset = None,
    model: Models = None,
    weights: WeightsOfSteps = None,
    tile: option.Tile = "auto",
    overlap: option.Overlap = "auto",
    device: option.Device = "auto",
    precision: option.Precision = "auto",
    backend: option.Backend = "auto",
    ensemble: option.Ensemble = False,
    recursive: option.Recursive = False,
    format: option.FormatName = None,
    quality: option.Quality = None,
    compress: option.Compress = "normal",
    overwrite: option.Overwrite = False,
    skip_existing: option.SkipExisting = False,
    json: option.Json = False,
    print0: option.Print0 = False,
    quiet: option.Quiet = False,
    dry_run: option.DryRun = False,
    seed: option.Seed = 0,
    record: option.Record = True,
    html: option.Report = None,
    ledger: option.LedgerFile = None,
    fingerprint: option.FingerprintName = "mtime",
    retry_failed: option.RetryFailed = False,
    shard: option.ShardName = None,
    watch: option.Watch = False,
    engine: option.Engine = "local",
    address: option.Address = None,
    workers: option.Workers = None,
    gpus_per_worker: option.GpusPerWorker = None,
) -> None:
    """Restore images in several steps, without rounding in between.

    In output names, {task} is "restored". Tiles, overlap and precision apply to each step.
    """
    options = replace(
        option.run_options(None, None, tile, overlap, device, precision, seed, backend),
        ensemble=ensemble,
    )
    wanted = steps_of(steps)
    tasks = [task for task, _ in wanted]
    models = by_step(model or [], tasks, option="--model")
    files = by_step(weights or [], tasks, option="--weights")
    factors = [
        factor or default_factor(files.get("upscale")) if task == "upscale" else 1.0
        for task, factor in wanted
    ]
    videos = contains_videos(source, output, task="run", recursive=recursive)
    is_default = "upscale" in tasks and not {"upscale"} & (models.keys() | files.keys())
    if is_default and "model" in template_fields(output):
        models["upscale"] = default_network(device, max(factors), repeat=False, videos=videos)
    planned = plan_batch(
        context,
        task="run",
        model="+".join(
            option.network_of(task, models.get(task), files.get(task), output) for task in tasks
        ),
        scale=Enlargement(math.prod(factors)),
    )
    with reporter("run", quiet=quiet, json=json, print0=print0) as report:
        if not work_remains(planned, report, dry_run=dry_run):
            return
        from restore_cli.inference.chain import Step, load_chain

        if is_default:  # only now, since it may load torch to find a GPU
            models["upscale"] = default_network(device, max(factors), repeat=False, videos=videos)
        chain = [
            Step(task, factor, models.get(task), files.get(task))
            for task, factor in zip(tasks, factors, strict=True)
        ]
        restorer = loaded(partial(load_chain, chain, options), context)
        run_batch(planned, restorer, report, context)


def steps_of(text: str) -> list[tuple[str, float | None]]:
    """Read `derain,upscale:2` as [("derain", None), ("upscale", 2.0)]. Raises UsageError."""
    steps = []
    for step in text.split(","):
        task, colon, factor = step.strip().partition(":")
        if task not in TASKS:
            raise UsageError(f"--steps {text}: no step is called {task!r}", hint=EXAMPLE)
        if colon and task != "upscale":
            raise UsageError(f"--steps {text}: {task} takes no number", hint=EXAMPLE)
        steps.append((task, option.factor_of(factor, option=f"--steps {text}") if colon else None))
    return steps


def by_step(given: Sequence[str], tasks: Sequence[str], *, option: str) -> dict[str, str]:
    """Read `derain=NAME` as {"derain": "NAME"}. Raises UsageError."""
    found: dict[str, str] = {}
    for text in given:
        task, equals, name = text.partition("=")
        if not (equals and name) or task not in tasks:
            raise UsageError(
                f"{option} {text}: wanted STEP=NAME with a STEP of --steps",
                hint=f"for example {option} {tasks[0]}=NAME",
            )
        if task in found:
            raise UsageError(
                f"{option} {text}: {task} has been given already", hint="leave one of them out"
            )
        found[task] = name
    return found
