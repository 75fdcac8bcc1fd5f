"""`restore upscale`: larger images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from restore_cli import registry
from restore_cli.cli.choices import CommonOptions, with_choices
from restore_cli.cli.console import Reporter
from restore_cli.cli.options import ModelName, WeightsName
from restore_cli.cli.restore import run_batch
from restore_cli.errors import UsageError

if TYPE_CHECKING:
    from restore_cli.batch.plan import Job
    from restore_cli.cli.restore import AnyRestorer
    from restore_cli.inference.restorer import RunOptions
    from restore_cli.inference.upscaler import Upscaler

PHOTO_MODEL = "mirnet"  # the only one that is trained on damaged photographs

Scale = Annotated[
    str | None,
    typer.Option(
        metavar="FACTOR",
        help="2, 3 or 4 times as large; 2.5 is x3 made smaller. [default: 2, or that of --weights]",
        show_default=False,
    ),
]
Size = Annotated[
    str | None,
    typer.Option(metavar="WxH", help="Exactly so many pixels, whatever the proportions were."),
]
Repeat = Annotated[
    bool,
    typer.Option("--repeat", help="One network several times: x4 as x2 after x2. Up to x16."),
]
For = Annotated[
    Literal["auto", "photo", "clean"],
    typer.Option(
        "--for",
        help="Weights for photographs damaged by JPEG, noise and blur, or for clean images; auto: "
        "the former for images with traces of JPEG, where the network has such weights.",
    ),
]


@with_choices
def upscale(
    choices: CommonOptions,
    scale: Scale = None,
    size: Size = None,
    repeat: Repeat = False,
    purpose: For = "auto",
    model: ModelName = None,
    weights: WeightsName = None,
) -> None:
    """Enlarge images, folders and videos (ESPCN, MIRNet)."""
    if scale and size:
        raise UsageError("--scale and --size contradict each other", hint="give one of them")
    if purpose != "auto" and weights is not None:
        raise UsageError("--for and --weights contradict each other", hint="give one of them")
    if purpose == "photo" and model is None:
        model = PHOTO_MODEL
    factor = None if scale is None else factor_of(scale)
    wanted = None if size is None else size_of(size)

    def load(options: RunOptions) -> Upscaler:
        from restore_cli.inference.upscaler import Target, load_upscaler

        suited = purpose
        if purpose == "auto" and _videos(choices):  # frames of one video all take the same
            suited = "clean"
        target = Target(factor, wanted, repeat)
        return load_upscaler(replace(options, weights=weights), target, suited)

    if factor is None and wanted is None:
        factor = usual_factor(weights)
    left_open = model is None and weights is None
    network = usual_network(choices, factor, repeat=repeat) if left_open else model
    run_batch(
        "upscale",
        choices,
        load,
        model=registry.find_for_task("upscale", network).arch,
        scale=size or f"{factor:g}",
        refine=say_network if left_open else None,
    )


def usual_network(
    choices: CommonOptions, factor: float | None, *, task: str = "upscale", repeat: bool = False
) -> str:
    """The network that enlarges where neither it nor weights are named.

    The faster one for videos everywhere: an hour of film would take the better one days.
    """
    from restore_cli.inference import factors

    usual = factors.usual_network(choices.device, factor, repeat=repeat)
    if usual == factors.FASTER:
        return usual
    return factors.FASTER if _videos(choices, task) else usual


def _videos(choices: CommonOptions, task: str = "upscale") -> bool:
    from restore_cli.batch.plan import hold_videos

    return hold_videos(choices.source, choices.output, task=task, recursive=choices.recursive)


def say_network(restorer: AnyRestorer, jobs: Sequence[Job], report: Reporter) -> AnyRestorer:
    from restore_cli.inference.factors import BETTER, FASTER

    taken = restorer.model
    other = f"--model {FASTER} is faster" if taken == BETTER else f"--model {BETTER} is sharper"
    report.say(f"enlarging by {taken} on {restorer.device}; {other}")
    return restorer


def usual_factor(weights: str | None) -> float:
    """What is meant where nothing is said: the factor of the weights, else 2."""
    if weights is None:
        return 2.0
    from restore_cli.inference.upscaler import scale_of

    return scale_of(weights)


def factor_of(text: str, *, where: str | None = None) -> float:
    """`2` or `2.5` as a number above 1; where: it was given. Raises UsageError."""
    if re.fullmatch(r"\d{1,3}(\.\d+)?", text) is None or float(text) <= 1:
        raise UsageError(
            f"{where or f'--scale {text}'}: wanted a factor above 1", hint="for example 2, or 2.5"
        )
    return float(text)


def size_of(text: str) -> tuple[int, int]:
    """`1920x1080` as (1080, 1920), height first. Raises UsageError."""
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text)
    if match is None:
        raise UsageError(
            f"--size {text}: wanted width x height in pixels", hint="for example --size 1920x1080"
        )
    return int(match[2]), int(match[1])
