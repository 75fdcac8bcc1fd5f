"""`restore denoise`: images without noise, if wanted after learning from these very images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from restore_cli import registry
from restore_cli.cli.choices import CommonOptions, with_choices
from restore_cli.cli.console import Reporter
from restore_cli.cli.options import ModelName, Strength, WeightsName
from restore_cli.cli.restore import run_batch
from restore_cli.cli.train import seconds_of
from restore_cli.errors import OutputExists, RestoreError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from restore_cli.batch.plan import Job
    from restore_cli.cli.restore import AnyRestorer
    from restore_cli.inference.noise import NoiseLimit as NoiseSigma
    from restore_cli.inference.restorer import Restorer, RunOptions

Adapt = Annotated[
    bool,
    typer.Option("--adapt", help="Learn from these images first; best from one camera, one ISO."),
]
Time = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="Of --adapt: 90s, 10m, 2h. [default: 2m]"),
]
Save = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Where --adapt keeps its weights, for --weights later."),
]

NoiseLimit = Annotated[
    str,
    typer.Option(
        metavar="auto|off|SIGMA",
        help="Most that is removed: the estimated noise, all that the network removes, or noise of "
        "SIGMA (of 255).",
    ),
]

USUAL_TIME = "2m"
ADAPTING = "cbsn"  # the network that learns from noisy images alone


@with_choices
def denoise(
    choices: CommonOptions,
    model: ModelName = None,
    weights: WeightsName = None,
    strength: Strength = 1.0,
    noise_limit: NoiseLimit = "auto",
    adapt: Adapt = False,
    time: Time = None,
    save: Save = None,
) -> None:
    """Remove noise from images, folders and videos (MIRNet by default, else C-BSN)."""
    if not adapt and (time or save):
        raise UsageError("--time and --save belong to --adapt", hint="add --adapt")
    network = registry.find_for_task("denoise", model or (ADAPTING if adapt else None)).arch
    if adapt and network != ADAPTING:
        raise UsageError(
            f"{network} cannot adapt: it has no blind mode", hint=f"use --model {ADAPTING}"
        )
    seconds = seconds_of(time or USUAL_TIME)
    limit = sigma_or_word(noise_limit)
    if save is not None and save.exists() and not choices.overwrite:
        raise OutputExists(f"{save} exists", hint="name another file, or add --overwrite")

    def load(options: RunOptions) -> Restorer:
        from restore_cli.inference.restorer import load_restorer

        chosen = replace(options, weights=weights, strength=strength, noise_limit=limit)
        return load_restorer("denoise", chosen)

    def learn(restorer: AnyRestorer, jobs: Sequence[Job], report: Reporter) -> Restorer:
        return adapted(restorer, jobs, report, seconds, save)

    def name_default(restorer: AnyRestorer, jobs: Sequence[Job], report: Reporter) -> AnyRestorer:
        report.say(f"using {network} (default: removes more noise than {ADAPTING})")
        return restorer

    refine = learn if adapt else name_default if model is None and weights is None else None
    run_batch("denoise", choices, load, model=network, refine=refine)


def sigma_or_word(text: str) -> NoiseSigma:
    """Return the value of --noise-limit; RunOptions checks its range. Raises UsageError."""
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
    restorer: AnyRestorer, jobs: Sequence[Job], report: Reporter, seconds: float, save: Path | None
) -> Restorer:
    """The same restorer with weights that have learned from the images, if that helped.

    Interrupted, it still saves what was best by then. Raises UsageError, NothingToDo, OutputError.
    """
    from restore_cli.inference.restorer import Restorer
    from restore_cli.training.adapt import adapt, as_checkpoint

    assert isinstance(restorer, Restorer)
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
        unsaved = "" if save is None else f", and {save} is not written"
        report.warn(f"adapting did not help ({losses}): {start.name} is used as it is{unsaved}")
    if result.interrupt is not None:
        raise result.interrupt
    return restorer


def photos_of(jobs: Sequence[Job]) -> Iterator[Tensor]:
    """The images of the jobs; one that cannot be read is left to the restoring to name.

    Raises UsageError for one that comes through a pipe, which can be read only once.
    """
    from restore_cli.batch.plan import Standard
    from restore_cli.imaging.io import read

    for job in jobs:
        if isinstance(job.source, Standard):
            raise UsageError("--adapt reads its images twice", hint="name a file instead of -")
        try:
            yield read(job.source).visible_colours().pixels
        except RestoreError:
            continue
