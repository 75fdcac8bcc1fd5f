"""Options that several commands share, and what their values may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal, TypeVar

import typer

from restore_cli import registry
from restore_cli.errors import UsageError
from restore_cli.imaging.formats import Format

Word = TypeVar("Word", bound=str)

DEVICES = ("auto", "cpu", "cuda", "mps")
TILE_WORDS: tuple[Literal["auto", "off", "exact"], ...] = ("auto", "off", "exact")
OVERLAP_WORDS: tuple[Literal["auto", "exact"], ...] = ("auto", "exact")


def weights_names(incomplete: str) -> list[str]:
    """Known names of weights, for the completion of words in a shell."""
    from restore_cli.checkpoints import manifest

    return [name for name in manifest.entries() if name.startswith(incomplete)]


def _starting(words: Iterable[str]) -> Callable[[str], list[str]]:
    """The completion of a word that may also be a number, a file or the like."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


Sources = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE", help="Files, folders, globs, videos, or - for stdin."),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUTPUT",
        help="A file for one image or video, else a folder or a template with {stem} {ext} "
        "{task} {model} {scale} {rel}; - for stdout. "
        "[default: beside the source, as {stem}_{task}{ext}]",
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Network. [default: the task's own]",
        autocompletion=_starting(registry.MODELS),
    ),
]
WeightsName = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="NAME|FILE",
        help="Weights: a name of `restore weights list`, or a file. [default: the network's own]",
        autocompletion=weights_names,
    ),
]
Tile = Annotated[
    str,
    typer.Option(
        metavar="auto|off|exact|PIXELS",
        help="Side of the tiles that an image is cut into; auto: by the free memory; exact: "
        "likewise, but as if the image were whole, which takes MIRNet several times as long.",
        autocompletion=_starting(TILE_WORDS),
    ),
]
Overlap = Annotated[
    str,
    typer.Option(
        metavar="auto|exact|PIXELS",
        help="Context around each tile; exact: as if the image were whole.",
        autocompletion=_starting(OVERLAP_WORDS),
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda|cuda:N|mps",
        help="Where to compute; auto: on a GPU if there is one.",
        autocompletion=_starting(DEVICES),
    ),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    typer.Option(help="Of the computation; auto: 16 bit where it is fast and harmless."),
]
Backend = Annotated[Literal["torch"], typer.Option(help="What runs the network.")]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Take folders inside folders too.")
]
FormatName = Annotated[
    Format | None,
    typer.Option("--format", help="Of the images. [default: as the source]"),
]
Quality = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=100,
        metavar="1..100",
        help="Of JPEG, WebP and video. [default: JPEG 95, WebP lossless, video 90]",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Leave what exists, do the rest.")
]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON object a line to stdout.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress, no summary; warnings and errors stay.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Strength = Annotated[
    float,
    typer.Option(
        min=0, max=1, metavar="0..1", help="How much of the change is made, in linear steps."
    ),
]
Record = Annotated[
    bool,
    typer.Option(
        "--record/--no-record", help="Tell in the metadata how it was made, for restore replay."
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Of the random numbers, if any are drawn.")]


def pixels_or(text: str, words: Sequence[Word], *, option: str, least: int = 1) -> int | Word:
    """A number of pixels from `least` on, or one of `words`. Raises UsageError."""
    for word in words:
        if text == word:
            return word
    if text.isdecimal() and int(text) >= least:
        return int(text)
    raise UsageError(
        f"{option} {text}: wanted {', '.join(words)} or a number of pixels from {least} on",
        hint=f"for example {option} 256",
    )


def existing_targets(overwrite: bool, skip_existing: bool) -> Literal["error", "overwrite", "skip"]:
    """What happens to targets that exist. Raises UsageError where both are asked for."""
    if overwrite and skip_existing:
        raise UsageError(
            "--overwrite and --skip-existing contradict each other", hint="give one of them"
        )
    if overwrite:
        return "overwrite"
    return "skip" if skip_existing else "error"
