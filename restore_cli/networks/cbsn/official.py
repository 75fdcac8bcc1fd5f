"""Key names of C-BSN in jyicu/CBSN at 37da7aa, TensorFlow code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from restore_cli.networks.layout import Layout

if TYPE_CHECKING:
    from torch import Tensor

MODULES: Mapping[str, str] = MappingProxyType(
    {
        "embed": "conv0",
        "fuse.0": "conv1",
        "fuse.2": "conv2",
        "fuse.4": "conv3",
        "fuse.6": "conv4",
    }
)
BRANCH_MODULES: Mapping[str, str] = MappingProxyType(
    {
        "look": "conv1",
        "mix.0": "conv2",
        "mix.2": "conv3",
        "spread": "conv1",
        "mix": "conv2",
        "end": "conv4",
    }
)


def _name(key: str, config: Mapping[str, Any]) -> str:
    """Return the PyTorch name of a TensorFlow variable."""
    module, leaf = key.rsplit(".", 1)
    if module in MODULES:
        return f"{MODULES[module]}.{leaf}"
    _, branch, rest = module.split(".", 2)
    block = ""
    if rest.startswith("dcm."):
        _, index, rest = rest.split(".", 2)
        block = f"dcm.{index}."
    return f"b{int(branch) + 1}.{block}{BRANCH_MODULES[rest]}.{leaf}"


TENSORFLOW_LEAVES = {"kernel": "weight", "W1": "weight", "b1": "bias"}


def _from_tensorflow(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Rename and transpose TensorFlow variables; return any other state as it is.

    W1, of the conditional convolutions, is stored unmasked.
    """
    if "DBSN/conv0/kernel" not in state:
        return state
    tensors = {}
    for name, variable in state.items():
        *modules, leaf = name.removeprefix("DBSN/").split("/")
        module = re.sub(r"dcm(\d)", r"dcm.\1", ".".join(modules).lower())
        is_kernel = variable.dim() == 4  # (height, width, in, out)
        tensors[f"{module}.{TENSORFLOW_LEAVES.get(leaf, leaf)}"] = (
            variable.permute(3, 2, 0, 1).contiguous() if is_kernel else variable
        )
    return tensors


def _config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    channels, in_channels = state["conv0.weight"].shape[:2]
    return {
        "in_channels": in_channels,
        "out_channels": state["conv4.weight"].shape[0],
        "channels": channels,
        "num_module": sum(
            key.startswith("b1.dcm.") and key.endswith(".conv1.weight") for key in state
        ),
    }


LAYOUT = Layout(
    official_name=_name,
    signature=frozenset({"conv0.weight", "conv4.weight", "b1.conv1.weight", "b2.conv4.bias"}),
    config=_config,
    convert=_from_tensorflow,
)
