"""`restore eval`: compare restored images with their references."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from restore_cli.cli.console import Reporter, reporter
from restore_cli.cli.options import Json, ProtocolName, Quiet
from restore_cli.data.pairing import Pair, pair_up
from restore_cli.errors import SOME_FAILED, InputError, RestoreError
from restore_cli.memory import refuse_small_address_space
from restore_cli.storage import Location, location

if TYPE_CHECKING:
    from restore_cli.metrics import EvalProtocol, Means, Scores
    from restore_cli.metrics.perceptual import Pairwise


@dataclass(frozen=True)
class Row:
    """Scores of one pair."""

    restored: Location
    reference: Location
    scores: Scores
    perceptual: Mapping[str, float | None]
    bit_depth: int  # the larger of the two
    same_alpha: bool


def evaluate(
    restored: Annotated[
        str, typer.Argument(metavar="RESTORED", help="Image, or folder of images.")
    ],
    reference: Annotated[
        str, typer.Argument(metavar="REFERENCE", help="Reference, or folder of them.")
    ],
    protocol: Annotated[
        ProtocolName,
        typer.Option(help="Colours, rounding and border; see docs/evaluation.md."),
    ] = "rgb",
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME...",
            help="Perceptual metrics besides: lpips, dists (less is better), vif. "
            "Needs the extra: metrics.",
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure PSNR, SSIM, MS-SSIM and others against references.

    Files of two folders are paired by name without suffix; x_derained.png is paired with x.png.
    Alpha is not measured; colours that it hides in both images count as equal.
    """
    pairing = pair_up(location(restored), location(reference))
    refuse_small_address_space()
    from restore_cli.metrics import PROTOCOLS

    with reporter("eval", quiet=quiet, json=json) as report:
        for path in pairing.unpaired:
            report.warn(f"{path}: no image to compare with")
        perceptual = load_perceptual(metric, report)
        rows = measure_all(pairing.pairs, PROTOCOLS[protocol], perceptual, report)
        failed = len(pairing.pairs) - len(rows)
        show_means(rows, failed, protocol, report)
    if failed:
        raise typer.Exit(SOME_FAILED)


def load_perceptual(names: str | None, report: Reporter) -> dict[str, Pairwise]:
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


def measure_all(
    pairs: Sequence[Pair],
    protocol: EvalProtocol,
    perceptual: Mapping[str, Pairwise],
    report: Reporter,
) -> list[Row]:
    """Measure and report each pair. Raises the error of the only pair."""
    rows: list[Row] = []
    with report.progress(len(pairs), "eval") as bar:
        for restored, reference in pairs:
            try:
                row = measure_pair(restored, reference, protocol, perceptual)
            except RestoreError as error:
                if len(pairs) == 1:
                    raise
                report.error(error)
            else:
                rows.append(row)
                show_row(row, protocol.name, report)
            bar.advance()
    if protocol.rounding == "uint8" and any(row.bit_depth > 8 for row in rows):
        report.say("16-bit images were rounded to 8 bit; --protocol rgb_float does not round")
    if differing := sum(not row.same_alpha for row in rows):
        report.say(f"{differing} of {len(rows)} pairs differ in alpha, which is not measured")
    return rows


def measure_pair(
    restored: Location,
    reference: Location,
    protocol: EvalProtocol,
    perceptual: Mapping[str, Pairwise],
) -> Row:
    from restore_cli.imaging.io import read
    from restore_cli.metrics import measure

    truth = read(reference)
    image, truth = read(restored).on_scale_of(truth).displayed(), truth.displayed()
    try:
        pixels = image.hidden_colours_of(truth).pixels
        scores = measure(pixels, truth.pixels, protocol)
    except InputError as error:
        raise type(error)(f"{restored}: {error.message}", error.hint) from error
    besides: dict[str, float | None] = {}
    if perceptual:
        from restore_cli.metrics.perceptual import measure_perceptual

        besides = measure_perceptual(pixels, truth.pixels, perceptual)
    bit_depth = max(image.bit_depth, truth.bit_depth)
    same_alpha = image.has_alpha_of(truth)
    return Row(restored, reference, scores, besides, bit_depth, same_alpha)


def show_row(row: Row, protocol: str, report: Reporter) -> None:
    scores = row.scores
    if report.json:
        names = {"restored": str(row.restored), "reference": str(row.reference)}
        report.data({**names, "protocol": protocol, **as_json(scores), **row.perceptual})
    else:
        report.data(f"{row.restored}  {in_words(scores, row.perceptual)}  ({protocol})")


def show_means(rows: Sequence[Row], failed: int, protocol: str, report: Reporter) -> None:
    """Report the means, as text only for more than one pair."""
    from restore_cli.metrics import means_of

    means = means_of([row.scores for row in rows])
    besides: Mapping[str, float | None] = {}
    if any(row.perceptual for row in rows):
        from restore_cli.metrics.perceptual import mean_scores

        besides = mean_scores([row.perceptual for row in rows])
    identical = sum(math.isinf(row.scores.psnr) for row in rows)
    if report.json:
        names = {"restored": None, "reference": None, "protocol": protocol}
        counts = {"pairs": len(rows), "identical": identical, "failed": failed}
        report.data({**names, **as_json(means), **besides, **counts})
    elif len(rows) > 1:
        report.data(f"mean of {len(rows)}  {in_words(means, besides)}  ({protocol})")
    if 0 < identical < len(rows):
        report.say(f"{identical} of {len(rows)} pairs are identical: excluded from the mean PSNR")
    small = sum(row.scores.ms_ssim is None for row in rows)
    if small:
        report.say(f"{small} of {len(rows)} pairs are too small for MS-SSIM (sides over 160 px)")


def as_json(scores: Scores | Means) -> dict[str, float | str | None]:
    """Return the scores with infinity as "inf", since JSON has none."""
    psnr = "inf" if scores.psnr is not None and math.isinf(scores.psnr) else scores.psnr
    return {"psnr": psnr, "ssim": scores.ssim, "ms_ssim": scores.ms_ssim}


def in_words(scores: Scores | Means, perceptual: Mapping[str, float | None]) -> str:
    psnr = "-" if scores.psnr is None else f"{scores.psnr:.2f} dB"
    ssim, ms_ssim = (
        "-" if value is None else f"{value:.4f}" for value in (scores.ssim, scores.ms_ssim)
    )
    besides = (
        f"  {name.upper()} " + ("-" if value is None else f"{value:.4f}")
        for name, value in perceptual.items()
    )
    return f"PSNR {psnr}  SSIM {ssim}  MS-SSIM {ms_ssim}{''.join(besides)}"
