"""`restore generate`: images of nothing but a word."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from restore_cli.cli.console import Reporter, binary_stdout, reporter
from restore_cli.cli.findings import CIRCUMSTANCES
from restore_cli.cli.options import (
    Device,
    DryRun,
    Json,
    Overwrite,
    Precision,
    Quality,
    Quiet,
    SkipExisting,
    WeightsName,
    existing_targets,
    size_of,
)
from restore_cli.errors import UsageError, WeightsMissing

if TYPE_CHECKING:
    from restore_cli.batch.generate import GeneratedFile
    from restore_cli.batch.grids import Grid
    from restore_cli.checkpoints.classes import ClassWeights
    from restore_cli.inference.generator import GenerateRequest, GeneratorOptions, ImageGenerator


def generate(
    prompt: Annotated[
        list[str] | None,
        typer.Argument(help="Classes to make an image of; with --base, any texts."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUTPUT",
            help="A file for all in one, a folder for a file each, or a template with {prompt} "
            "{index} {seed} {model}; - for stdout. [default: {prompt}.png]",
        ),
    ] = None,
    model: Annotated[
        Literal["fitv2", "scalecrafter"] | None,
        typer.Option(help="Network. [default: the first that knows the classes]"),
    ] = None,
    weights: WeightsName = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|HUB_ID",
            help="Stable Diffusion 1.5, 2.1 or XL for ScaleCrafter: a folder, a file, or its name "
            "on the hub.",
        ),
    ] = None,
    vae: Annotated[
        Path | None,
        typer.Option(help="Folder of an AutoencoderKL, for weights of FiTv2 that make latents."),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="In pixels. [default: the network's own]")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of the sampling. [default: the network's own]")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="How strongly towards the prompt; 1: not at all. [default: the network's own]",
        ),
    ] = None,
    negative: Annotated[
        str | None, typer.Option(metavar="PROMPT", help="What to go away from.")
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="euler, midpoint, heun, dopri5, sde for FiTv2; ddim, ddpm for the UNet; these, "
            "dpm, euler or unipc with --base.",
        ),
    ] = None,
    rope: Annotated[
        str | None,
        typer.Option(
            metavar="MODE",
            help="How FiTv2 reads positions beyond its training: normal, linear, ntk-aware, "
            "ntk-by-parts, yarn, ntk-aware-pro1 or -pro2. [default: by size and network]",
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=1000, help="Images of each prompt.")] = 1,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the first image; the next has one more.")
    ] = 0,
    direct: Annotated[
        bool, typer.Option("--direct", help="Without ScaleCrafter, to compare.")
    ] = False,
    freeu: Annotated[bool, typer.Option("--freeu", help="With FreeU (only with --base).")] = False,
    disperse: Annotated[
        bool, typer.Option("--disperse", help="With dispersed kernels too (only with --base).")
    ] = False,
    synchronise: Annotated[
        bool,
        typer.Option(
            "--synchronise", help="Decode in tiles that share statistics (only with --base)."
        ),
    ] = False,
    list_classes: Annotated[
        bool, typer.Option("--list-classes", help="Show what can be made, and make nothing.")
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    quality: Quality = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    json: Json = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
) -> None:
    """Make images of a class, or of a text with --base."""
    _refuse_contradictions(model, weights, base)
    with reporter("generate", quiet=quiet, json=json) as report:
        if list_classes:
            _list_classes(candidates(model, weights), report)
            return
        if not prompt:
            raise UsageError(
                "nothing to make", hint="name a class: restore generate --list-classes"
            )
        from restore_cli.batch.grids import plan_grids

        chosen = None if base else _chosen(prompt, negative, model, weights)
        existing = existing_targets(overwrite, skip_existing)
        sheets, skipped = plan_grids(
            prompt,
            output,
            count=count,
            seed=seed,
            model=(chosen and chosen.arch) or "scalecrafter",
            existing=existing,
        )
        _refuse_output(sheets, quality, json)
        wanted_size = None if size is None else size_of(size)
        for sheet in skipped:
            report.say(f"{sheet.target} exists and is left as it is")
            if json:
                report.data(_record(sheet, seed, status="skipped"))
        if dry_run:
            _show_plan(sheets, seed, report)
            return
        if not sheets:
            return
        from restore_cli.inference.generator import GenerateRequest, GeneratorOptions

        asked = GenerateRequest(
            prompt[0],
            wanted_size,
            steps,
            guidance,
            negative,
            sampler,
            rope,
            direct,
            freeu,
            disperse,
            synchronise,
        )
        options = GeneratorOptions(
            None if vae is None else Path(os.path.expanduser(vae)), device, precision
        )
        _make(sheets, asked, options, base or chosen, report, quality, overwrite)


def _make(
    sheets: list[Grid],
    asked: GenerateRequest,
    options: GeneratorOptions,
    source: str | ClassWeights | None,
    report: Reporter,
    quality: int | None,
    overwrite: bool,
) -> None:
    from restore_cli.batch.generate import generate_grids
    from restore_cli.batch.plan import Standard

    assert source is not None  # one of --base and the weights
    stdout = binary_stdout() if any(s.target is Standard.OUTPUT for s in sheets) else None
    began = time.monotonic()
    bar = report.progress(None, sheets[0].source)
    generator = _load(source, asked, options)
    for note in generator.notes:
        report.say(note)
    made = generate_grids(
        sheets,
        generator,
        asked,
        quality=quality,
        overwrite=overwrite,
        stdout=stdout,
        on_step=bar.update,
    )
    for done in made:
        _show(done, generator, report)
    images = sum(len(sheet.images) for sheet in sheets)
    report.say(
        f"{images} made by {generator.weights} on {generator.device}, {generator.precision}, "
        f"in {time.monotonic() - began:.1f} s"
    )


def _load(
    source: str | ClassWeights, asked: GenerateRequest, options: GeneratorOptions
) -> ImageGenerator:
    if isinstance(source, str):
        from restore_cli.inference.samplers.stable_diffusion import load_text_generator

        return load_text_generator(source, [asked], options)
    from restore_cli.inference.generator import load_class_generator

    return load_class_generator(source, options)


def candidates(model: str | None, weights: str | None) -> list[ClassWeights]:
    """The weights that are meant, the first choice first. Raises WeightsError."""
    from restore_cli.checkpoints.classes import class_weights, installed
    from restore_cli.registry import find

    if weights is not None:
        return [class_weights(weights)]
    if model is not None:
        return [class_weights(find(model).default_weights)]
    able = installed()
    if not able:
        raise WeightsMissing(
            "restore comes without weights of a generator",
            hint="name some: --weights FILE, or --base FOLDER of a Stable Diffusion",
        )
    return able


def _chosen(
    prompts: list[str], negative: str | None, model: str | None, weights: str | None
) -> ClassWeights:
    from restore_cli.checkpoints.classes import choose

    return choose([*prompts, *([negative] if negative else [])], candidates(model, weights))


def _refuse_contradictions(model: str | None, weights: str | None, base: str | None) -> None:
    if base and model == "fitv2":
        raise UsageError("--base is for ScaleCrafter, not for fitv2", hint="leave one of them out")
    if base and weights:
        raise UsageError("--base and --weights contradict each other", hint="give one of them")


def _refuse_output(sheets: list[Grid], quality: int | None, json: bool) -> None:
    from restore_cli.batch.plan import Standard
    from restore_cli.imaging.formats import is_lossy

    formats = {sheet.format for sheet in sheets}
    if quality is not None and formats and not any(map(is_lossy, formats)):
        raise UsageError(
            f"--quality has no effect on {' and '.join(sorted(formats))}", hint="leave it out"
        )
    if json and any(sheet.target is Standard.OUTPUT for sheet in sheets):
        raise UsageError(
            "the image and --json cannot both go to stdout", hint="add -o FILE for the image"
        )


def _list_classes(known: list[ClassWeights], report: Reporter) -> None:
    """Each class once, a line each; with --json an object for each set of weights."""
    if report.json:
        for one in known:
            report.data({"model": one.arch, "weights": one.weights, "classes": list(one.classes)})
        return
    for name in sorted({name for one in known for name in one.classes}):
        report.data(name)
    for one in known:
        report.say(f"{one.weights}: {len(one.classes)} classes")


def _show_plan(sheets: list[Grid], seed: int, report: Reporter) -> None:
    for sheet in sheets:
        if report.json:
            report.data(_record(sheet, seed, status=None))
        else:
            report.data(f"{sheet.source} -> {sheet.target}")
    report.say(f"{len(sheets)} to do; nothing was done (--dry-run)")


def _show(made: GeneratedFile, generator: ImageGenerator, report: Reporter) -> None:
    sheet = made.sheet
    if report.json:
        circumstances = {
            "seconds": round(made.seconds, 3),
            "model": generator.model,
            "weights": generator.weights,
            "weights_sha256": generator.sha256,
            "device": str(generator.device),
            "precision": generator.precision,
            "width": made.width,
            "height": made.height,
        }
        report.data(_record(sheet, sheet.images[0][1], status="ok") | circumstances)
    elif str(sheet.target) != "-":
        report.data(str(sheet.target))


def _record(
    sheet: Grid, seed: int, *, status: Literal["ok", "skipped"] | None
) -> dict[str, object]:
    """The JSON of one file, all fields there; what is not known is null."""
    known: dict[str, object] = dict.fromkeys(CIRCUMSTANCES)
    return {
        "source": sheet.source,
        "target": str(sheet.target),
        "status": status,
        "error": None,
    } | (known | {"seed": seed})
