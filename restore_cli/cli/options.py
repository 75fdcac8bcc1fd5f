"""Options that several commands share, and functions that read their values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from restore_cli import registry
from restore_cli.batch.naming import template_fields
from restore_cli.batch.sources import Shard
from restore_cli.cli import choices
from restore_cli.errors import UsageError
from restore_cli.imaging.formats import SUFFIX_OF, SUFFIXES, Format
from restore_cli.imaging.formats import Compress as CompressName
from restore_cli.inference.options import Backend as BackendName
from restore_cli.inference.options import Precision as PrecisionName
from restore_cli.inference.options import RunOptions

COMPUTING, FILES = "Network and computation", "Files"  # panels of --help
MESSAGES, BATCHES = "Messages", "Large batches"
Word = TypeVar("Word", bound=str)

DEVICES = ("auto", "cpu", "cuda", "mps")
TILE_WORDS: tuple[Literal["auto", "off", "exact"], ...] = ("auto", "off", "exact")
OVERLAP_WORDS: tuple[Literal["auto", "exact"], ...] = ("auto", "exact")
ProtocolName = Literal["rgb", "rgb_float", "y", "y_float", "sr_x2", "sr_x3", "sr_x4"]
SECONDS = {"s": 1, "m": 60, "h": 3600}


def format_named(name: str) -> Format:
    """Return the format of a name or a suffix, such as jpeg or jpg. Raises BadParameter."""
    if format := SUFFIXES.get(f".{name.lower()}"):
        return format
    raise typer.BadParameter(f"{name!r} is not one of {', '.join(map(repr, SUFFIX_OF))}")


Sources = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE", help="Images, videos, folders, globs or URLs; - for stdin."),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUTPUT",
        help="Output file, folder, or template with {stem} {ext} {task} {model} {scale} {rel} "
        "{suffix} {parent} {folder} {hash}; - for stdout. "
        "[default: {stem}_{task}{ext} beside the source]",
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Network. [default: by the task]",
        autocompletion=choices.models,
        rich_help_panel=COMPUTING,
    ),
]
WeightsName = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="NAME|FILE",
        help="Weights: a name from `restore weights list`, or a file. [default: by the network]",
        autocompletion=choices.weights,
        rich_help_panel=COMPUTING,
    ),
]
Tile = Annotated[
    str,
    typer.Option(
        metavar="auto|off|exact|PIXELS",
        help="Side of the tiles in pixels; auto: by the free memory; off: the whole image at "
        "once; exact: tiles with the result of the whole image, several times slower for MIRNet.",
        autocompletion=choices.starting(TILE_WORDS),
        rich_help_panel=COMPUTING,
    ),
]
Overlap = Annotated[
    str,
    typer.Option(
        metavar="auto|exact|PIXELS",
        help="Context around each tile in pixels; exact: enough for the result of the whole image.",
        autocompletion=choices.starting(OVERLAP_WORDS),
        rich_help_panel=COMPUTING,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda|cuda:N|mps",
        help="Compute device; auto: a GPU if there is one.",
        autocompletion=choices.starting(DEVICES),
        rich_help_panel=COMPUTING,
    ),
]
Ensemble = Annotated[
    bool,
    typer.Option(
        "--ensemble",
        help="Average the outputs for all flips and rotations: slightly better, 8 times slower. "
        "derain and enhance mirror the image only: twice as slow.",
        rich_help_panel=COMPUTING,
    ),
]
Precision = Annotated[
    PrecisionName,
    typer.Option(
        help="Compute precision; auto: the fastest that stays close to fp32; tf32: CUDA only.",
        rich_help_panel=COMPUTING,
    ),
]
Backend = Annotated[
    BackendName,
    typer.Option(
        help="Runtime of the network; auto: onnxruntime on a CPU for weights with an ONNX file, "
        "if it is installed, otherwise torch. onnx and openvino need the extras of these names.",
        rich_help_panel=COMPUTING,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="Preset: the options in section [presets.NAME] of restore.toml (docs/settings.md).",
        autocompletion=choices.presets_of_settings,
    ),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Include subfolders.", rich_help_panel=FILES)
]
FormatName = Annotated[
    Format | None,
    typer.Option(
        "--format",
        metavar="|".join(SUFFIX_OF),
        parser=format_named,
        autocompletion=choices.starting(SUFFIX_OF),
        help="Format of output images. [default: by the source]",
        rich_help_panel=FILES,
    ),
]
Quality = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=100,
        metavar="1..100",
        help="Quality of lossy formats and video. [default: JPEG 95, AVIF 90, WebP and JPEG XL "
        "lossless, video 90]",
        rich_help_panel=FILES,
    ),
]
Compress = Annotated[
    CompressName,
    typer.Option(
        help="Compression effort of PNG, TIFF, WebP and JPEG XL; the pixels are the same.",
        rich_help_panel=FILES,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", "-y", help="Replace existing files.", rich_help_panel=FILES)
]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing", help="Skip sources whose output exists.", rich_help_panel=FILES
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Write one JSON object per line to stdout.", rich_help_panel=MESSAGES
    ),
]
Print0 = Annotated[
    bool,
    typer.Option(
        "--print0",
        help="Terminate output paths on stdout by NUL, for xargs -0.",
        rich_help_panel=MESSAGES,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="No progress and no summary; only warnings and errors.",
        rich_help_panel=MESSAGES,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Show the plan without writing files.", rich_help_panel=MESSAGES
    ),
]
Strength = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        metavar="0..1",
        help="Share of the change that is applied, from 0 (none) to 1 (all).",
    ),
]
Record = Annotated[
    bool,
    typer.Option(
        "--record/--no-record",
        help="Write a record for restore replay into the metadata, or omit it.",
        rich_help_panel=FILES,
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE.html",
        help="HTML page to write, with images before and after.",
        rich_help_panel=MESSAGES,
    ),
]
LedgerFile = Annotated[
    Path | None,
    typer.Option(
        "--ledger",
        metavar="FILE",
        help="SQLite database of finished and failed items, with which the same command continues "
        "an interrupted run.",
        rich_help_panel=BATCHES,
    ),
]
FingerprintName = Annotated[
    Literal["mtime", "sha256"],
    typer.Option(
        "--fingerprint",
        help="Comparison of sources with the ledger: by size and modification time, or by "
        "contents.",
        rich_help_panel=BATCHES,
    ),
]
RetryFailed = Annotated[
    bool,
    typer.Option(
        "--retry-failed",
        help="Repeat the items that failed according to --ledger.",
        rich_help_panel=BATCHES,
    ),
]
ShardName = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Part I of N of the sources, or of the images to generate.",
        rich_help_panel=BATCHES,
    ),
]
Watch = Annotated[
    bool,
    typer.Option(
        "--watch",
        help="Wait for new files in the source folders until Ctrl-C; needs --ledger.",
        rich_help_panel=BATCHES,
    ),
]
Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(
        help="Place of the computation; local: this process; ray: Ray workers (extra: ray).",
        rich_help_panel=BATCHES,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT|auto",
        help="Address of the Ray cluster. [default: a cluster started on this machine]",
        show_default=False,
        rich_help_panel=BATCHES,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Number of Ray workers. [default: one per GPU, or per core without a GPU]",
        rich_help_panel=BATCHES,
    ),
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="X",
        help="GPUs per Ray worker, for example 0.5. [default: 1, or 0 without a GPU]",
        rich_help_panel=BATCHES,
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Random seed.", rich_help_panel=COMPUTING)]


def run_options(
    model: str | None,
    weights: str | None,
    tile: str,
    overlap: str,
    device: str,
    precision: PrecisionName,
    seed: int = 0,
    backend: BackendName = "auto",
) -> RunOptions:
    """Read --tile and --overlap, and return them with the other options. Raises UsageError."""
    side = pixels_or(tile, TILE_WORDS, option="--tile", least=16)  # as records of results have
    return RunOptions(
        model=model,
        weights=weights,
        tile="auto" if side == "exact" else side,
        overlap=pixels_or(overlap, OVERLAP_WORDS, option="--overlap", least=0),
        exact=side == "exact",
        device=device,
        precision=precision,
        seed=seed,
        backend=backend,
    )


def pixels_or(text: str, words: Sequence[Word], *, option: str, least: int = 1) -> int | Word:
    """Read a number of pixels, `least` or more, or one of `words`. Raises UsageError."""
    for word in words:
        if text == word:
            return word
    if text.isdecimal() and int(text) >= least:
        return int(text)
    raise UsageError(
        f"{option} {text}: wanted {', '.join(words)} or a number of pixels, {least} or more",
        hint=f"for example {option} 256",
    )


def network_of(task: str, model: str | None, weights: str | None, output: str | None) -> str:
    """Return the network that {model} stands for: named, or of the weights, or the default.

    A file is read only for an output with {model}, and may be of any network. Raises UsageError for
    a network that does not do the task, WeightsError.
    """
    from restore_cli.checkpoints import manifest

    entry = None if weights is None else manifest.entries().get(weights)
    if model is None and entry is not None:
        return entry.arch
    if model is None and weights is not None:
        if "model" not in template_fields(output):
            return ""
        from restore_cli.checkpoints.load import spec_of

        return spec_of(weights).arch
    return registry.find_for_task(task, model).arch


def shard_of(text: str | None) -> Shard | None:
    """Read `2/10`; None of None. Raises UsageError."""
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,8})", text)
    if match is None or int(match[1]) > int(match[2]):
        raise UsageError(
            f"--shard {text}: wanted I/N with I from 1 to N", hint="for example --shard 1/4"
        )
    return Shard(int(match[1]), int(match[2]))


def existing_targets(overwrite: bool, skip_existing: bool) -> Literal["error", "overwrite", "skip"]:
    """Return what happens to existing outputs. Raises UsageError where both are given."""
    if overwrite and skip_existing:
        raise UsageError(
            "--overwrite and --skip-existing contradict each other", hint="give one of them"
        )
    if overwrite:
        return "overwrite"
    return "skip" if skip_existing else "error"


def refuse_mixed_stdout(*, piped: bool, json: bool, print0: bool) -> None:
    """Refuse two kinds of data on stdout; piped: an image goes there. Raises UsageError."""
    if piped and (json or print0):
        raise UsageError(
            f"the image and {'--json' if json else '--print0'} cannot both go to stdout",
            hint="add -o FILE for the image",
        )
    if json and print0:
        raise UsageError("--json and --print0 contradict each other", hint="give one of them")


def factor_of(text: str, *, option: str = "") -> float:
    """Read `2`, `2x`, `x2` or `2.5`, a number above 1. Raises UsageError that names the option."""
    match = re.fullmatch(r"x?(\d{1,3}(?:\.\d+)?)|(\d{1,3}(?:\.\d+)?)x", text)
    factor = 0 if match is None else float(match[1] or match[2])
    if factor <= 1:
        raise UsageError(
            f"{option or f'--scale {text}'}: wanted a factor above 1",
            hint="for example 2, 2x or 2.5",
        )
    return factor


def whole_factor(text: str) -> int:
    """Read `2`, `2x` or `x2` as a whole number. Raises BadParameter."""
    match = re.fullmatch(r"x?([1-9]\d?)|([1-9]\d?)x", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a factor such as 2 or 2x")
    return int(match[1] or match[2])


def size_of(text: str | None) -> tuple[int, int] | None:
    """Read `1920x1080` as (1080, 1920), height first; None of None. Raises UsageError."""
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text)
    if match is None:
        raise UsageError(
            f"--size {text}: wanted width x height in pixels", hint="for example --size 1920x1080"
        )
    return int(match[2]), int(match[1])


def seconds_of(duration: str) -> float:
    """Read `90s`, `10m` or `2h` as seconds. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", duration)
    if match is None:
        raise UsageError(f"--time {duration!r} is not a duration", hint="write 90s, 10m or 2h")
    return float(match[1]) * SECONDS[match[2]]
