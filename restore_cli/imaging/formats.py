"""Which suffix means which format; it loads no codec, so that plans are made at once."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from restore_cli.errors import UsageError

Format = Literal["png", "jpeg", "webp", "tiff"]

SUFFIXES: dict[str, Format] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
}
READABLE_SUFFIXES = frozenset([*SUFFIXES, ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"])


def format_of(path: Path) -> Format:
    """The format that a suffix asks for. Raises UsageError."""
    try:
        return SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise UsageError(
            f"{path.name}: cannot write {path.suffix or 'a file without suffix'}",
            hint=f"one of: {', '.join(SUFFIXES)}",
        ) from None
