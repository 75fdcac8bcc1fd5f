"""`restore train`: a recipe, a folder of photographs, a weight file."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from restore_cli.cli.console import Reporter, reporter
from restore_cli.cli.options import Json
from restore_cli.errors import UsageError
from restore_cli.training.catalogue import CATALOGUE, GENERATORS, refuse_unknown

if TYPE_CHECKING:
    from restore_cli.training.trainer import Progress

UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds_of(duration: str) -> float:
    """`90s`, `10m` or `2h` in seconds. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", duration)
    if match is None:
        raise UsageError(f"--time {duration!r} is no duration", hint="write 90s, 10m or 2h")
    return float(match[1]) * UNITS[match[2]]


def workers_of(workers: str) -> int | None:
    """A number of processes, or None for auto. Raises UsageError."""
    if workers == "auto":
        return None
    if not workers.isdecimal():
        raise UsageError(f"--workers {workers!r} is no number", hint="write auto, 0, 1, 2, ...")
    return int(workers)


def train(
    recipe: Annotated[
        str | None, typer.Argument(help="Recipe, for example dpenet; see --list.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of clean photographs, for cbsn noisy ones; for a generator, of a folder "
            "for each class.",
            show_default=False,
        ),
    ] = None,
    data_pairs: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="DEGRADED CLEAN",
            help="Two folders of image pairs of your own, matched by name, instead of --data.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for weights and state.", show_default=False)
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps in all. [recipe's own]")] = None,
    time: Annotated[
        str | None,
        typer.Option(
            help="Time in all: 90s, 10m, 2h. Without --steps the learning rate follows it."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the state in OUT; --time counts anew.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    preset: Annotated[str | None, typer.Option(help="Preset of the recipe; see --list.")] = None,
    loss: Annotated[
        str | None, typer.Option(help="l1, mse, ms_ssim, mix, ... [recipe's own]")
    ] = None,
    scale: Annotated[
        Literal["2", "3", "4"] | None, typer.Option(help="Factor of upscaling. [recipe's own]")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Weights to begin with, as far as they fit."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Images of a step, where memory is short. [recipe's own]"),
    ] = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="bfloat16 autocast.")] = False,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    workers: Annotated[
        str,
        typer.Option(
            metavar="auto|N",
            help="Processes that make pairs; auto: none for a CPU, up to 5 for a GPU.",
        ),
    ] = "auto",
    log_every: Annotated[
        float,
        typer.Option(
            min=0.1, metavar="SECONDS", help="Interval of the log lines where no bar is drawn."
        ),
    ] = 30,
    list_recipes: Annotated[
        bool, typer.Option("--list", help="Show all recipes and presets, and train nothing.")
    ] = False,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train a network by its recipe; writes OUT/<network>.safetensors."""
    began = monotonic()
    with reporter("train", quiet=quiet, json=json) as report:
        if list_recipes:
            show_recipes(report, recipe)
            return
        if recipe is None:
            raise UsageError("no recipe is named", hint="see: restore train --list")
        refuse_unknown(recipe, preset)
        if out is None:
            raise UsageError("nowhere to train to", hint="name a folder: --out FOLDER")
        source = data_pairs if data is None else data
        if source is None or (data and data_pairs):
            raise UsageError(
                "training needs one of --data and --data-pairs",
                hint="--data PHOTOS, or --data-pairs DEGRADED CLEAN",
            )
        limit = None if time is None else seconds_of(time)
        processes = workers_of(workers)
        train_by: Callable[..., Path]
        if recipe in GENERATORS:
            if data is None or loss or scale or processes is not None:
                raise UsageError(
                    f"{recipe} has one loss and one scale, and needs no pairs and no workers",
                    hint="leave --loss, --scale, --data-pairs and --workers out",
                )
            from restore_cli.training.generation import find_generative, fit_classes

            generative = find_generative(recipe, preset)
            generative = replace(generative, batch=batch or generative.batch)
            own_steps = generative.steps
            train_by = partial(fit_classes, generative, data)
        else:
            from restore_cli.training.recipes import find_recipe
            from restore_cli.training.restoration import fit

            factor = None if scale is None else int(scale)
            chosen = find_recipe(recipe, preset=preset, loss=loss, scale=factor)
            chosen = replace(chosen, batch=batch or chosen.batch)
            own_steps = chosen.steps
            train_by = partial(fit, chosen, source, workers=processes)
        from restore_cli.inference.device import pick_device

        total = steps or (own_steps if limit is None else None)
        weights = train_by(
            out,
            steps=steps,
            time_limit=limit,
            began=began,
            resume=resume,
            init=init,
            device=pick_device(device),
            bf16=bf16,
            seed=seed,
            on_progress=TrainingLog(report, total, limit, log_every),
        )
        report.data({"weights": str(weights)} if json else str(weights))


def show_recipes(report: Reporter, only: str | None) -> None:
    """A line on stdout for each preset: recipe, preset, description; with --json an object."""
    if only is not None:
        refuse_unknown(only, None)
    for recipe in [only] if only is not None else CATALOGUE:
        for preset, description in CATALOGUE[recipe].items():
            if report.json:
                report.data({"recipe": recipe, "preset": preset, "description": description})
            else:
                report.data(f"{recipe:<8}{preset:<15}{description}")


class TrainingLog:
    """The course of a training: a bar on a terminal, elsewhere a line every few seconds."""

    def __init__(
        self, report: Reporter, steps: int | None, limit: float | None, every: float
    ) -> None:
        self.report, self.steps, self.limit, self.every = report, steps, limit, every
        self.bar = report.progress(steps or limit, "training" if steps else "training (s)")
        self._line: tuple[int, float] | None = None  # step and seconds of the last line

    def __call__(self, progress: Progress) -> None:
        self.bar.update(progress.step if self.steps else round(progress.seconds))
        found = []
        if progress.validation_loss is not None:
            found.append(f"{progress.validation_loss:.4f}")
        if progress.psnr is not None:
            found.append(f"{progress.psnr:.2f} dB from {progress.input_psnr:.2f} dB")
        if found:
            step = f"step {progress.step}: loss {progress.loss:.4f}"
            self.report.say(f"{step}, validation {', '.join(found)}")
            self._line = (progress.step, progress.seconds)  # its time is not that of steps
        elif not self.bar.is_drawn:
            self._log(progress)

    def _log(self, progress: Progress) -> None:
        if self._line is None:
            self._line = (progress.step, progress.seconds)
            return
        step, seconds = self._line
        passed = progress.seconds - seconds
        if passed < self.every:
            return
        self._line = (progress.step, progress.seconds)
        rate = (progress.step - step) / passed
        left = self._left(progress, rate)
        self.report.say(
            f"step {progress.step}, loss {progress.loss:.4f}, {rate:.2f} steps/s, {left} left"
        )

    def _left(self, progress: Progress, rate: float) -> str:
        """The time to the end, by the steps, the clock, or the sooner of both."""
        times = []
        if self.steps:
            times.append((self.steps - progress.step) / rate)
        if self.limit is not None:
            times.append(self.limit - progress.seconds)
        seconds = max(0, round(min(times)))
        hours, minutes = seconds // 3600, seconds // 60 % 60
        if hours:
            return f"{hours}h{minutes:02}m"
        return f"{minutes}m{seconds % 60:02}s"
