"""`restore eval`: restored pictures against their references."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restore_cli.cli.console import Reporter, reporter
from restore_cli.cli.options import Json, Quiet
from restore_cli.errors import InputError, NothingToDo, RestoreError, UsageError

if TYPE_CHECKING:
    from restore_cli.metrics import EvalProtocol, Scores


def evaluate(
    restored: Annotated[Path, typer.Argument(help="A picture, or a folder of them.")],
    reference: Annotated[Path, typer.Argument(help="The truth: a picture, or a folder.")],
    protocol: Annotated[str, typer.Option(help="rgb, y, sr_x2, sr_x3, sr_x4 ...")] = "rgb",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure PSNR (dB), SSIM and MS-SSIM; the last line holds the means."""
    from restore_cli.metrics import PROTOCOLS

    if protocol not in PROTOCOLS:
        raise UsageError(
            f"no protocol is called {protocol!r}", hint=f"one of: {', '.join(PROTOCOLS)}"
        )
    pairs = pair_up(restored, reference)
    scores: list[Scores] = []
    failures: list[RestoreError] = []
    with reporter("eval", quiet=quiet, json=json) as report:
        for one, other in pairs:
            try:
                score = measure_files(one, other, PROTOCOLS[protocol])
            except RestoreError as error:
                if len(pairs) == 1:
                    raise
                failures.append(error)
                report.error(error)
                continue
            scores.append(score)
            show(report, str(one), str(other), protocol, score)
        show_means(report, str(reference), protocol, scores)
    if failures:
        raise typer.Exit(6)


def pair_up(restored: Path, reference: Path) -> list[tuple[Path, Path]]:
    """Two files, or the files of two folders that share a stem (x_derained.png and x.png too).

    Raises InputError, NothingToDo.
    """
    if restored.is_dir() != reference.is_dir():
        raise InputError(f"{restored} and {reference}: one is a folder", hint="give two of a kind")
    if not restored.is_dir():
        return [(restored, reference)]
    from restore_cli.imaging.files import READABLE_SUFFIXES

    references = {p.stem: p for p in reference.iterdir() if p.suffix.lower() in READABLE_SUFFIXES}
    pairs = []
    for path in sorted(restored.iterdir()):
        match = references.get(path.stem) or references.get(path.stem.rpartition("_")[0])
        if path.suffix.lower() in READABLE_SUFFIXES and match is not None:
            pairs.append((path, match))
    if not pairs:
        raise NothingToDo(f"no file in {restored} has a namesake in {reference}")
    return pairs


def measure_files(restored: Path, reference: Path, protocol: EvalProtocol) -> Scores:
    from restore_cli.imaging.files import read
    from restore_cli.metrics import measure

    return measure(read(restored).pixels, read(reference).pixels, protocol)


def show(report: Reporter, restored: str | None, reference: str, protocol: str, score: Any) -> None:
    """One row; an infinite PSNR (identical pictures) is the string "inf" in JSON."""
    psnr, ssim, ms_ssim = score.psnr, score.ssim, score.ms_ssim
    if report.json:
        report.data(
            {
                "restored": restored,
                "reference": reference,
                "protocol": protocol,
                "psnr": "inf" if psnr is not None and math.isinf(psnr) else psnr,
                "ssim": ssim,
                "ms_ssim": ms_ssim,
            }
        )
        return
    cells = [f"{psnr:.2f} dB" if psnr is not None else "-"]
    cells += ["-" if value is None else f"{value:.4f}" for value in (ssim, ms_ssim)]
    report.data("  ".join([restored or "mean", *cells, protocol]))


def show_means(report: Reporter, reference: str, protocol: str, scores: list[Scores]) -> None:
    """Means of what could be measured; identical pairs are left out of the mean PSNR."""
    from restore_cli.metrics import Scores

    finite = [score.psnr for score in scores if math.isfinite(score.psnr)]
    means = Scores(
        psnr=mean(finite),  # type: ignore[arg-type]
        ssim=mean([score.ssim for score in scores if score.ssim is not None]),
        ms_ssim=mean([score.ms_ssim for score in scores if score.ms_ssim is not None]),
    )
    if len(finite) < len(scores):
        report.say(f"{len(scores) - len(finite)} identical pair(s) are not in the mean PSNR")
    show(report, None, reference, protocol, means)


def mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
