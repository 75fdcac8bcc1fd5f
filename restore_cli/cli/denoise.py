"""`restore denoise`: remove noise from images, with --adapt after training on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from restore_cli import registry
from restore_cli.batch.jobs import Job, Standard
from restore_cli.cli import choices
from restore_cli.cli import options as option
from restore_cli.cli.console import Reporter, reporter
from restore_cli.cli.engine_options import loaded
from restore_cli.cli.restoring import plan_batch, run_batch, work_remains
from restore_cli.errors import OutputExists, RestoreError, UsageError
from restore_cli.storage import refuse_url

if TYPE_CHECKING:
    from torch import Tensor

    from restore_cli.inference.options import NoiseLimit as NoiseSigma
    from restore_cli.inference.restorer import Restorer

NoiseLimit = Annotated[
    str,
    typer.Option(
        metavar="auto|off|SIGMA",
        help="Upper limit of the noise that is removed; auto: the estimated noise; off: no limit; "
        "SIGMA: noise of this sigma (of 255).",
        autocompletion=choices.starting(("auto", "off")),
    ),
]
For = Annotated[
    Literal["noise", "jpeg"],
    typer.Option("--for", help="Kind of degradation; jpeg: the same as restore dejpeg."),
]
Adapt = Annotated[
    bool,
    typer.Option(
        "--adapt", help="Train C-BSN on these images first; best with one camera and one ISO value."
    ),
]
Time = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="Training time of --adapt, for example 90s, 10m or 2h. [default: 2m]",
    ),
]
Save = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File for the weights that --adapt trains, for --weights."),
]

DEFAULT_TIME = "2m"
ADAPTING = "cbsn"  # the network that learns from noisy images alone


def denoise(
    context: typer.Context,
    source: option.Sources,
    output: option.Output = None,
    preset: option.Preset = None,
    model: option.ModelName = None,
    weights: option.WeightsName = None,
    purpose: For = "noise",
    strength: option.Strength = 1.0,
    noise_limit: NoiseLimit = "auto",
    adapt: Adapt = False,
    time: Time = None,
    save: Save = None,
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
    """Remove noise from images, folders and videos (MIRNet, C-BSN)."""
    refuse_adapting(adapt, model, time, save, overwrite, ledger)
    seconds = option.seconds_of(time or DEFAULT_TIME)
    is_default = model is None and weights is None and not adapt and purpose == "noise"
    if purpose == "jpeg":
        refuse_other_weights(model, weights, adapt)
        weights = registry.find_for_task("dejpeg", None).weights["dejpeg"]
        noise_limit = "off" if noise_limit == "auto" else noise_limit  # no noise is estimated
    if adapt:
        if backend in ("onnx", "openvino"):
            raise UsageError(
                "--adapt needs the backend torch", hint=f"leave out --backend {backend}"
            )
        model, backend = ADAPTING, "torch"
    options = replace(
        option.run_options(model, weights, tile, overlap, device, precision, seed, backend),
        strength=strength,
        ensemble=ensemble,
        noise_limit=sigma_or_word(noise_limit),
    )
    planned = plan_batch(
        context,
        task="denoise",
        model=option.network_of("denoise", model, weights, output),
    )
    with reporter("denoise", quiet=quiet, json=json, print0=print0) as report:
        if not work_remains(planned, report, dry_run=dry_run):
            return
        from restore_cli.inference.restorer import Restorer, load_restorer

        restorer = loaded(partial(load_restorer, "denoise", options), context)
        if is_default:
            report.say(f"using {restorer.model} (default: removes more noise than {ADAPTING})")
        if adapt:
            assert isinstance(restorer, Restorer)  # --adapt refuses workers
            restorer = adapted(restorer, planned.jobs, report, seconds, save)
        run_batch(planned, restorer, report, context)


def refuse_other_weights(model: str | None, weights: str | None, adapt: bool) -> None:
    """Refuse options that choose weights beside --for jpeg. Raises UsageError."""
    if model or weights or adapt:
        other = "--adapt" if adapt else "--weights" if weights else "--model"
        raise UsageError(f"--for jpeg and {other} contradict each other", hint="give one of them")


def refuse_adapting(
    adapt: bool,
    model: str | None,
    time: str | None,
    save: Path | None,
    overwrite: bool,
    ledger: Path | None,
) -> None:
    """Refuse options that do not fit --adapt. Raises UsageError, OutputExists."""
    if adapt and ledger:
        raise UsageError(
            "--adapt and --ledger contradict each other: the weights would differ at each run",
            hint="save the weights with --save first, then give them by --weights",
        )
    if not adapt and (time or save):
        raise UsageError("--time and --save belong to --adapt", hint="add --adapt")
    if adapt and model is not None and registry.find_for_task("denoise", model).arch != ADAPTING:
        raise UsageError(
            f"{model} cannot adapt: it has no blind mode", hint=f"use --model {ADAPTING}"
        )
    if save is not None:
        refuse_url(save, "--save")
    if save is not None and save.exists() and not overwrite:
        raise OutputExists(f"already exists: {save}", hint="name another file, or add --overwrite")


def sigma_or_word(text: str) -> NoiseSigma:
    """Read --noise-limit; RunOptions checks its range. Raises UsageError."""
    if text in ("auto", "off"):
        return cast("NoiseSigma", text)
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            f"--noise-limit {text}: wanted auto, off, or a sigma from 0 to 255",
            hint="for example --noise-limit 3",
        ) from None


def adapted(
    restorer: Restorer, jobs: Iterable[Job], report: Reporter, seconds: float, save: Path | None
) -> Restorer:
    """Return the restorer with weights trained on the images, or as it is if that did not help.

    After an interruption, the best weights so far are saved. Raises UsageError, NothingToDo,
    OutputError.
    """
    from restore_cli.inference.restorer import Restorer
    from restore_cli.training.adapt import adapt, as_checkpoint

    start = restorer.checkpoint
    with report.progress(round(seconds), "adapting (s)") as bar:
        result = adapt(
            start.module,
            photos_of(jobs),
            seconds=seconds,
            device=restorer.device,
            seed=restorer.options.seed,
            on_progress=lambda passed: bar.update(round(passed)),
        )
    losses = f"held-out loss {result.before:.4f} before, {result.after:.4f} at best"
    if result.helped:
        report.say(f"adapted in {result.steps} steps: {losses}")
        restorer = Restorer(as_checkpoint(start, result, save), restorer.options, limited=True)
    else:
        unsaved = "" if save is None else f", {save} not written"
        report.warn(f"adapting did not help ({losses}): using {start.name} unchanged{unsaved}")
    if result.interrupt is not None:
        raise result.interrupt
    return restorer


def photos_of(jobs: Iterable[Job]) -> Iterator[Tensor]:
    """Yield the images of the jobs, without those that cannot be read: restoring reports them.

    Raises UsageError for an image from a pipe, which can be read only once.
    """
    from restore_cli.imaging.io import read

    for job in jobs:
        if isinstance(job.source, Standard):
            raise UsageError("--adapt reads its images twice", hint="name a file instead of -")
        try:
            yield read(job.source).visible_colours().pixels
        except RestoreError:
            continue
