"""Which tensors a network holds, and whether those of a file are the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from restore_cli import registry
from restore_cli.errors import UsageError, WeightsMismatch

if TYPE_CHECKING:
    from torch import Tensor, nn

NAMED = 3  # differences spelt out in a message; the rest are counted


def expected_state(arch: str, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the state dict of a network so configured: names and shapes, values uninitialised.

    Raises WeightsMismatch for a network or configuration that does not exist.
    """
    import torch

    try:
        return empty_network(arch, config).state_dict()
    except RuntimeError:  # larger than any memory
        with torch.device("meta"):
            return registry.build(arch, **config).state_dict()


def empty_network(arch: str, config: Mapping[str, Any]) -> nn.Module:
    """Build a network without initial values, so without pages of memory. Raises WeightsMismatch.

    Not on the meta device, whose random numbers and sums import torch._dynamo: a second.
    """
    from restore_cli.checkpoints.empty import no_initial_values

    try:
        with no_initial_values():
            return registry.build(arch, **config)
    except UsageError as error:
        raise WeightsMismatch(error.message, hint=error.hint) from error
    except (ValueError, TypeError) as error:
        raise WeightsMismatch(f"{arch} with {dict(config)}: {error}") from error


def check_fit(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, source: str, layout: str
) -> None:
    """Compare names and shapes, both ways. Raises WeightsMismatch naming the first differences."""
    differences = [f"{key} is missing" for key in expected if key not in found]
    differences += [f"{key} is unknown" for key in found if key not in expected]
    differences += [
        f"{key} is {_size(found[key])}, wanted {_size(expected[key])}"
        for key in expected
        if key in found and found[key].shape != expected[key].shape
    ]
    if differences:
        more = f"; {len(differences) - NAMED} more" if len(differences) > NAMED else ""
        raise WeightsMismatch(
            f"{source}: does not fit {layout}: {'; '.join(differences[:NAMED])}{more}"
        )


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"
