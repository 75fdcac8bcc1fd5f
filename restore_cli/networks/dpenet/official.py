"""Key names of DPENet in chdwyb/DPENet at 4ef5c0c."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from restore_cli.networks.layout import Layout

if TYPE_CHECKING:
    from torch import Tensor


def _modules() -> dict[str, str]:
    """Return the official module of each of ours; official blocks count from 1."""
    modules = {
        "embed_rainy": "inconv1.0",
        "streaks": "outconv1.0",
        "embed_streakless": "inconv2.0",
        "detail": "outconv2.0",
    }
    for block in range(10):
        for pair, dilation in enumerate((1, 2, 5)):
            for layer in (0, 2):
                ours = f"r2net.{block}.pairs.{pair}.{layer}"
                modules[ours] = f"ddrb{block + 1}.dconv{dilation}.{layer}"
    for block in range(3):
        ours, official = f"drnet.{block}", f"erpab{block + 1}"
        for scale in range(3):
            modules[f"{ours}.scales.{scale}"] = f"{official}.inconv{scale + 1}"
        modules[f"{ours}.fuse"] = f"{official}.outconv.0"
        modules[f"{ours}.attention.0"] = f"{official}.pa.0"
        modules[f"{ours}.attention.2"] = f"{official}.pa.2"
    return modules


MODULES: Mapping[str, str] = MappingProxyType(_modules())


def _name(key: str, config: Mapping[str, Any]) -> str:
    module, leaf = key.rsplit(".", 1)
    return f"{MODULES[module]}.{leaf}"


def _config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    mid_channels, in_channels = state["inconv1.0.weight"].shape[:2]
    return {"in_channels": in_channels, "mid_channels": mid_channels}


LAYOUT = Layout(
    official_name=_name,
    signature=frozenset({"inconv1.0.weight", "ddrb1.dconv5.0.weight", "erpab1.outconv.0.bias"}),
    config=_config,
)
