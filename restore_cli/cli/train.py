"""`restore train`: a recipe, a folder of photographs, a weight file."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from restore_cli.cli.console import reporter
from restore_cli.errors import UsageError

UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds_of(duration: str) -> float:
    """`90s`, `10m` or `2h` in seconds. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", duration)
    if match is None:
        raise UsageError(f"--time {duration!r} is no duration", hint="write 90s, 10m or 2h")
    return float(match[1]) * UNITS[match[2]]


def train(
    recipe: Annotated[str, typer.Argument(help="Which training, for example dpenet.")],
    data: Annotated[
        Path,
        typer.Option(
            help="Folder of clean photographs, for cbsn noisy ones; for a generator, of a folder "
            "for each class.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for weights and state.", show_default=False)],
    steps: Annotated[int | None, typer.Option(min=1, help="Steps in all. [recipe's own]")] = None,
    time: Annotated[str | None, typer.Option(help="Stop after 90s, 10m, 2h.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the state in OUT.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    preset: Annotated[str | None, typer.Option(help="A variant of the recipe.")] = None,
    loss: Annotated[
        str | None, typer.Option(help="l1, mse, ms_ssim, mix, ... [recipe's own]")
    ] = None,
    scale: Annotated[
        Literal["2", "3", "4"] | None, typer.Option(help="Of upscaling. [recipe's own]")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Weights to begin with, as far as they fit."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures of a step, where memory is short. [recipe's own]"),
    ] = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="bfloat16 autocast.")] = False,
    seed: Annotated[int, typer.Option(help="Of the random numbers.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make pairs.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train a network by its recipe; writes OUT/<network>.safetensors."""
    limit = None if time is None else seconds_of(time)
    from restore_cli.pipelines.device import pick_device
    from restore_cli.training.generative import RECIPES as GENERATIVE
    from restore_cli.training.generative import GenerativeRecipe, find_generative, fit_classes
    from restore_cli.training.loop import Progress, fit
    from restore_cli.training.recipes import Recipe, find_recipe

    chosen: Recipe | GenerativeRecipe
    if recipe in GENERATIVE:
        if loss or scale or workers:
            raise UsageError(
                f"{recipe} has one loss and one scale, and needs no workers",
                hint="leave --loss, --scale and --workers out",
            )
        chosen = find_generative(recipe, preset)
    else:
        chosen = find_recipe(
            recipe, preset=preset, loss=loss, scale=None if scale is None else int(scale)
        )
    if batch is not None:
        chosen = replace(chosen, batch=batch)
    with reporter("train", quiet=quiet, json=False) as report:
        bar = report.progress(steps or chosen.steps, "training")

        def show(progress: Progress) -> None:
            bar.update(progress.step)
            found = []
            if progress.validation_loss is not None:
                found.append(f"{progress.validation_loss:.4f}")
            if progress.psnr is not None:
                found.append(f"{progress.psnr:.2f} dB from {progress.input_psnr:.2f} dB")
            if found:
                step = f"step {progress.step}: loss {progress.loss:.4f}"
                report.say(f"{step}, validation {', '.join(found)}")

        train_by = (
            partial(fit_classes, chosen)
            if isinstance(chosen, GenerativeRecipe)
            else partial(fit, chosen, workers=workers)
        )
        weights = train_by(
            data,
            out,
            steps=steps,
            time_limit=limit,
            resume=resume,
            init=init,
            device=pick_device(device),
            bf16=bf16,
            seed=seed,
            on_progress=show,
        )
        report.data(str(weights))
