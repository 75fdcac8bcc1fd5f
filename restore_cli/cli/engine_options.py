"""Where the work of a restoring command is done, from its options."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import typer

from restore_cli.errors import UsageError

if TYPE_CHECKING:
    from restore_cli.batch.distributed import Pool
    from restore_cli.inference.report import ImageRestorer

Loaded = TypeVar("Loaded", bound="ImageRestorer")

OF_RAY = ("address", "workers", "gpus_per_worker")


def refuse_ray_options(context: typer.Context) -> None:
    """Refuse options that do not fit --engine. Raises UsageError."""
    given = context.params
    if given["engine"] == "local":
        for option in OF_RAY:
            if given[option] is not None:
                name = option.replace("_", "-")
                raise UsageError(f"--{name} needs workers of Ray", hint="add --engine ray")
        return
    if "-" in (*given["source"], given["output"]):
        raise UsageError("--engine ray and - contradict each other", hint="name files")
    if given.get("adapt"):
        raise UsageError(
            "--engine ray and --adapt contradict each other",
            hint="save the weights with --save first, then give them by --weights",
        )


def loaded(load: Callable[[], Loaded], context: typer.Context) -> Loaded | Pool:
    """Load the network here or, with --engine ray, in the workers. Raises as both do."""
    given = context.params
    if given["engine"] == "local":
        return loaded_here(load, context)
    from restore_cli.batch.distributed import Cluster, start

    return start(load, Cluster(*(given[option] for option in OF_RAY)))


def loaded_here(load: Callable[[], Loaded], context: typer.Context) -> Loaded:
    """Load the network by the object of the context, which may have kept it, or without one."""
    keep: Callable[[Callable[[], Loaded]], Loaded] | None = context.obj
    return load() if keep is None else keep(load)
