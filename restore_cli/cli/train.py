"""`restore train`: train a network by a recipe on a folder of photographs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from restore_cli.cli import choices
from restore_cli.cli.console import Reporter, reporter
from restore_cli.cli.options import DEVICES, Json, Quiet, seconds_of, whole_factor
from restore_cli.errors import UsageError
from restore_cli.storage import refuse_url
from restore_cli.training.recipes import RECIPES, find_entry, find_recipe

if TYPE_CHECKING:
    from restore_cli.training.recipe import GeneratorRecipe, RestorationRecipe
    from restore_cli.training.trainer import Progress, TrainingOptions


def workers_of(workers: str) -> int | None:
    """Return the number of processes, or None for auto. Raises UsageError."""
    if workers == "auto":
        return None
    if not workers.isdecimal():
        raise UsageError(f"--workers {workers!r} is not a number", hint="write auto, 0, 1, 2, ...")
    return int(workers)


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="Recipe, for example dpenet; see --list.",
            autocompletion=choices.recipes,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of clean photographs (for cbsn: noisy ones; for a generator: one "
            "subfolder of images per class).",
            show_default=False,
        ),
    ] = None,
    data_pairs: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="DEGRADED CLEAN",
            help="Two folders of images, paired by name; instead of --data.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Output folder for weights and state.", show_default=False
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Total number of steps. [default: by the recipe]"),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Total time, for example 90s, 10m or 2h; without --steps, the learning-rate "
            "schedule follows it.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue from the state in --out; --time starts again."),
    ] = False,
    device: Annotated[
        str,
        typer.Option(
            metavar="auto|cpu|cuda|cuda:N|mps",
            help="Compute device; auto: a GPU if there is one.",
            autocompletion=choices.starting(DEVICES),
        ),
    ] = "auto",
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Preset of the recipe; see --list.",
            autocompletion=choices.presets_of_recipe,
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Loss, for example l1, mse, ms_ssim or mix. [default: by the recipe]",
            autocompletion=choices.losses,
        ),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option(
            parser=whole_factor,
            metavar="2|3|4",
            help="Scale factor. [default: by the recipe]",
            autocompletion=choices.starting(("2", "3", "4")),
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Initial weights, for the layers that they fit.",
            autocompletion=choices.weights,
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Batch size; reduce it to save memory. [default: by the recipe]",
        ),
    ] = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="Train in bfloat16 (autocast).")] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed.")] = 0,
    workers: Annotated[
        str,
        typer.Option(
            metavar="auto|N",
            autocompletion=choices.starting(("auto",)),
            help="Worker processes that prepare training pairs; auto: none on a CPU, up to 5 on a "
            "GPU.",
        ),
    ] = "auto",
    log_every: Annotated[
        float,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help="Interval of log lines in seconds, without a progress bar.",
        ),
    ] = 30,
    list_recipes: Annotated[
        bool, typer.Option("--list", help="List all recipes and presets, then exit.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a network by a recipe.

    The weights are written to OUT/<network>.safetensors, a file for --weights.
    """
    began = monotonic()
    with reporter("train", quiet=quiet, json=json) as report:
        if list_recipes:
            list_presets(report, recipe)
            return
        if recipe is None:
            raise UsageError("no recipe is named", hint="see: restore train --list")
        entry = find_entry(recipe, preset)
        if out is None:
            raise UsageError("no output folder is named", hint="add --out FOLDER")
        refuse_url(out, "--out")
        source = data_pairs if data is None else data
        if source is None or (data and data_pairs):
            raise UsageError(
                "training needs one of --data and --data-pairs",
                hint="--data PHOTOS, or --data-pairs DEGRADED CLEAN",
            )
        limit = None if time is None else seconds_of(time)
        makers = workers_of(workers)
        if entry.generates and (data is None or loss or scale or makers is not None):
            raise UsageError(
                f"{recipe} has one loss and one scale, and needs no pairs and no workers",
                hint="leave --loss, --scale, --data-pairs and --workers out",
            )
        from restore_cli.training.processes import join_processes
        from restore_cli.training.trainer import TrainingOptions

        chosen = find_recipe(recipe, preset, loss=loss, scale=scale)
        chosen = replace(chosen, batch=batch or chosen.batch)
        total = steps or (chosen.steps if limit is None else None)
        with join_processes(device) as (processes, own_device):
            report.quiet |= not processes.is_first
            options = TrainingOptions(
                out,
                own_device,
                steps=steps,
                time_limit=limit,
                began=began,
                resume=resume,
                init=init,
                bf16=bf16,
                seed=seed,
                on_progress=TrainingLog(report, total, limit, log_every),
                processes=processes,
            )
            weights = run_training(chosen, source, options, makers)
        if processes.is_first:
            report.data({"weights": str(weights)} if json else str(weights))


def run_training(
    recipe: RestorationRecipe | GeneratorRecipe,
    source: Path | tuple[Path, Path],
    options: TrainingOptions,
    workers: int | None,
) -> Path:
    """Run the training for this kind of recipe; return the path of the weights."""
    from restore_cli.training.recipe import RestorationRecipe

    if isinstance(recipe, RestorationRecipe):
        from restore_cli.training.restoration import train_restoration

        return train_restoration(recipe, source, options, workers=workers)
    from restore_cli.training.generation import train_generator

    assert isinstance(source, Path)  # pairs were refused
    return train_generator(recipe, source, options)


def list_presets(report: Reporter, recipe: str | None) -> None:
    """Write a line for each preset, of all recipes or of one; with --json an object."""
    chosen = RECIPES if recipe is None else {recipe: find_entry(recipe)}
    for name, entry in chosen.items():
        for preset, description in entry.presets.items():
            if report.json:
                report.data({"recipe": name, "preset": preset, "description": description})
            else:
                report.data(f"{name:<8}{preset:<15}{description}")


class TrainingLog:
    """Progress of a training: a bar on a terminal, elsewhere a line every few seconds."""

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
            self._line = (progress.step, progress.seconds)  # the rate excludes validations
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
        """Return the time to the end, by steps or by the clock, whichever comes first."""
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
