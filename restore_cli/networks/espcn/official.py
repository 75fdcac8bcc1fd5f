"""Key names of ESPCN in yjn870/ESPCN-pytorch at ab84ee1; the authors published no code."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from restore_cli.networks.layout import Layout

if TYPE_CHECKING:
    from torch import Tensor

MODULES: Mapping[str, str] = MappingProxyType(
    {"extract": "first_part.0", "map": "first_part.2", "subpixel": "last_part.0"}
)
OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        # Lornatang/ESPCN-PyTorch at a92f209
        "feature_maps.0": "first_part.0",
        "feature_maps.2": "first_part.2",
        "sub_pixel.0": "last_part.0",
        # Nhat-Thanh/ESPCN-Pytorch at 86370ec
        "conv_1": "first_part.0",
        "conv_2": "first_part.2",
        "conv_3": "last_part.0",
    }
)


def _name(key: str, config: Mapping[str, Any]) -> str:
    module, leaf = key.rsplit(".", 1)
    return f"{MODULES[module]}.{leaf}"


def _config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    features, channels = state["first_part.0.weight"].shape[:2]
    outputs, mapping = state["last_part.0.weight"].shape[:2]
    scale = isqrt(outputs // channels)
    return {"scale": scale, "features": features, "mapping": mapping, "in_channels": channels}


LAYOUT = Layout(
    official_name=_name,
    signature=frozenset({"first_part.0.weight", "first_part.2.weight", "last_part.0.weight"}),
    config=_config,
    other_names=OTHER_NAMES,
)
