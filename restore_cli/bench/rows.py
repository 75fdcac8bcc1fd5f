"""JSON document of `restore bench`, and its rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isinf
from pathlib import Path
from typing import Any

from restore_cli import __version__
from restore_cli.bench.measure import Measured, MeasuredImage
from restore_cli.bench.peers import Peer
from restore_cli.bench.suite import PUBLISHED, Candidate
from restore_cli.data.sets import PairSet
from restore_cli.errors import InputError, RestoreError
from restore_cli.inference.options import RunOptions
from restore_cli.metrics import means_of
from restore_cli.metrics.perceptual import mean_scores

Row = dict[str, Any]  # the fields of empty_row

SCORES = ("psnr", "ssim", "ms_ssim")
COSTS = ("seconds", "peak_memory_mb")


def document(
    machine: Mapping[str, object], options: Mapping[str, object], rows: Sequence[Row]
) -> dict[str, object]:
    return {
        "version": __version__,
        "machine": dict(machine),
        "options": dict(options),
        "rows": list(rows),
    }


def options_row(options: RunOptions) -> dict[str, object]:
    """Return the options that change figures."""
    names = ("device", "precision", "backend", "tile", "overlap", "exact", "ensemble")
    return {name: getattr(options, name) for name in names}


def key_of(row: Row) -> tuple[object, ...]:
    """Return the fields by which rows of two documents are the same measurement."""
    names = ("task", "weights", "set", "scale", "protocol")
    return (*(row[name] for name in names), row["precision"] if "times_plain" in row else None)


def read_document(path: Path) -> dict[str, Any]:
    """Read a document of `restore bench --json`. Raises InputError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for row in found["rows"]:
            hash(key_of(row))
            for name in (*SCORES, *COSTS):
                float(row[name] or 0)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="check the name") from error
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: no document of restore bench", hint="write one with --json FILE"
        ) from error
    document: dict[str, Any] = found
    return document


def empty_row(
    candidate: Candidate | Peer, task: str, measured_on: str, protocol: str, scale: int
) -> Row:
    """Return all fields of a row; those to be measured are null."""
    return {
        "task": task,
        "model": candidate.model,
        "weights": candidate.name,
        "weights_sha256": None,
        "origin": candidate.origin,
        "set": measured_on,
        "scale": scale,
        "protocol": protocol,
        "images": 0,
        "failed": 0,
        "psnr": None,
        "ssim": None,
        "ms_ssim": None,
        "seconds": None,
        "megapixels_per_second": None,
        "cpu_seconds_per_megapixel": None,
        "peak_memory_mb": None,
        "device": None,
        "precision": None,
        "tile": None,
        "published": None,
        "baseline": {},
        "per_image": [],
        "error": None,
    }


def failed_row(row: Row, error: RestoreError) -> Row:
    return row | {"error": {"kind": error.kind, "message": error.message, "hint": error.hint}}


def quality_rows(
    candidate: Candidate | Peer,
    pairs: PairSet,
    protocol: str,
    measured: Measured,
    baselines: Mapping[str, Measured],
) -> list[Row]:
    """Return a row for each part of the set, if it has several, and one for the whole."""
    parts = list(dict.fromkeys(image.part for image in measured.images))
    wanted = [*parts, None] if len(parts) > 1 else [None]
    return [_row(candidate, pairs, protocol, part, measured, baselines) for part in wanted]


def _row(
    candidate: Candidate | Peer,
    pairs: PairSet,
    protocol: str,
    part: str | None,
    measured: Measured,
    baselines: Mapping[str, Measured],
) -> Row:
    images = _of_part(measured, part)
    seconds = sum(image.seconds for image in images)
    pixels = sum(image.pixels for image in images)
    name = pairs.name if part is None else f"{pairs.name}/{part}"
    published = PUBLISHED.get((candidate.model, pairs.name, pairs.scale))
    return {
        **empty_row(candidate, pairs.task, name, protocol, pairs.scale),
        **measured.details,
        **scores_of(images),
        "images": len(images),
        "failed": len(measured.failed),
        "seconds": round(seconds, 3),
        "megapixels_per_second": round(pixels / 1e6 / seconds, 3) if seconds else None,
        "cpu_seconds_per_megapixel": cpu_time_of(images),
        "published": None if published is None else vars(published),
        "baseline": {
            name: _baseline(_of_part(baseline, part)) for name, baseline in baselines.items()
        },
        "per_image": [
            {"image": image.name, **scores_of([image]), "seconds": round(image.seconds, 4)}
            for image in images
        ],
    }


def _baseline(images: Sequence[MeasuredImage]) -> Row:
    return {**scores_of(images), "cpu_seconds_per_megapixel": cpu_time_of(images)}


def cpu_time_of(images: Sequence[MeasuredImage]) -> float | None:
    """Return the processor time per million output pixels, None where there are none."""
    pixels = sum(image.pixels for image in images)
    seconds = sum(image.cpu_seconds for image in images)
    return round(seconds / (pixels / 1e6), 4) if pixels else None


def _of_part(measured: Measured, part: str | None) -> list[MeasuredImage]:
    return [image for image in measured.images if part in (None, image.part)]


def scores_of(images: Sequence[MeasuredImage]) -> Row:
    """Return mean scores over images, rounded to meaningful digits."""
    means = means_of([image.scores for image in images])
    values = {"psnr": (means.psnr, 3), "ssim": (means.ssim, 5), "ms_ssim": (means.ms_ssim, 5)}
    perceptual = mean_scores([image.perceptual for image in images])
    return {
        name: None if value is None else "inf" if isinf(value) else round(value, digits)
        for name, (value, digits) in values.items()
    } | {name: None if value is None else round(value, 4) for name, value in perceptual.items()}
