"""`restore upscale`: enlarge images."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import typer

from restore_cli.batch.plan import Enlargement, contains_videos, plan, template_fields
from restore_cli.cli.console import reporter
from restore_cli.cli.ledger import ledger_of
from restore_cli.cli.options import (
    Backend,
    Device,
    DryRun,
    FingerprintName,
    FormatName,
    Json,
    LedgerFile,
    ModelName,
    Output,
    Overlap,
    Overwrite,
    Precision,
    Print0,
    Quality,
    Quiet,
    Record,
    Recursive,
    Report,
    RetryFailed,
    Seed,
    ShardName,
    SkipExisting,
    Sources,
    Tile,
    Watch,
    WeightsName,
    existing_targets,
    factor_of,
    network_of,
    run_options,
    shard_of,
    size_of,
)
from restore_cli.cli.restoring import (
    refuse_contradictions,
    refuse_report,
    run_batch,
    work_remains,
)
from restore_cli.cli.upscaling import default_factor, default_network, describe_default
from restore_cli.errors import UsageError

PHOTO_MODEL = "mirnet"  # the only one that is trained on damaged photographs

Scale = Annotated[
    str | None,
    typer.Option(
        "--scale",
        "-s",
        metavar="FACTOR",
        help="Factor, for example 2, 2x or 2.5, which is x3 reduced. "
        "[default: 2, or that of --weights]",
        show_default=False,
    ),
]
Size = Annotated[
    str | None,
    typer.Option(metavar="WxH", help="Exact size in pixels, whatever the proportions were."),
]
Repeat = Annotated[
    bool,
    typer.Option("--repeat", help="Run a network several times: x4 as x2 after x2. Up to x16."),
]
For = Annotated[
    Literal["auto", "photo", "clean"],
    typer.Option(
        "--for",
        help="Weights for photographs damaged by JPEG, noise and blur, or for clean images; auto: "
        "the former for images with JPEG artefacts, where the network has such weights.",
    ),
]


def upscale(
    context: typer.Context,
    source: Sources,
    output: Output = None,
    scale: Scale = None,
    size: Size = None,
    repeat: Repeat = False,
    purpose: For = "auto",
    model: ModelName = None,
    weights: WeightsName = None,
    tile: Tile = "auto",
    overlap: Overlap = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    backend: Backend = "torch",
    recursive: Recursive = False,
    format: FormatName = None,
    quality: Quality = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    json: Json = False,
    print0: Print0 = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    seed: Seed = 0,
    record: Record = True,
    html: Report = None,
    ledger: LedgerFile = None,
    fingerprint: FingerprintName = "mtime",
    retry_failed: RetryFailed = False,
    shard: ShardName = None,
    watch: Watch = False,
) -> None:
    """Enlarge images, folders and videos (ESPCN, MIRNet)."""
    if purpose != "auto" and weights is not None:
        raise UsageError("--for and --weights contradict each other", hint="give one of them")
    factor, pixels = factor_or_size(scale, size, weights)
    if model is None and purpose == "photo":
        model = PHOTO_MODEL
    options = run_options(model, weights, tile, overlap, device, precision, seed)
    videos = contains_videos(source, output, task="upscale", recursive=recursive)
    is_default = model is None and weights is None
    if is_default and "model" in template_fields(output):
        model = default_network(device, factor, repeat=repeat, videos=videos)
    planned = plan(
        source,
        output,
        task="upscale",
        model=network_of("upscale", model, weights, output),
        scale=Enlargement(factor or 1, pixels),
        recursive=recursive,
        format=format,
        existing=existing_targets(overwrite, skip_existing),
        shard=shard_of(shard),
        ledger=ledger_of(context),
    )
    refuse_contradictions(planned, quality=quality, format=format, json=json, print0=print0)
    refuse_report(html, planned)
    with reporter("upscale", quiet=quiet, json=json, print0=print0) as report:
        if not work_remains(planned, report, dry_run=dry_run):
            return
        from restore_cli.inference.upscaler import Target, load_upscaler

        if is_default:  # only now, since it may load torch to find a GPU
            model = default_network(device, factor, repeat=repeat, videos=videos)
            report.say(describe_default(model, videos=videos))
            options = replace(options, model=model)
        kind = "clean" if purpose == "auto" and videos else purpose  # one for all frames
        restorer = load_upscaler(options, Target(factor, pixels, repeat), kind)
        run_batch(planned, restorer, report, quality=quality, record=record, html=html)


def factor_or_size(
    scale: str | None, size: str | None, weights: str | None
) -> tuple[float | None, tuple[int, int] | None]:
    """Read --scale or --size, or take the default factor. Raises UsageError, WeightsError."""
    if scale and size:
        raise UsageError("--scale and --size contradict each other", hint="give one of them")
    if size is not None:
        return None, size_of(size)
    return default_factor(weights) if scale is None else factor_of(scale), None
