"""Key names of DiMR in qihao067/DiMR at fa141ae."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from restore_cli.errors import WeightsMismatch
from restore_cli.networks.layout import Layout

if TYPE_CHECKING:
    from torch import Tensor

PARTS: Mapping[str, str] = MappingProxyType(
    {  # of our names
        "branches": "stages",
        "patch": "input_layer.1",
        "positions": "input_layer.3.position_embeddings",
        "classes": "class_embeds",
        "norm_before": "0",
        "shuffle": "1",
        "norm_after": "2",
        "attention": "block1",
        "qkv": "query_key_value",
        "proj": "dense",
        "depthwise": "block1.1",
        "mlp": "block2",
        "skips": "skip_denses",
        "norm_out": "output_layer.0",
        "conv_out": "output_layer.2",
        "noisy": "param0",
        "clean": "param1",
        "slope": "nodecay_weight",
        "shift": "nodecay_bias",
    }
)
HEADS = 16  # of all published networks
WIDTHS = (768, 960, 1152)  # of their Transformers


def official_name(key: str, config: Mapping[str, Any] = MappingProxyType({})) -> str:
    return ".".join(PARTS.get(part, part) for part in key.split("."))


def _config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    classes, width = state["stages.0.class_embeds.weight"].shape
    if width not in WIDTHS:
        raise WeightsMismatch(
            f"DiMR of width {width}: its tensors do not tell how many heads it has",
            hint=f"known are the published widths: {', '.join(map(str, WIDTHS))}",
        )
    count = len({key.split(".")[1] for key in state if key.startswith("stages.")})
    return {
        "channels": state["stages.0.input_layer.1.weight"].shape[1],
        "num_classes": classes,
        "norm_type": _norm_type(state),
        "stage_configs": [_branch_config(state, f"stages.{level}") for level in range(count)],
    }


def _norm_type(state: Mapping[str, Tensor]) -> str:
    norm = "stages.0.blocks.0.block2.norm"
    if f"{norm}.weight.param0" in state:
        return "LN"
    return "TDRMSN" if f"{norm}.scale.param0" in state else "RMSN"


def _branch_config(state: Mapping[str, Tensor], stage: str) -> dict[str, Any]:
    places, dim = state[f"{stage}.input_layer.3.position_embeddings.weight"].shape
    side = math.isqrt(places)
    if side * side != places:
        raise WeightsMismatch(
            f"{stage} has {places} positions: its tensors do not tell their height and width"
        )
    depthwise = state.get(f"{stage}.blocks.0.block1.1.weight")
    kind = (
        {"block_type": "TransformerBlock", "num_attention_heads": HEADS}
        if depthwise is None
        else {"block_type": "ConvNeXtBlock", "kernel_size": depthwise.shape[-1]}
    )
    return kind | {
        "dim": dim,
        "hidden_dim": state[f"{stage}.blocks.0.block2.w0.weight"].shape[0],
        "num_blocks": sum(
            key.startswith(f"{stage}.blocks.") and key.endswith(".block2.w0.weight")
            for key in state
        ),
        "max_height": side,
        "max_width": side,
        "input_feature_ratio": state[f"{stage}.input_layer.1.weight"].shape[-1],
        "final_kernel_size": state[f"{stage}.output_layer.2.weight"].shape[-1],
    }


LAYOUT = Layout(
    official_name=official_name,
    signature=frozenset(
        {"stages.0.class_embeds.weight", "stages.0.blocks.0.block1.query_key_value.weight"}
    ),
    config=_config,
)
