"""`restore generate`: images of a class, or of a text with a Stable Diffusion."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

import typer

from restore_cli.batch.jobs import Standard
from restore_cli.cli import choices
from restore_cli.cli import options as option
from restore_cli.cli.console import Reporter, binary_stdout, reporter
from restore_cli.cli.findings import row
from restore_cli.cli.ledger_options import ledger_of_generation
from restore_cli.cli.restoring import Failure, raise_failures
from restore_cli.cli.settings import is_typed
from restore_cli.errors import RestoreError, UsageError
from restore_cli.inference.options import Precision as PrecisionName
from restore_cli.inference.samplers.request import GenerateRequest, GeneratorOptions, Lora
from restore_cli.registry import GENERATORS

if TYPE_CHECKING:
    from restore_cli.batch.generate import GeneratedFile
    from restore_cli.batch.grids import Grid, GridPlan
    from restore_cli.checkpoints.classes import ClassWeights
    from restore_cli.inference.generator import Generator
    from restore_cli.inference.report import Report

MOST_IMAGES = 1000  # per prompt
LARGEST_SEED = (1 << 63) - MOST_IMAGES  # of a generator of torch, and of a record
DEFAULT_WEIGHTS = {spec.default_weights for spec in GENERATORS.values()}


def generate(
    context: typer.Context,
    prompt: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROMPT",
            help="Classes to generate; with --base, any texts.",
            autocompletion=choices.classes,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUTPUT",
            help="Output file (one grid of all images), folder (one file per image), or template "
            "with {prompt} {number} {index} {seed} {model}; - for stdout. [default: {prompt}.png]",
        ),
    ] = None,
    preset: option.Preset = None,
    prompts_file: Annotated[
        Path | None,
        typer.Option(
            "--prompts", metavar="FILE", help="Text file with one further prompt per line."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(GENERATORS),
            help="Network. [default: the first that knows the classes]",
            autocompletion=choices.starting(GENERATORS),
        ),
    ] = None,
    weights: option.WeightsName = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|HUB_ID",
            help="Stable Diffusion 1.5, 2.1, XL, Turbo or LCM with ScaleCrafter: a folder, a file, "
            "or a name on the Hugging Face Hub.",
        ),
    ] = None,
    vae: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of an AutoencoderKL, for weights of FiTv2 or DiMR that need one.",
        ),
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE[:SCALE]", help="LoRA for --base, and its scale; repeatable."),
    ] = None,
    controlnet: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="ControlNet for --base.")
    ] = None,
    controlnet_scale: Annotated[
        float | None,
        typer.Option(metavar="0..2", help="Weight of the ControlNet. [default: 1]"),
    ] = None,
    control_image: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Input of the ControlNet, such as edges, a depth map or a pose."
        ),
    ] = None,
    init_image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Initial image (only with --base).")
    ] = None,
    init_strength: Annotated[
        float | None,
        typer.Option(
            metavar="0..1",
            help="Change of the initial image, 1: complete. [default: by the pipeline]",
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Mask image, white where the initial image is replaced."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH", help="Size in pixels. [default: by the initial image, or by the network]"
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Sampling steps. [default: by the network]"),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            min=1, metavar="SCALE", help="Guidance scale; 1: no guidance. [default: by the network]"
        ),
    ] = None,
    negative: Annotated[
        str | None,
        typer.Option(
            metavar="PROMPT",
            help="Negative prompt: a class or a text.",
            autocompletion=choices.classes,
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler",
            "--scheduler",
            metavar="NAME",
            help="Sampler: euler, midpoint, heun, dopri5 or sde for FiTv2; dpm, ddim or unipc "
            "for DiMR; ddim or ddpm for the UNet; with --base ddim, ddpm, dpm, euler, euler_a, "
            "heun, lcm, pndm or unipc. [default: by the network]",
            autocompletion=choices.samplers,
        ),
    ] = None,
    rope: Annotated[
        str | None,
        typer.Option(
            metavar="MODE",
            help="Position embedding of FiTv2 beyond its training size: normal, linear, ntk-aware, "
            "ntk-by-parts, yarn, ntk-aware-pro1 or ntk-aware-pro2. [default: by size and network]",
            autocompletion=choices.starting(choices.ROPES),
        ),
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, max=MOST_IMAGES, metavar="N", help="Images per prompt.")
    ] = 1,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=LARGEST_SEED,
            metavar="N",
            help="Random seed of the first image, increased by 1 for each further one.",
        ),
    ] = 0,
    direct: Annotated[
        bool, typer.Option("--direct", help="Sampling without ScaleCrafter, for comparison.")
    ] = False,
    freeu: Annotated[bool, typer.Option("--freeu", help="FreeU (only with --base).")] = False,
    disperse: Annotated[
        bool,
        typer.Option(
            "--disperse", help="Dispersed convolution of ScaleCrafter (only with --base)."
        ),
    ] = False,
    synchronise: Annotated[
        bool,
        typer.Option(
            "--synchronise", help="Decoding in tiles with shared group norms (only with --base)."
        ),
    ] = False,
    enhance: Annotated[
        bool,
        typer.Option("--enhance", help="Twofold enlargement of the images, as by restore upscale."),
    ] = False,
    list_classes: Annotated[
        bool, typer.Option("--list-classes", help="List the known classes and generate nothing.")
    ] = False,
    device: option.Device = "auto",
    precision: option.Precision = "auto",
    quality: option.Quality = None,
    overwrite: option.Overwrite = False,
    skip_existing: option.SkipExisting = False,
    json: option.Json = False,
    print0: option.Print0 = False,
    quiet: option.Quiet = False,
    dry_run: option.DryRun = False,
    ledger: option.LedgerFile = None,
    retry_failed: option.RetryFailed = False,
    shard: option.ShardName = None,
) -> None:
    """Generate images of a class, or of a text with --base."""
    from restore_cli.batch.grids import plan_grids, refuse_empty
    from restore_cli.checkpoints.classes import candidates, choose

    _refuse_model(model)
    _refuse_half_a_controlnet(controlnet, control_image)
    options = GeneratorOptions(
        model,
        weights,
        base,
        vae,
        [_lora(text) for text in lora or []],
        controlnet,
        controlnet_scale,
        device,
    )
    with reporter("generate", quiet=quiet, json=json, print0=print0) as report:
        if list_classes:
            _refuse_base_with_classes(base)
            _list_classes(candidates(model, weights), report)
            return
        prompts = [*(prompt or []), *(_lines(prompts_file) if prompts_file else [])]
        refuse_empty(prompts, output)
        named = [*prompts, negative] if negative else prompts
        chosen = None if base else choose(named, candidates(model, weights))
        if chosen is not None:
            options = replace(options, weights=chosen.weights)
        inputs = {"init_image": init_image, "mask": mask, "control_image": control_image}
        files = [base, vae, controlnet, *inputs.values(), *(one.file for one in options.loras)]
        planned = plan_grids(
            prompts,
            output,
            count=count,
            seed=seed,
            model=(chosen and chosen.arch) or "scalecrafter",
            size=option.size_of(size),
            existing=option.existing_targets(overwrite, skip_existing),
            shard=option.shard_of(shard),
            ledger=ledger_of_generation(context, options.weights, files),
        )
        _refuse_contradictions(planned, context)
        request = GenerateRequest(
            prompts[0],
            size=option.size_of(size),
            steps=steps,
            guidance=guidance,
            negative=negative,
            sampler=sampler,
            rope=rope,
            direct=direct,
            freeu=freeu,
            disperse=disperse,
            synchronise=synchronise,
            init_strength=init_strength,
        )
        request = _checked(planned, request, inputs, options, dry_run=dry_run)
        if not _work_remains(planned, report, dry_run):
            raise_failures(planned, [], report)
            return
        _run(planned, request, options, precision, report, enhance=enhance, quality=quality)


def _checked(
    planned: GridPlan,
    request: GenerateRequest,
    inputs: Mapping[str, Path | None],
    options: GeneratorOptions,
    *,
    dry_run: bool,
) -> GenerateRequest:
    """Return the request with its images, after refusing what the generator would refuse.

    A real run asks in advance for a pipeline alone, which takes long to load. Default weights
    without options are known to be right, and torch is not loaded for them.
    """
    if not planned.grids:
        return request
    request = _with_inputs(request, inputs)
    if not dry_run and options.base is None:
        return request
    is_plain = request == GenerateRequest(request.prompt) and options.vae is None
    if is_plain and options.weights in DEFAULT_WEIGHTS:
        return request
    from restore_cli.batch.generate import resolve_all
    from restore_cli.inference.generator import outline

    sampler = outline(options)
    if sampler is not None:
        resolve_all(planned.grids, sampler, request)
    return request


def _run(
    planned: GridPlan,
    request: GenerateRequest,
    options: GeneratorOptions,
    precision: PrecisionName,
    report: Reporter,
    *,
    enhance: bool,
    quality: int | None,
) -> None:
    """Load the generator, and generate and report each file."""
    from restore_cli.batch.generate import run_grids
    from restore_cli.inference.generator import load
    from restore_cli.inference.options import RunOptions
    from restore_cli.inference.upscaler import Target, load_upscaler

    enlarge = load_upscaler(RunOptions(device=options.device), Target(2)) if enhance else None
    stdout = _stdout(planned)
    generator = load(options, precision, request.size)
    files = run_grids(
        planned,
        generator,
        request,
        enlarge=enlarge,
        quality=quality,
        stdout=stdout,
        on_step=report.progress(None, planned.grids[0].source).update,
    )
    raise_failures(planned, _show_files(files, generator, report), report)


def _refuse_model(model: str | None) -> None:
    if model is not None and model not in GENERATORS:
        raise UsageError(
            f"--model {model} is not a generator", hint=f"one of: {', '.join(GENERATORS)}"
        )


def _refuse_base_with_classes(base: str | None) -> None:
    if base:
        raise UsageError(
            "--base takes any text and has no classes", hint="leave out --list-classes"
        )


def _refuse_half_a_controlnet(controlnet: Path | None, control_image: Path | None) -> None:
    if (controlnet is None) != (control_image is None):
        raise UsageError("--controlnet and --control-image need each other", hint="give both")


def _with_inputs(request: GenerateRequest, inputs: Mapping[str, Path | None]) -> GenerateRequest:
    """Return the request with its images read. Raises InputError."""
    if not any(inputs.values()):
        return request
    from restore_cli.inference.generator import read_input

    read: dict[str, Any] = {
        name: read_input(path) for name, path in inputs.items() if path is not None
    }
    return replace(request, **read)


def _lines(file: Path) -> list[str]:
    """Return the prompts in a file, one a line. Raises UsageError."""
    try:
        prompts = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f"--prompts {file}: {reason}", hint="give a text file in UTF-8") from error
    if not any(prompts):
        raise UsageError(f"--prompts {file}: no prompt", hint="write one prompt per line")
    return [prompt for prompt in prompts if prompt]


def _lora(given: str) -> Lora:
    """Read FILE[:SCALE]; a colon before anything but a number belongs to the name."""
    found = re.fullmatch(r"(.+):([-+]?(?:\d+\.?\d*|\.\d+))", given)
    return Lora(Path(found[1]), float(found[2])) if found else Lora(Path(given))


def _refuse_contradictions(planned: GridPlan, context: typer.Context) -> None:
    """Refuse options that do not fit the planned formats. Raises UsageError."""
    from restore_cli.imaging.formats import is_lossy

    given = context.params
    quality = given["quality"] if is_typed(context, "quality") else None
    formats = {grid.format for grid in planned.grids}
    if quality is not None and formats and not any(map(is_lossy, formats)):
        raise UsageError(
            f"--quality has no effect on {' and '.join(sorted(formats))}", hint="leave it out"
        )
    piped = any(grid.target is Standard.OUTPUT for grid in planned.grids)
    option.refuse_mixed_stdout(piped=piped, json=given["json"], print0=given["print0"])


def _stdout(planned: GridPlan) -> BinaryIO | None:
    """Return stdout if an image goes there. Raises UsageError for a terminal."""
    piped = any(grid.target is Standard.OUTPUT for grid in planned.grids)
    return binary_stdout() if piped else None


def _list_classes(known: Iterable[ClassWeights], report: Reporter) -> None:
    """List each class once, a line each; with --json an object per set of weights."""
    if report.json:
        for one in known:
            report.data({"model": one.arch, "weights": one.weights, "classes": list(one.classes)})
        return
    for name in sorted({name for one in known for name in one.classes}):
        report.data(name)
    for one in known:
        report.say(f"{one.weights}: {len(one.classes)} classes")


def _work_remains(planned: GridPlan, report: Reporter, dry_run: bool) -> bool:
    """Show what is skipped, with --dry-run what would be generated; return whether work remains."""
    for grid in planned.skipped:
        _show_skipped(grid, report)
    if report.json:
        for grid, error in planned.failed:
            report.data(_grid_row(grid, "failed", error))
    if not dry_run:
        return bool(planned.grids)
    for grid in planned.grids:
        if report.json:
            report.data(_grid_row(grid, None))
        else:
            report.data(f"{grid.source} -> {grid.target}")
    report.say(f"{len(planned.grids)} planned, nothing done (--dry-run)")
    return False


def _show_skipped(grid: Grid, report: Reporter) -> None:
    report.say(f"skipped, already exists: {grid.target}")
    if report.json:
        report.data(_grid_row(grid, "skipped"))


def _show_files(
    files: Iterable[GeneratedFile], generator: Generator, report: Reporter
) -> list[Failure]:
    """Report each file as it is finished; return the failures."""
    images, failures = 0, []
    if generator.memory is not None:
        report.say(f"memory: {generator.memory}")
    for file in files:
        grid = file.job
        if file.error is not None:
            failures.append((grid.item, file.error))
            if report.json:
                report.data(_grid_row(grid, "failed", file.error))
        elif file.report is None:
            _show_skipped(grid, report)
        else:
            images += len(grid.images)
            if report.json:
                report.data(_row(file, file.report, generator))
            elif grid.target is not Standard.OUTPUT:
                report.data(str(grid.target))
    report.say(
        f"{images} generated by {generator.weights} on {generator.device}, "
        f"{generator.precision}, in {report.seconds:.1f} s"
    )
    return failures


def _grid_row(
    grid: Grid, status: Literal["ok", "skipped", "failed"] | None, error: RestoreError | None = None
) -> dict[str, object]:
    seed = grid.images[0][1]
    return row(grid.source, status, target=grid.target, error=error) | {"seed": seed}


def _row(file: GeneratedFile, report: Report, generator: Generator) -> dict[str, object]:
    return _grid_row(file.job, "ok") | {
        "seconds": round(file.seconds, 3),
        "model": report.model,
        "weights": report.weights,
        "weights_sha256": report.sha256,
        "device": str(generator.device),
        "precision": report.precision,
        "width": file.width,
        "height": file.height,
    }
