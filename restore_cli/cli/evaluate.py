"""`restore eval`: compare restored images with their references, or measure them without."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from restore_cli.cli.console import Reporter, reporter
from restore_cli.cli.metrics import Metrics, load_perceptual
from restore_cli.cli.options import Json, ProtocolName, Quiet
from restore_cli.data.pairing import alone, pair_up
from restore_cli.errors import SOME_FAILED, InputError, RestoreError, UsageError
from restore_cli.memory import refuse_small_address_space
from restore_cli.storage import Location, location

if TYPE_CHECKING:
    from restore_cli.metrics import EvalProtocol, Means, Scores
    from restore_cli.metrics.perceptual import Metric


@dataclass(frozen=True)
class Row:
    """Scores of one pair, or of an image without a reference."""

    restored: Location
    reference: Location | None
    scores: Scores | None
    perceptual: Mapping[str, float | None]
    bit_depth: int  # the larger of the two
    same_alpha: bool


def evaluate(
    restored: Annotated[
        str, typer.Argument(metavar="RESTORED", help="Restored image, or folder of images.")
    ],
    reference: Annotated[
        str | None,
        typer.Argument(metavar="REFERENCE", help="Reference image, or folder of references."),
    ] = None,
    protocol: Annotated[
        ProtocolName,
        typer.Option(help="Protocol: channels, rounding and border (docs/evaluation.md)."),
    ] = "rgb",
    metric: Metrics = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure images by PSNR, SSIM, MS-SSIM and other metrics.

    Files of two folders are paired by name without suffix; x_derained.png is paired with x.png.
    Alpha is not measured; pixels whose alpha is 0 in both images count as equal.
    Without REFERENCE, only --metric niqe can be measured.
    """
    pairs: Sequence[tuple[Location, Location | None]]
    if reference is None:
        refuse_without_reference(metric)
        pairs, unpaired = [(path, None) for path in alone(location(restored))], []
    else:
        pairing = pair_up(location(restored), location(reference))
        pairs, unpaired = pairing.pairs, pairing.unpaired
    refuse_small_address_space()
    from restore_cli.metrics import PROTOCOLS

    with reporter("eval", quiet=quiet, json=json) as report:
        for path in unpaired:
            report.warn(f"{path}: no counterpart to compare with")
        perceptual = load_perceptual(metric, report)
        rows = measure_all(pairs, PROTOCOLS[protocol], perceptual, report)
        failed = len(pairs) - len(rows)
        if reference is None:
            show_means_alone(rows, failed, report)
        else:
            show_means(rows, failed, protocol, report)
    if failed:
        raise typer.Exit(SOME_FAILED)


def refuse_without_reference(names: str | None) -> None:
    """Refuse metrics that compare with a reference where there is none. Raises UsageError."""
    from restore_cli.metrics.perceptual import find_metrics

    if names is None or any(metric.images > 1 for metric in find_metrics(names)):
        raise UsageError(
            "without a reference only --metric niqe can be measured",
            hint="restore eval RESTORED REFERENCE, or restore eval RESTORED --metric niqe",
        )


def measure_all(
    pairs: Sequence[tuple[Location, Location | None]],
    protocol: EvalProtocol,
    perceptual: Mapping[str, Metric],
    report: Reporter,
) -> list[Row]:
    """Measure and report each pair, or each image. Raises the error of the only one."""
    rows: list[Row] = []
    with report.progress(len(pairs), "eval") as bar:
        for restored, reference in pairs:
            try:
                if reference is None:
                    row = measure_alone(restored, perceptual)
                else:
                    row = measure_pair(restored, reference, protocol, perceptual)
            except RestoreError as error:
                if len(pairs) == 1:
                    raise
                report.error(error)
            else:
                rows.append(row)
                show_row(row, protocol.name, report)
            bar.advance()
    paired = [row for row in rows if row.scores is not None]
    if protocol.rounding == "uint8" and any(row.bit_depth > 8 for row in paired):
        report.say("16-bit images were rounded to 8 bits; --protocol rgb_float does not round")
    if differing := sum(not row.same_alpha for row in rows):
        report.say(f"{differing} of {len(rows)} pairs differ in alpha, which is not measured")
    return rows


def measure_pair(
    restored: Location,
    reference: Location,
    protocol: EvalProtocol,
    perceptual: Mapping[str, Metric],
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
    found: dict[str, float | None] = {}
    if perceptual:
        from restore_cli.metrics.perceptual import measure_perceptual

        found = measure_perceptual(pixels, truth.pixels, perceptual)
    bit_depth = max(image.bit_depth, truth.bit_depth)
    same_alpha = image.has_alpha_of(truth)
    return Row(restored, reference, scores, found, bit_depth, same_alpha)


def measure_alone(restored: Location, perceptual: Mapping[str, Metric]) -> Row:
    """Measure an image by metrics that need no reference. Raises InputError."""
    from restore_cli.imaging.io import read
    from restore_cli.metrics.perceptual import measure_perceptual

    image = read(restored).displayed()
    scores = measure_perceptual(image.pixels, None, perceptual)
    return Row(restored, None, None, scores, image.bit_depth, same_alpha=True)


def show_row(row: Row, protocol: str, report: Reporter) -> None:
    if report.json:
        paired = row.scores is not None
        reference = str(row.reference) if paired else None
        names = {"restored": str(row.restored), "reference": reference}
        names["protocol"] = protocol if paired else None
        report.data({**names, **as_json(row.scores), **row.perceptual})
    elif row.scores is None:
        report.data(f"{row.restored}{perceptual_in_words(row.perceptual)}")
    else:
        report.data(f"{row.restored}  {in_words(row.scores, row.perceptual)}  ({protocol})")


def show_means_alone(rows: Sequence[Row], failed: int, report: Reporter) -> None:
    """Report the means of images without references, as text only for more than one."""
    from restore_cli.metrics.perceptual import mean_scores

    means = mean_scores([row.perceptual for row in rows])
    if report.json:
        names = {"restored": None, "reference": None, "protocol": None}
        counts = {"images": len(rows), "failed": failed}
        report.data({**names, **as_json(None), **means, **counts})
    elif len(rows) > 1:
        report.data(f"mean of {len(rows)}{perceptual_in_words(means)}")


def show_means(rows: Sequence[Row], failed: int, protocol: str, report: Reporter) -> None:
    """Report the means, as text only for more than one pair."""
    from restore_cli.metrics import means_of

    scores = [row.scores for row in rows if row.scores is not None]
    means = means_of(scores)
    perceptual: Mapping[str, float | None] = {}
    if any(row.perceptual for row in rows):
        from restore_cli.metrics.perceptual import mean_scores

        perceptual = mean_scores([row.perceptual for row in rows])
    identical = sum(math.isinf(each.psnr) for each in scores)
    if report.json:
        names = {"restored": None, "reference": None, "protocol": protocol}
        counts = {"pairs": len(rows), "identical": identical, "failed": failed}
        report.data({**names, **as_json(means), **perceptual, **counts})
    elif len(rows) > 1:
        report.data(f"mean of {len(rows)}  {in_words(means, perceptual)}  ({protocol})")
    if 0 < identical < len(rows):
        report.say(f"{identical} of {len(rows)} pairs are identical: excluded from the mean PSNR")
    small = sum(each.ms_ssim is None for each in scores)
    if small:
        report.say(f"{small} of {len(rows)} pairs are too small for MS-SSIM (sides over 160 px)")


def as_json(scores: Scores | Means | None) -> dict[str, float | str | None]:
    """Return the scores with infinity as "inf", since JSON has none; null without a reference."""
    if scores is None:
        return dict.fromkeys(("psnr", "ssim", "ms_ssim"))
    psnr = "inf" if scores.psnr is not None and math.isinf(scores.psnr) else scores.psnr
    return {"psnr": psnr, "ssim": scores.ssim, "ms_ssim": scores.ms_ssim}


def in_words(scores: Scores | Means, perceptual: Mapping[str, float | None]) -> str:
    psnr = "-" if scores.psnr is None else f"{scores.psnr:.2f} dB"
    ssim, ms_ssim = (
        "-" if value is None else f"{value:.4f}" for value in (scores.ssim, scores.ms_ssim)
    )
    return f"PSNR {psnr}  SSIM {ssim}  MS-SSIM {ms_ssim}{perceptual_in_words(perceptual)}"


def perceptual_in_words(perceptual: Mapping[str, float | None]) -> str:
    """Return the scores of perceptual metrics, to follow others in a line."""
    return "".join(
        f"  {name.upper()} " + ("-" if value is None else f"{value:.4f}")
        for name, value in perceptual.items()
    )
