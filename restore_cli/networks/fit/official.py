"""Key names of FiTv2 and FiT in whlzy/FiT at b22b7b0."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from restore_cli.errors import WeightsMismatch
from restore_cli.networks.layout import Layout

if TYPE_CHECKING:
    from torch import Tensor


def _name(key: str, config: Mapping[str, Any]) -> str:
    """Return the official name of a key; official embeddings are wrapped once more."""
    for ours, official in MODULES.items():
        if key.startswith(ours):
            return official + key.removeprefix(ours)
    return key


MODULES: Mapping[str, str] = MappingProxyType(
    {"x_embedder.": "x_embedder.proj.", "y_embedder.": "y_embedder.embedding_table."}
)
HEADS: Mapping[int, int] = MappingProxyType({768: 12, 1152: 16, 2304: 24})  # of each width


def _fitv2_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    rank = state["blocks.0.adaLN_modulation.1.weight"].shape[0]
    return {**_fitv1_config(state), "adaln_lora_dim": rank}


def _fitv1_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    classes, width = state["y_embedder.embedding_table.weight"].shape
    if width not in HEADS:
        raise WeightsMismatch(
            f"FiT of width {width}: its tensors do not tell how many heads it has",
            hint=f"known are the published widths: {', '.join(map(str, HEADS))}",
        )
    return {
        "hidden_size": width,
        "num_heads": HEADS[width],
        "num_classes": classes - 1,
        "depth": sum(key.endswith(".attn.qkv.weight") for key in state),
    }


FITV2_LAYOUT = Layout(
    official_name=_name,
    signature=frozenset({"global_adaLN_modulation.1.weight", "blocks.0.attn.qkv.weight"}),
    config=_fitv2_config,
)
# Its names are among those of FiTv2, so the registry has it after that.
FITV1_LAYOUT = Layout(
    official_name=_name,
    signature=frozenset({"x_embedder.proj.weight", "blocks.0.mlp.fc1_g.weight"}),
    config=_fitv1_config,
)
