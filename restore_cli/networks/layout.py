"""Key names of published code, without torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

State = Mapping[str, "Tensor"]
Part = tuple[Mapping[str, Any], State]


@dataclass(frozen=True)
class Layout:
    """Names of the tensors of a network in its published code."""

    official_name: Callable[[str, Mapping[str, Any]], str]  # of one of our keys, given the config
    signature: frozenset[str]  # keys that together occur in no other layout
    config: Callable[[State], dict[str, Any]]  # as far as names and shapes tell
    # Tensors that a file may hold besides, given the config: copies, by the name of the tensor
    # that they repeat, and constants.
    repeats: Callable[[Mapping[str, Any]], Mapping[str, str | Tensor]] = lambda config: {}
    # Tensors that it may hold and the network never uses, given the config.
    unused: Callable[[Mapping[str, Any]], Collection[str]] = lambda config: ()
    # Official modules by their names in other public code.
    other_names: Mapping[str, str] = field(default_factory=dict)
    # The network that two of its files make, and how: of each (config, state under our names).
    joined: tuple[str, Callable[[Part, Part], Part]] | None = None
    # The state of another framework under the official names; any other state as it is.
    convert: Callable[[State], State] = lambda state: state
