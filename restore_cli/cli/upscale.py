"""`restore upscale`: enlarge images."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from restore_cli.batch.naming import template_fields
from restore_cli.batch.plan import Enlargement, contains_videos
from restore_cli.cli import choices
from restore_cli.cli import options as option
from restore_cli.cli.console import reporter
from restore_cli.cli.engine_options import loaded, loaded_here
from restore_cli.cli.restoring import plan_batch, run_batch, work_remains
from restore_cli.cli.upscaling import default_factor, default_network, describe_default
from restore_cli.errors import UsageError
from restore_cli.inference.factors import Repetition
from restore_cli.inference.options import ImageSize, RunOptions

if TYPE_CHECKING:
    from restore_cli.inference.report import ImageRestorer

PHOTO_MODEL = "mirnet"  # the only one that is trained on damaged photographs

Scale = Annotated[
    str | None,
    typer.Option(
        "--scale",
        "-s",
        metavar="FACTOR",
        help="Scale factor, for example 2, 2x or 2.5 (x3, then reduced). "
        "[default: 2, or that of --weights]",
        show_default=False,
        autocompletion=choices.starting(("2", "3", "4")),
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="WxH|Wx|xH|LONGEST",
        help="Size in pixels: 1920x1080 exactly, or in proportion 1920x (width), x1080 (height) or "
        "1920 (longest side). Several networks enlarge beyond the largest factor, up to x16.",
    ),
]
Repeat = Annotated[
    bool | None,
    typer.Option(
        "--repeat/--no-repeat",
        help="Allow several networks in turn, up to x16, also for --scale; or forbid it, also for "
        "--size.",
    ),
]
Purpose = Literal["auto", "photo", "clean"]
For = Annotated[
    Purpose,
    typer.Option(
        "--for",
        help="Kind of the source; photo: with JPEG artefacts, noise or blur, which are removed; "
        "clean: without; auto: photo for images with JPEG artefacts, if the network has weights "
        "for it.",
    ),
]


def upscale(
    context: typer.Context,
    source: option.Sources,
    output: option.Output = None,
    preset: option.Preset = None,
    scale: Scale = None,
    size: Size = None,
    repeat: Repeat = None,
    purpose: For = "auto",
    model: option.ModelName = None,
    weights: option.WeightsName = None,
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
    """Enlarge images, folders and videos (ESPCN, MIRNet)."""
    if purpose != "auto" and weights is not None:
        raise UsageError("--for and --weights contradict each other", hint="give one of them")
    factor, pixels = factor_or_size(scale, size, weights)
    passes: Repetition = ("beyond" if pixels else False) if repeat is None else repeat
    if model is None and purpose == "photo":
        model = PHOTO_MODEL
    options = replace(
        option.run_options(model, weights, tile, overlap, device, precision, seed, backend),
        ensemble=ensemble,
    )
    videos = contains_videos(source, output, task="upscale", recursive=recursive)
    is_default = model is None and weights is None
    if is_default and "model" in template_fields(output):
        model = default_network(device, factor, repeat=passes, videos=videos)
    planned = plan_batch(
        context,
        task="upscale",
        model=option.network_of("upscale", model, weights, output),
        scale=Enlargement(factor or 1, pixels),
    )
    with reporter("upscale", quiet=quiet, json=json, print0=print0) as report:
        if not work_remains(planned, report, dry_run=dry_run):
            return
        from restore_cli.inference.light import load_light

        if is_default:  # only now, since it may load torch to find a GPU
            model = default_network(device, factor, repeat=passes, videos=videos)
            report.say(describe_default(model, videos=videos))
            options = replace(options, model=model)
        kind = "clean" if purpose == "auto" and videos else purpose  # one for all frames

        load = partial(enlarging, options, factor, pixels, passes, kind)
        may_be_light = context.params["engine"] == "local" and not (videos or passes)
        with_torch = partial(loaded_here, load, context)
        light = load_light(options, factor, kind, with_torch) if may_be_light else None
        restorer = light or loaded(load, context)
        run_batch(planned, restorer, report, context)


def enlarging(
    options: RunOptions,
    factor: float | None,
    size: ImageSize | None,
    repeat: Repetition,
    purpose: Purpose,
) -> ImageRestorer:
    """Load the networks of an enlargement, and torch. Raises UsageError, WeightsError."""
    from restore_cli.inference.upscaler import Target, load_upscaler

    return load_upscaler(options, Target(factor, size, repeat), purpose)


def factor_or_size(
    scale: str | None, size: str | None, weights: str | None
) -> tuple[float | None, ImageSize | None]:
    """Read --scale or --size, or take the default factor. Raises UsageError, WeightsError."""
    if scale and size:
        raise UsageError("--scale and --size contradict each other", hint="give one of them")
    if size is not None:
        return None, enlarged_size(size)
    return default_factor(weights) if scale is None else option.factor_of(scale), None


def enlarged_size(text: str) -> ImageSize:
    """Read `1920x1080`, `1920x`, `x1080` or `1920`, the longest side. Raises UsageError."""
    side = r"([1-9]\d{0,5})"
    match = re.fullmatch(rf"{side}x{side}?|x{side}|{side}", text)
    if match is None:
        raise UsageError(
            f"--size {text}: wanted sides in pixels",
            hint="for example 1920x1080, 1920x (width), x1080 (height) or 1920 (longest side)",
        )
    width, height, only_height, longest = (int(side) if side else None for side in match.groups())
    return ImageSize(width, height or only_height, longest)
