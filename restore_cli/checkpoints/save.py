"""Self-describing weight files: safetensors that carry how to build their network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore_cli.checkpoints.read import METADATA_KEY
from restore_cli.errors import WeightsError
from restore_cli.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor, nn

STATISTICS = ("running_mean", "running_var")  # few, and a variance may well exceed 65504


def save(
    module: nn.Module,
    path: Path,
    *,
    arch: str,
    config: Mapping[str, Any],
    record: Mapping[str, Any],
    half: bool = False,
) -> None:
    """Write the state of `module` to `path`, whole or not at all; the same input, the same bytes.

    config: fields of the network's config dataclass. record: how the weights came to be, as JSON.
    half: floating point tensors in float16, but for the statistics of batch norms.
    Raises WeightsError if a value does not fit, OutputError if the file cannot be written.
    """
    save_state(module.state_dict(), path, arch=arch, config=config, record=record, half=half)


def save_state(
    state: Mapping[str, Tensor],
    path: Path,
    *,
    arch: str,
    config: Mapping[str, Any],
    record: Mapping[str, Any],
    half: bool = False,
) -> None:
    """Write a state dict under our names; see save."""
    data = encoded(state, path.name, arch=arch, config=config, record=record, half=half)
    write_atomically(path, data, overwrite=True)


def encoded(
    state: Mapping[str, Tensor],
    name: str,
    *,
    arch: str,
    config: Mapping[str, Any],
    record: Mapping[str, Any],
    half: bool = False,
) -> bytes:
    """The bytes of a weight file; `name` is for errors alone."""
    from safetensors.torch import save as to_bytes

    stored = {
        key: _stored(value, half and not key.endswith(STATISTICS)) for key, value in state.items()
    }
    if overflowed := [key for key, value in stored.items() if not value.isfinite().all()]:
        raise WeightsError(
            f"{name}: {overflowed[0]} is not finite"
            + (", or beyond the 65504 of float16" if half else "")
        )
    about = {"arch": arch, "config": dict(config), "record": dict(record)}
    return to_bytes(stored, metadata={METADATA_KEY: json.dumps(about, sort_keys=True)})


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu()
    # clone: safetensors refuses tensors that share memory
    return (value.half() if half and value.is_floating_point() else value).contiguous().clone()
