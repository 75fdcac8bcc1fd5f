"""`restore enhance`: dark images made bright."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from restore_cli import registry
from restore_cli.cli.choices import CommonOptions, with_choices
from restore_cli.cli.options import ModelName, Strength, WeightsName
from restore_cli.cli.restore import run_batch

if TYPE_CHECKING:
    from restore_cli.inference.restorer import Restorer, RunOptions

Resize = Annotated[
    Literal["detail", "fit", "native"],
    typer.Option(
        help="For TML, which works at one size: detail carries its change to the image, which "
        "keeps its own detail; fit stretches its result, as the paper; native runs it at the "
        "image's size."
    ),
]


@with_choices
def enhance(
    choices: CommonOptions,
    model: ModelName = None,
    weights: WeightsName = None,
    strength: Strength = 1.0,
    resize: Resize = "detail",
) -> None:
    """Brighten dark images and folders of images (TML)."""

    def load(options: RunOptions) -> Restorer:
        from restore_cli.inference.restorer import load_restorer

        chosen = replace(options, weights=weights, strength=strength, resize=resize)
        return load_restorer("enhance", chosen)

    network = registry.find_for_task("enhance", model).arch
    run_batch("enhance", choices, load, model=network)
