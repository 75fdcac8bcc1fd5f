"""`restore enhance`: brighten dark images."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import typer

from restore_cli.batch.plan import plan
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
    Strength,
    Tile,
    Watch,
    WeightsName,
    existing_targets,
    network_of,
    run_options,
    shard_of,
)
from restore_cli.cli.restoring import (
    refuse_contradictions,
    refuse_report,
    run_batch,
    work_remains,
)

Resize = Annotated[
    Literal["detail", "fit", "native"],
    typer.Option(
        help="Other sizes than that of TML; detail: its change is carried to the image, which "
        "keeps its own detail; fit: its output is stretched, as in the paper; native: it runs at "
        "the size of the image."
    ),
]


def enhance(
    context: typer.Context,
    source: Sources,
    output: Output = None,
    model: ModelName = None,
    weights: WeightsName = None,
    strength: Strength = 1.0,
    resize: Resize = "detail",
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
    """Brighten dark images and folders of images (TML)."""
    options = run_options(model, weights, tile, overlap, device, precision, seed)
    planned = plan(
        source,
        output,
        task="enhance",
        model=network_of("enhance", model, weights, output),
        recursive=recursive,
        format=format,
        existing=existing_targets(overwrite, skip_existing),
        shard=shard_of(shard),
        ledger=ledger_of(context),
    )
    refuse_contradictions(planned, quality=quality, format=format, json=json, print0=print0)
    refuse_report(html, planned)
    with reporter("enhance", quiet=quiet, json=json, print0=print0) as report:
        if not work_remains(planned, report, dry_run=dry_run):
            return
        from restore_cli.inference.restorer import load_restorer

        restorer = load_restorer("enhance", replace(options, strength=strength, resize=resize))
        run_batch(planned, restorer, report, quality=quality, record=record, html=html)
