"""Results for people and for programs: messages about an image, and its row of JSON."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from restore_cli.errors import RestoreError

if TYPE_CHECKING:
    from restore_cli.batch.distributed import Pool
    from restore_cli.batch.pipeline import Result
    from restore_cli.inference.rain import Rain
    from restore_cli.inference.report import ImageRestorer, Report

NEARLY_CLEAN = 0.7 / 255  # noise sigma; rounding alone is 0.3
GRAINY = 2 / 255  # noise sigma of an enhanced image
CIRCUMSTANCES = (
    "seconds",
    "model",
    "weights",
    "weights_sha256",
    "device",
    "precision",
    "backend",
    "tile",
    "width",
    "height",
    "seed",
)
RUNTIMES = {"onnx": "onnxruntime", "openvino": "OpenVINO"}
FINDINGS = ("noise_sigma", "rain")  # null where nothing was found, or looked for


def row(
    source: object,
    status: Literal["ok", "skipped", "failed"] | None,
    *,
    target: object = None,
    error: RestoreError | None = None,
) -> dict[str, object]:
    """Return the JSON row of one source, with null for what is not known before its result."""
    return {
        "source": str(source),
        "target": None if target is None else str(target),
        "status": status,
        "error": error and {"kind": error.kind, "message": error.message, "hint": error.hint},
    } | dict.fromkeys(CIRCUMSTANCES + FINDINGS)


def result_row(result: Result, restorer: ImageRestorer | Pool) -> dict[str, object]:
    """Return the JSON row of a result."""
    values = row(result.job.source, result.status, target=result.job.target, error=result.error) | {
        "seconds": round(result.seconds, 3),
        "model": restorer.model,
        "device": str(restorer.device),
        "width": result.width,
        "height": result.height,
        "seed": restorer.options.seed,
    }
    report = result.report
    if report is None:
        return values
    sigma = report.noise_sigma
    return values | {
        "weights": report.weights,
        "weights_sha256": report.sha256,
        "precision": report.precision,
        "backend": report.backend,
        "tile": report.tile,
        "noise_sigma": None if sigma is None else round(255 * sigma, 2),
        "rain": _rain_row(report.rain),
    }


def _rain_row(rain: Rain | None) -> dict[str, float | None] | None:
    if rain is None or not rain.found:
        return None
    return {
        "share": round(rain.share, 4),
        "angle": None if rain.angle is None else round(rain.angle, 1),
        "strength": round(rain.strength, 4),
    }


def messages(command: str, result: Result, restorer: ImageRestorer | Pool) -> Iterator[str]:
    """Yield what was found in an image, and the speed of a video."""
    report = result.report
    if report is None:
        return
    if result.frames is not None:
        yield f"{result.frames} frames, {result.frames / result.seconds:.1f} frames/s"
    if command == "upscale" and len(report.steps) > 1:
        yield _passes(report)
    if report.noise_sigma is not None:
        yield _noise(report.noise_sigma, is_limited=restorer.options.noise_limit == "auto")
    if report.brightness is not None:
        yield from _brightness(report.brightness)
    if command == "enhance" and report.grain is not None and report.grain > GRAINY:
        yield _grain(report.grain, str(result.job.source))
    if report.rain is not None:
        yield _rain(report.rain)


def how(report: Report, device: object) -> str:
    """Return the message that names weights, device, precision and tiles."""
    tiles = f"tiles of {report.tile} px" if report.tile else "untiled"
    by = "" if report.backend == "torch" else f" by {RUNTIMES.get(report.backend, report.backend)}"
    return f"{report.weights} on {device}{by}, {report.precision}, {tiles}"


def _passes(report: Report) -> str:
    done = [f"{step.weights} to {step.width}x{step.height}" for step in report.steps]
    return f"{len(done)} networks in turn: {', then '.join(done)}"


def _noise(sigma: float, *, is_limited: bool) -> str:
    estimate = f"estimated noise sigma {255 * sigma:.1f} (of 255)"
    return f"{estimate}: nearly unchanged" if is_limited and sigma < NEARLY_CLEAN else estimate


def _brightness(mean: float) -> Iterator[str]:
    from restore_cli.inference.preprocessing import darkness, dullness

    applied = darkness(mean)
    measured = f"mean brightness {100 * mean:.0f} %"
    if applied == 0:
        change = "only black and white points adjusted" if dullness(mean) else "unchanged"
        yield f"{measured}: not dark, {change}"
    elif applied < 1:
        yield f"{measured}: not very dark, {100 * applied:.0f} % of the change applied"


def _grain(sigma: float, source: str) -> str:
    name = "SOURCE" if source == "-" else shlex.quote(source)
    return (
        f"grainy result (noise sigma {255 * sigma:.0f} of 255): "
        f"try restore run {name} --steps enhance,denoise"
    )


def _rain(rain: Rain) -> str:
    if not rain.found:
        return "no rain found: nearly unchanged"
    found = f"rain on {100 * rain.share:.0f} % of the image"
    if rain.angle is None:
        return found
    angle = round(abs(rain.angle))
    return f"{found}, streaks {angle} degree{'' if angle == 1 else 's'} from vertical"
