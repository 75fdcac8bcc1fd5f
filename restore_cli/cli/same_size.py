"""`restore derain`, `deblur` and others: commands without options of their own.

They differ in their task alone, which is the name of the command.
"""

from __future__ import annotations

from dataclasses import replace

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


def restore_same_size(
    context: typer.Context,
    source: Sources,
    output: Output = None,
    model: ModelName = None,
    weights: WeightsName = None,
    strength: Strength = 1.0,
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
    """Restore images, folders and videos for the task that the command is called by."""
    task = context.command.name or ""
    options = run_options(model, weights, tile, overlap, device, precision, seed)
    planned = plan(
        source,
        output,
        task=task,
        model=network_of(task, model, weights, output),
        recursive=recursive,
        format=format,
        existing=existing_targets(overwrite, skip_existing),
        shard=shard_of(shard),
        ledger=ledger_of(context),
    )
    refuse_contradictions(planned, quality=quality, format=format, json=json, print0=print0)
    refuse_report(html, planned)
    with reporter(task, quiet=quiet, json=json, print0=print0) as report:
        if not work_remains(planned, report, dry_run=dry_run):
            return
        from restore_cli.inference.restorer import load_restorer

        restorer = load_restorer(task, replace(options, strength=strength))
        run_batch(planned, restorer, report, quality=quality, record=record, html=html)
