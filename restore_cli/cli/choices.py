"""Words that complete the value of an option in a shell; none of them loads torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import typer

from restore_cli import registry
from restore_cli.errors import RestoreError
from restore_cli.tasks import TASKS

# Names whose modules load torch; a test compares them.
METRICS = ("niqe", "lpips", "dists", "vif")
SAMPLERS = {
    "fitv2": ("euler", "midpoint", "heun", "dopri5", "sde"),
    "dimr": ("dpm", "ddim", "unipc"),
    "scalecrafter": ("ddim", "ddpm"),
    "base": ("ddim", "ddpm", "dpm", "euler", "euler_a", "heun", "lcm", "pndm", "unipc"),
}
ROPES = (
    *("auto", "normal", "linear", "ntk-aware", "ntk-by-parts", "yarn"),
    *("ntk-aware-pro1", "ntk-aware-pro2"),
)


def starting(words: Iterable[str]) -> Callable[[str], list[str]]:
    """Return the completion of a word that may also be a number, a file or the like."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


def weights(context: typer.Context, incomplete: str) -> list[str]:
    """Complete weights: for the task that the command is called by, or all."""
    return _weights(str(context.command.name), incomplete)


def _weights(task: str, incomplete: str) -> list[str]:
    from restore_cli.checkpoints import manifest
    from restore_cli.checkpoints.load import spec_of

    found = starting(manifest.entries())(incomplete)
    is_task = task in (*TASKS, "generate")
    return [name for name in found if not is_task or task in spec_of(name).tasks]


def models(context: typer.Context, incomplete: str) -> list[str]:
    """Complete a network for the task that the command is called by."""
    able = [name for name, spec in registry.MODELS.items() if context.command.name in spec.weights]
    return starting(able)(incomplete)


def models_and_weights(incomplete: str) -> list[str]:
    return [*starting(registry.MODELS)(incomplete), *_weights("", incomplete)]


def models_of_steps(incomplete: str) -> list[str]:
    """Complete STEP=NAME."""
    pairs = [
        f"{task}={name}"
        for task in TASKS
        for name, spec in registry.MODELS.items()
        if task in spec.weights
    ]
    return starting(pairs)(incomplete)


def weights_of_steps(incomplete: str) -> list[str]:
    """Complete STEP=NAME|FILE."""
    step, equals, name = incomplete.partition("=")
    if not equals:
        return starting(f"{task}=" for task in TASKS)(incomplete)
    return [f"{step}={found}" for found in _weights(step.partition(":")[0], name)]


def steps(incomplete: str) -> list[str]:
    """Complete the last of several steps."""
    before, comma, last = incomplete.rpartition(",")
    words = (*TASKS, *(f"upscale:{factor}" for factor in (2, 3, 4)))
    return [f"{before}{comma}{step}" for step in starting(words)(last)]


def metrics(incomplete: str) -> list[str]:
    """Complete the last of several metrics, of those that are not yet there."""
    before, comma, last = incomplete.rpartition(",")
    further = [name for name in METRICS if name not in before.split(",")]
    return [f"{before}{comma}{name}" for name in starting(further)(last)]


def samplers(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the samplers of --base, of the network that is typed, or of all."""
    typed = "base" if context.params.get("base") else context.params.get("model")
    every = [name for names in SAMPLERS.values() for name in names]
    return starting(dict.fromkeys(SAMPLERS.get(str(typed), every)))(incomplete)


def recipes(incomplete: str) -> list[tuple[str, str]]:
    from restore_cli.training.recipes import RECIPES

    found = starting(RECIPES)(incomplete)
    return [(name, RECIPES[name].presets["default"]) for name in found]


def presets_of_recipe(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Complete the presets of the recipe that is typed, or of all."""
    from restore_cli.training.recipes import RECIPES

    typed = {context.params.get("recipe"), *context.args}  # an option without value ends parsing
    entries = [entry for name, entry in RECIPES.items() if name in typed] or RECIPES.values()
    presets = {name: text for entry in entries for name, text in entry.presets.items()}
    return [(name, presets[name]) for name in starting(presets)(incomplete)]


def presets_of_settings(context: typer.Context, incomplete: str) -> list[str]:
    from restore_cli.cli.settings import load

    try:
        return starting(load(context.find_root().command).presets)(incomplete)
    except RestoreError:  # a broken file, which the command names
        return []


def losses(incomplete: str) -> list[str]:
    from restore_cli.training.recipes import LOSS_NAMES

    return starting(LOSS_NAMES)(incomplete)


def classes(context: typer.Context, incomplete: str) -> list[str]:
    """Complete a class of the weights that are typed, or of the installed ones."""
    from restore_cli.checkpoints.classes import candidates

    try:
        found = candidates(context.params.get("model"), context.params.get("weights"))
    except RestoreError:  # weights that are not on this machine
        return []
    return starting(dict.fromkeys(name for one in found for name in one.classes))(incomplete)


def sets(incomplete: str) -> list[str]:
    """Complete a public test set, or a part of one."""
    from restore_cli.data.public_sets import SETS

    return starting(name for each in SETS.values() for name in (each.name, *each.parts))(incomplete)
