"""`restore enhance`: dark pictures made bright."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from restore_cli import registry
from restore_cli.cli.choices import Choices, with_choices
from restore_cli.cli.options import ModelName, Strength, WeightsName
from restore_cli.cli.restore import carry_out

if TYPE_CHECKING:
    from restore_cli.pipelines.restorer import Restorer, RunOptions

Resize = Annotated[
    Literal["detail", "fit", "native"],
    typer.Option(
        help="For TML, which works at one size: detail carries its change to the picture, which "
        "keeps its own detail; fit stretches its result, as the paper; native runs it at the "
        "picture's size."
    ),
]


@with_choices
def enhance(
    choices: Choices,
    model: ModelName = None,
    weights: WeightsName = None,
    strength: Strength = 1.0,
    resize: Resize = "detail",
) -> None:
    """Brighten dark pictures and folders of pictures (TML)."""

    def load(options: RunOptions) -> Restorer:
        from restore_cli.pipelines.restorer import load_restorer

        chosen = replace(options, weights=weights, strength=strength, resize=resize)
        return load_restorer("enhance", chosen)

    network = registry.find_for_task("enhance", model).arch
    carry_out("enhance", choices, load, model=network)
