"""Self-describing weight files: safetensors that carry how to build their network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore_cli.checkpoints.read import METADATA_KEY
from restore_cli.errors import OutputError, WeightsError

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
    """As save, for a state dict under our names."""
    write_whole(encoded(state, path.name, arch=arch, config=config, record=record, half=half), path)


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


def write_whole(data: bytes, path: Path) -> None:
    """Write to a temporary name, then rename. Raises OutputError."""
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu()
    # clone: safetensors refuses tensors that share memory
    return (value.half() if half and value.is_floating_point() else value).contiguous().clone()
