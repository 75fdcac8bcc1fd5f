"""`restore derain`, `deblur` and others: commands without options of their own.

They differ in their task alone, which is the name of the command.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import typer

from restore_cli.cli import options as option
from restore_cli.cli.console import reporter
from restore_cli.cli.engine_options import loaded
from restore_cli.cli.restoring import plan_batch, run_batch, work_remains


def restore_same_size(
    context: typer.Context,
    source: option.Sources,
    output: option.Output = None,
    preset: option.Preset = None,
    model: option.ModelName = None,
    weights: option.WeightsName = None,
    strength: option.Strength = 1.0,
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
    """Restore images, folders and videos for the task that the command is called by."""
    task = context.command.name or ""
    options = replace(
        option.run_options(model, weights, tile, overlap, device, precision, seed, backend),
        strength=strength,
        ensemble=ensemble,
    )
    planned = plan_batch(
        context,
        task=task,
        model=option.network_of(task, model, weights, output),
    )
    with reporter(task, quiet=quiet, json=json, print0=print0) as report:
        if not work_remains(planned, report, dry_run=dry_run):
            return
        from restore_cli.inference.restorer import load_restorer

        restorer = loaded(partial(load_restorer, task, options), context)
        run_batch(planned, restorer, report, context)
