"""`restore run`: several restorations of an image in one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from restore_cli import registry
from restore_cli.cli.choices import CommonOptions, with_choices
from restore_cli.cli.restore import run_batch
from restore_cli.cli.upscale import factor_of, usual_factor, usual_network
from restore_cli.errors import UsageError

if TYPE_CHECKING:
    from restore_cli.inference.chain import Chain
    from restore_cli.inference.restorer import RunOptions

TASKS = tuple(task for task in get_args(registry.Task) if task != "generate")
EXAMPLE = "for example --steps derain,denoise,upscale:2"

Steps = Annotated[
    str,
    typer.Option(
        metavar="STEP,STEP...",
        help=f"What is done, in this order: {', '.join(TASKS)} or upscale:FACTOR.",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="STEP=NAME", help="Network of a step; once for each."),
]
WeightsOfSteps = Annotated[
    list[str] | None,
    typer.Option("--weights", metavar="STEP=NAME|FILE", help="Weights of a step; once for each."),
]


@with_choices
def run(
    choices: CommonOptions, steps: Steps, model: Models = None, weights: WeightsOfSteps = None
) -> None:
    """Restore images in several steps, with no rounding in between.

    Results are called {stem}_restored{ext}. Tiles, overlap and precision hold for each step.
    """
    chosen = steps_of(steps)
    tasks = [task for task, _ in chosen]
    models = by_step(model or [], tasks, option="--model")
    files = by_step(weights or [], tasks, option="--weights")
    factors = [
        factor or usual_factor(files.get("upscale")) if task == "upscale" else 1.0
        for task, factor in chosen
    ]
    if "upscale" in tasks and not {"upscale"} & (models.keys() | files.keys()):
        models["upscale"] = usual_network(choices, max(factors), task="run")
    networks = [registry.find_for_task(task, models.get(task)).arch for task in tasks]

    def load(options: RunOptions) -> Chain:
        from restore_cli.inference.chain import Step, load_chain

        planned = [
            Step(task, factor, models.get(task), files.get(task))
            for task, factor in zip(tasks, factors, strict=True)
        ]
        return load_chain(planned, options)

    run_batch("run", choices, load, model="+".join(networks), scale=f"{math.prod(factors):g}")


def steps_of(text: str) -> list[tuple[str, float | None]]:
    """`derain,upscale:2` as [("derain", None), ("upscale", 2.0)]. Raises UsageError."""
    steps = []
    for step in text.split(","):
        task, colon, factor = step.strip().partition(":")
        if task not in TASKS:
            raise UsageError(f"--steps {text}: no step is called {task!r}", hint=EXAMPLE)
        if colon and task != "upscale":
            raise UsageError(f"--steps {text}: {task} takes no number", hint=EXAMPLE)
        steps.append((task, factor_of(factor, where=f"--steps {text}") if colon else None))
    return steps


def by_step(given: Sequence[str], tasks: Sequence[str], *, option: str) -> dict[str, str]:
    """`derain=NAME` as {"derain": "NAME"}. Raises UsageError."""
    found: dict[str, str] = {}
    for text in given:
        task, equals, name = text.partition("=")
        if not (equals and name) or task not in tasks or task in found:
            twice = f"{option} {text}: {task} has been given already"
            wanted = f"{option} {text}: wanted STEP=NAME with a STEP of --steps"
            raise UsageError(
                twice if task in found else wanted, hint=f"for example {option} {tasks[0]}=NAME"
            )
        found[task] = name
    return found
