"""Which suffix means which format; it loads no codec, so that plans are made at once."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeGuard, get_args

from restore_cli.errors import UsageError

Format = Literal["png", "jpeg", "webp", "tiff"]
Container = Literal["mp4", "mov", "mkv", "webm"]

SUFFIXES: dict[str, Format] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
}
CONTAINERS: dict[str, Container] = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "mkv",
    ".webm": "webm",
}
READABLE_SUFFIXES = frozenset([*SUFFIXES, ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"])
VIDEO_SUFFIXES = frozenset(
    [*CONTAINERS, ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv"]
)


def format_of(path: Path) -> Format:
    """The format that a suffix asks for. Raises UsageError."""
    try:
        return SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise UsageError(
            f"{path.name}: cannot write {path.suffix or 'a file without suffix'}",
            hint=f"one of: {', '.join(SUFFIXES)}",
        ) from None


def container_of(path: Path) -> Container:
    """The container of a video that a suffix asks for. Raises UsageError."""
    try:
        return CONTAINERS[path.suffix.lower()]
    except KeyError:
        raise UsageError(
            f"{path.name}: a video cannot become {path.suffix or 'a file without suffix'}",
            hint=f"one of: {', '.join(CONTAINERS)}",
        ) from None


def is_container(format: Format | Container) -> TypeGuard[Container]:
    """Whether it is a video that is meant."""
    return format in get_args(Container)
