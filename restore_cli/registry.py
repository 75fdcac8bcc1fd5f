"""Table of the networks: found by name or task, configured, built. Reading it loads no torch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from importlib import import_module
from types import MappingProxyType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from restore_cli.errors import UsageError
from restore_cli.networks.cbsn.spec import SPEC as CBSN
from restore_cli.networks.dimr.spec import SPEC as DIMR
from restore_cli.networks.dpenet.spec import SPEC as DPENET
from restore_cli.networks.espcn.spec import SPEC as ESPCN
from restore_cli.networks.facts import Facts, Generation, Restoration
from restore_cli.networks.fit.spec import SPECS as FIT
from restore_cli.networks.mirnet.spec import SPEC as MIRNET
from restore_cli.networks.scalecrafter.spec import SPEC as SCALECRAFTER
from restore_cli.networks.tml.spec import SPECS as TML
from restore_cli.tasks import find_task

if TYPE_CHECKING:
    from torch import nn

MODELS: Mapping[str, Restoration] = MappingProxyType(
    {spec.arch: spec for spec in (DPENET, CBSN, ESPCN, *TML, MIRNET)}
)
# The first is the default of `restore generate`: more of its images are right.
GENERATORS: Mapping[str, Generation] = MappingProxyType(
    {spec.arch: spec for spec in (*FIT, SCALECRAFTER, DIMR)}
)
NETWORKS: Mapping[str, Restoration | Generation] = MappingProxyType({**MODELS, **GENERATORS})
LARGEST_NUMBER = 1 << 16  # in a configuration; larger than any depth, width or size
LONGEST_SEQUENCE = 16


@dataclass(frozen=True)
class Configured:
    """A network in one configuration: what some weights are for."""

    arch: str
    tasks: tuple[str, ...]
    facts: Facts | None  # None: it generates images


def find(arch: str) -> Restoration | Generation:
    """Return the spec of a network. Raises UsageError for an unknown name."""
    try:
        return NETWORKS[arch]
    except KeyError:
        raise UsageError(
            f"no network is called {arch!r}", hint=f"one of: {', '.join(sorted(NETWORKS))}"
        ) from None


def configured(
    spec: Restoration | Generation,
    config: Mapping[str, Any],
    tasks: tuple[str, ...] | None = None,
) -> Configured:
    """Return the facts of a network for the fields of its config.

    tasks: of the weights, where not all of the network. A configuration that enlarges does
    nothing else.
    """
    if isinstance(spec, Generation):
        return Configured(spec.arch, spec.tasks, None)
    facts = spec.facts(**config)
    return Configured(spec.arch, tasks or (("upscale",) if facts.scale > 1 else spec.tasks), facts)


def find_for_task(task: str, model: str | None = None) -> Restoration:
    """Return the network `model` for a task, by default that of the task. Raises UsageError."""
    row = find_task(task)
    if not row.network:
        raise UsageError(
            f"no weights are bundled for {task}",
            hint=f"use a community model: restore {task} SOURCE --weights FILE",
        )
    able = [spec for spec in MODELS.values() if row.name in spec.weights]
    able.sort(key=lambda spec: spec.arch != row.network)  # stable: the default comes first
    for spec in able:
        if model in (None, spec.arch):
            return spec
    raise UsageError(
        f"{model!r} does not {task}", hint=f"one of: {', '.join(spec.arch for spec in able)}"
    )


def build(arch: str, **config: Any) -> nn.Module:
    """Build a network with random weights; `config` are the fields of its config dataclass.

    Raises UsageError for an unknown network, and for a config that it does not have.
    """
    spec = find(arch)
    module_name, class_name = spec.model.split(":")
    module = import_module(module_name)
    config_class = getattr(module, spec.config)
    kinds = get_type_hints(config_class)
    for name, value in config.items():
        largest = spec.limits.get(name, LARGEST_NUMBER)
        if name in kinds and not _is_of_kind(value, kinds[name], largest):
            kind = inspect.formatannotation(kinds[name])
            raise UsageError(f"{arch}: {name} is {value!r:.40}, wanted {kind}, up to {largest:,}")
    try:
        network: nn.Module = getattr(module, class_name)(config_class(**config))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{arch}: {error}") from error
    return network


def _is_of_kind(value: Any, kind: Any, largest: int) -> bool:
    """Tell whether the value of a config field is of the kind that its annotation names."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return value in parts
    if get_origin(kind) in (Union, UnionType):
        return any(_is_of_kind(value, part, largest) for part in parts)
    if is_dataclass(kind):  # a configuration of a part
        kinds = get_type_hints(kind)
        values = value if isinstance(value, dict) else vars(value) if type(value) is kind else None
        return values is not None and all(
            _is_of_kind(values[name], kinds[name], largest) for name in kinds.keys() & values.keys()
        )
    if parts:  # a sequence
        return (
            isinstance(value, list | tuple)
            and len(value) <= LONGEST_SEQUENCE
            and all(_is_of_kind(each, parts[0], largest) for each in value)
        )
    if kind in (int, float):
        least = 1 if kind is int else 0
        is_number = isinstance(value, int | kind) and not isinstance(value, bool)
        return is_number and least <= value <= largest
    return isinstance(value, kind)
