"""`--metric`: perceptual metrics of `restore eval` and `restore bench quality`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from restore_cli.cli import choices
from restore_cli.cli.console import Reporter

if TYPE_CHECKING:
    from restore_cli.metrics.perceptual import Metric

Metrics = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="NAME,NAME...",
        autocompletion=choices.metrics,
        help="Additional metrics: niqe (lower is better; needs no reference); with the extra "
        "`metrics` also lpips, dists (lower is better) and vif (higher is better).",
    ),
]


def load_perceptual(names: str | None, report: Reporter) -> dict[str, Metric]:
    """Return the metrics of --metric, and report the weights to be fetched.

    Raises UsageError, MissingExtra, FetchError.
    """
    if names is None:
        return {}
    from restore_cli.metrics.perceptual import find_metrics, load_metric

    loaded = {}
    for metric in find_metrics(names):
        if (path := metric.missing_file()) is not None:
            place = f"{path.parent}, {metric.megabytes} MB"
            report.say(f"{metric.name}: its weights {path.name} are not yet in {place}")
        loaded[metric.name] = load_metric(metric)
    return loaded
