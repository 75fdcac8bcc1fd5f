"""Comparison of the tensors of a file with those of a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import get_ident
from typing import TYPE_CHECKING, Any

from restore_cli import registry
from restore_cli.errors import UsageError, WeightsCorrupt, WeightsMismatch

if TYPE_CHECKING:
    from torch import Tensor, nn

NAMED = 3  # differences spelt out in a message; the rest are counted
# By which a network may exceed twice a file before it is given up: below, differences are named.
MORE_TENSORS, MORE_VALUES = 1000, 100_000_000


def empty_network(arch: str, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> nn.Module:
    """Build a network without initial values, for the weights in `state`.

    Not on the meta device, whose random numbers and sums import torch._dynamo: a second.
    Raises WeightsMismatch for a network or configuration that does not exist, or is much larger
    than `state`.
    """
    from restore_cli.checkpoints.empty import no_initial_values

    try:
        with no_initial_values(), at_most(state):
            return registry.build(arch, **config)
    except UsageError as error:
        raise WeightsMismatch(error.message, hint=error.hint) from error
    # Beyond the checks of the config, a number may fit no other one, or no memory.
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsMismatch(f"{arch} with {dict(config)!s:.200}: {error}") from error


@contextmanager
def at_most(state: Mapping[str, Tensor]) -> Iterator[None]:
    """Give up the network that is built in this thread once it is much larger than `state`.

    A configuration comes from a file, and may describe a network without an end.
    Raises WeightsMismatch.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook

    thread = get_ident()
    tensors = 2 * len(state) + MORE_TENSORS
    values = 2 * sum(tensor.numel() for tensor in state.values()) + MORE_VALUES

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal tensors, values
        if parameter is None or get_ident() != thread:
            return
        tensors, values = tensors - 1, values - parameter.numel()
        if min(tensors, values) < 0:
            raise WeightsMismatch("its configuration is of a network much larger than its weights")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def check_fit(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, source: str, layout: str
) -> None:
    """Compare names, shapes and kinds of values. Raises WeightsMismatch naming differences."""
    differences = [f"{key} is missing" for key in expected if key not in state]
    differences += [f"{key} is unknown" for key in state if key not in expected]
    differences += [
        f"{key} is {_size(state[key])}, wanted {_size(expected[key])}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    differences += [
        f"{key} is {_dtype(state[key])}, wanted {_dtype(expected[key])}"
        for key in expected
        if key in state and expected[key].is_floating_point() > state[key].is_floating_point()
    ]
    if differences:
        more = f"; {len(differences) - NAMED} more" if len(differences) > NAMED else ""
        raise WeightsMismatch(
            f"{source}: does not fit {layout}: {'; '.join(differences[:NAMED])}{more}"
        )


def check_finite(module: nn.Module, source: str) -> None:
    """Raise WeightsCorrupt for the first value that is NaN or infinity."""
    for key, value in module.state_dict().items():
        if not value.isfinite().all():
            raise WeightsCorrupt(
                f"{source}: {key} holds NaN or infinity", hint="download it again, or train it anew"
            )


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
