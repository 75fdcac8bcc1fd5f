"""Official checkpoints under our names: one table per published code, strict both ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from restore_cli.checkpoints.read import read
from restore_cli.checkpoints.shapes import check_fit, expected_state
from restore_cli.errors import WeightsMismatch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """How the published code of a network names what ours holds."""

    official_name: Callable[[str], str]  # of one of our keys
    signature: frozenset[str]  # keys that together occur in no other layout
    config: Callable[[Mapping[str, Tensor]], dict[str, Any]]  # what the shapes tell of it


def _dpenet_modules() -> dict[str, str]:
    """Our modules -> those of chdwyb/DPENet at 4ef5c0c, which counts blocks from 1."""
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


DPENET_MODULES: Mapping[str, str] = MappingProxyType(_dpenet_modules())


def _dpenet_name(key: str) -> str:
    module, leaf = key.rsplit(".", 1)
    return f"{DPENET_MODULES[module]}.{leaf}"


def _dpenet_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    mid_channels, in_channels = state["inconv1.0.weight"].shape[:2]
    return {"in_channels": in_channels, "mid_channels": mid_channels}


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "dpenet": Layout(
            official_name=_dpenet_name,
            signature=frozenset(
                {"inconv1.0.weight", "ddrb1.dconv5.0.weight", "erpab1.outconv.0.bias"}
            ),
            config=_dpenet_config,
        ),
    }
)


def from_official(arch: str, state: Mapping[str, Tensor], **config: Any) -> dict[str, Tensor]:
    """The state dict of our `arch` with the values of an official one.

    config: fields of the network's config dataclass, as for registry.build.
    Raises WeightsMismatch if a key is missing, unknown or of another shape, and for a network
    without a known official layout.
    """
    if arch not in LAYOUTS:
        raise WeightsMismatch(
            f"no official layout of {arch!r} is known", hint=f"known: {', '.join(sorted(LAYOUTS))}"
        )
    expected = expected_state(arch, config)
    names = {key: LAYOUTS[arch].official_name(key) for key in expected}
    official = {names[key]: tensor for key, tensor in expected.items()}
    check_fit(state, official, source="state dict", layout=f"the official {arch}")
    return {key: state[name] for key, name in names.items()}


def recognise(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    """The network of an official state dict, and its config as far as shapes tell it.

    Raises WeightsMismatch if no layout has these keys.
    """
    for arch, layout in LAYOUTS.items():
        if layout.signature <= state.keys():
            return arch, layout.config(state)
    first = ", ".join(list(state)[:3]) or "none"
    raise WeightsMismatch(
        f"no known network has these tensors ({first} ...)",
        hint=f"official files of {', '.join(sorted(LAYOUTS))} are known, and our own",
    )


def read_official(path: Path) -> dict[str, Tensor]:
    """The bare state dict of an official file, under its own names; see read.read."""
    return read(path).state
