"""Option types that several commands share."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import typer

from restore_cli.errors import UsageError


class FormatName(str, Enum):
    png = "png"
    jpeg = "jpeg"
    webp = "webp"
    tiff = "tiff"


class PrecisionName(str, Enum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class BackendName(str, Enum):
    torch = "torch"


Sources = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE...", help="Files, folders, globs, or - for stdin."),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        help="A file, a folder, a template with {stem} {ext} {task} {model} {scale} {rel}, or -.",
    ),
]
ModelName = Annotated[str | None, typer.Option("--model", help="Which network.")]
WeightsName = Annotated[str | None, typer.Option("--weights", help="A name or a file.")]
Tile = Annotated[str, typer.Option(help="auto, off, or the side of a tile in pixels.")]
Overlap = Annotated[str, typer.Option(help="auto, exact, or context around a tile in pixels.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Precision = Annotated[PrecisionName, typer.Option(help="auto: 16 bit only where it is harmless.")]
Backend = Annotated[BackendName, typer.Option(help="What runs the network.")]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Folders within folders too.")]
FormatOption = Annotated[FormatName | None, typer.Option("--format", help="Of the outputs.")]
Quality = Annotated[int | None, typer.Option(min=1, max=100, help="Of JPEG [95] and WebP.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
SkipExisting = Annotated[bool, typer.Option("--skip-existing", help="Leave what is there.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done.")]
Seed = Annotated[int, typer.Option(help="Of the random numbers.")]


def pixels_or(text: str, *words: str, option: str) -> int | str:
    """A positive whole number, or one of `words`. Raises UsageError."""
    if text in words:
        return text
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise UsageError(f"{option} {text!r}", hint=f"write {', '.join(words)}, or pixels such as 256")


def existing_files(overwrite: bool, skip: bool) -> Literal["error", "overwrite", "skip"]:
    if overwrite and skip:
        raise UsageError("--overwrite and --skip-existing contradict", hint="give one of them")
    return "overwrite" if overwrite else "skip" if skip else "error"


def as_path(text: str) -> Path:
    return Path(text).expanduser()
