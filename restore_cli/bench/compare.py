"""Differences between two documents of `restore bench --json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isinf
from typing import Any

from restore_cli.bench.rows import COSTS, SCORES, Row, key_of

UNITS: Mapping[str, str] = {"psnr": " dB", "seconds": " s", "peak_memory_mb": " MB"}
DIGITS: Mapping[str, int] = {"psnr": 3, "ssim": 5, "ms_ssim": 5, "seconds": 3, "peak_memory_mb": 0}


@dataclass(frozen=True)
class Tolerance:
    """Changes for the worse that are no regression. None: not compared."""

    psnr: float  # dB
    ssim: float  # also of MS-SSIM
    slower: float | None  # share of the seconds
    memory: float | None  # share of the memory


@dataclass(frozen=True)
class Change:
    """A figure that changed, or a row that is missing or failed."""

    about: str
    text: str
    is_regression: bool


def changes(old: Sequence[Row], new: Sequence[Row], tolerance: Tolerance) -> Iterator[Change]:
    """Yield what changed in the rows that the old document has."""
    found = {key_of(row): row for row in new}
    for before in old:
        about = _title(before)
        after = found.get(key_of(before))
        if after is None:
            yield Change(about, "not measured", before["error"] is None)
        elif after["error"] is not None:
            yield Change(about, f"failed: {after['error']['message']}", before["error"] is None)
        elif before["error"] is None:
            yield from _figures(about, before, after, tolerance)


def _figures(about: str, before: Row, after: Row, tolerance: Tolerance) -> Iterator[Change]:
    if after["failed"] > before["failed"]:
        yield Change(about, f"failed images {before['failed']} -> {after['failed']}", True)
    if after["images"] != before["images"]:
        yield Change(about, f"images {before['images']} -> {after['images']}", False)
    for name in SCORES:
        allowed = tolerance.psnr if name == "psnr" else tolerance.ssim
        yield from _figure(about, name, before[name], after[name], allowed, 1)
    for name, share in zip(COSTS, (tolerance.slower, tolerance.memory), strict=True):
        if share is not None and before[name] is not None:
            yield from _figure(about, name, before[name], after[name], share * before[name], -1)


def _figure(
    about: str, name: str, old: Any, new: Any, allowed: float, better: int
) -> Iterator[Change]:
    """Yield the change of one figure. better: 1 if a larger one is better, else -1."""
    if old == new or old is None:
        return
    if new is None:
        yield Change(about, f"{name} {_text(name, old)} -> none", True)
        return
    first, second = float(old), float(new)
    gain = better * (second - first)
    sign = "" if isinf(gain) else f" ({second - first:+.{DIGITS[name]}f}{UNITS.get(name, '')})"
    text = f"{name} {_text(name, first)} -> {_text(name, second)}{sign}"
    yield Change(about, text, gain < -allowed)


def _text(name: str, value: float) -> str:
    return f"{float(value):.{DIGITS[name]}f}"


def _title(row: Row) -> str:
    scale = f" x{row['scale']}" if row["scale"] > 1 else ""
    precision = f", {row['precision']}" if "times_plain" in row else ""
    return f"{row['weights']} on {row['set']}{scale} ({row['protocol']}{precision})"
