"""The options that every restoring command has, written once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

from restore_cli.cli.options import (
    Backend,
    Device,
    DryRun,
    FormatName,
    Json,
    Output,
    Overlap,
    Overwrite,
    Precision,
    Quality,
    Quiet,
    Record,
    Recursive,
    Seed,
    SkipExisting,
    Sources,
    Tile,
)

BEFORE_OWN = 2  # source and output; what a command has of its own follows them in its help


@dataclass(frozen=True)
class CommonOptions:
    """What every restoring command lets its user choose."""

    source: Sources
    output: Output = None
    tile: Tile = "auto"
    overlap: Overlap = "auto"
    device: Device = "auto"
    precision: Precision = "auto"
    backend: Backend = "torch"
    recursive: Recursive = False
    format: FormatName = None
    quality: Quality = None
    overwrite: Overwrite = False
    skip_existing: SkipExisting = False
    json: Json = False
    quiet: Quiet = False
    dry_run: DryRun = False
    seed: Seed = 0
    record: Record = True


def with_choices(function: Callable[..., None]) -> Callable[..., None]:
    """A command for Typer of a function (choices, and options of its own)."""
    shared = [field.name for field in fields(CommonOptions)]

    @functools.wraps(function)
    def command(**given: Any) -> None:
        choices = CommonOptions(**{name: given.pop(name) for name in shared})
        function(choices, **given)

    # Typer reads the signature, which has to name all options.
    command.__signature__ = _joined(function)  # type: ignore[attr-defined]
    return command


def _joined(function: Callable[..., None]) -> Signature:
    """The parameters of `function` with those of Choices in the place of the first."""
    own = list(signature(function, eval_str=True).parameters.values())[1:]
    hints = get_type_hints(CommonOptions, include_extras=True)
    shared = [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(CommonOptions)
    ]
    ordered = [*shared[:BEFORE_OWN], *own, *shared[BEFORE_OWN:]]
    return Signature([each.replace(kind=Parameter.KEYWORD_ONLY) for each in ordered])
