"""Key names of UGDC and TML in Rainbowman0/TML_LLIE at 6a9f952."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from restore_cli.errors import UsageError
from restore_cli.networks.layout import Layout, Part

if TYPE_CHECKING:
    from torch import Tensor


def _ugdc_modules() -> dict[str, str]:
    """Return the official module of each of ours."""
    modules = {"enter": "inc.double_conv", "output": "outc.conv"}
    for stage in range(4):
        modules[f"down.{stage}"] = f"down{stage + 1}.maxpool_conv.1.double_conv"
        modules[f"enlarge.{stage}"] = f"up{stage + 1}.up"
        modules[f"up.{stage}"] = f"up{stage + 1}.conv.double_conv"
    return modules


UGDC_MODULES: Mapping[str, str] = MappingProxyType(_ugdc_modules())
GDC_PARTS: Mapping[str, str] = MappingProxyType(
    {"position": "diff", "norm": "lnnorm", "look": "convk", "mix": "conv1"}
)
UGDC_GDCS = tuple(f"{UGDC_MODULES[stage]}.0" for stage in ("down.2", "down.3", "up.0", "up.1"))


def _ugdc_name(key: str, config: Mapping[str, Any]) -> str:
    module = max((name for name in UGDC_MODULES if key.startswith(f"{name}.")), key=len)
    rest = key.removeprefix(module).split(".")
    return UGDC_MODULES[module] + ".".join(GDC_PARTS.get(part, part) for part in rest)


def _ugdc_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The nominal size in whole patches of the finest map that has them, a quarter of it."""
    stem_channels, in_channels = state["inc.double_conv.0.weight"].shape[:2]
    patch = state[f"{UGDC_GDCS[0]}.patch.weight"].shape[-1]
    rows, columns = state[f"{UGDC_GDCS[-1]}.diff"].shape[-2:]
    return {
        "stem_channels": stem_channels,
        "nominal_size": [4 * patch * rows, 4 * patch * columns],
        "patch": patch,
        "in_channels": in_channels,
        "out_channels": state["outc.conv.weight"].shape[0],
    }


def _ugdc_unused(config: Mapping[str, Any]) -> list[str]:
    """The second norm of each block, which the published code makes and never calls."""
    return [f"{block}.ln.{leaf}" for block in UGDC_GDCS for leaf in ("weight", "bias")]


def _tml_name(key: str, config: Mapping[str, Any]) -> str:
    network, rest = key.split(".", 1)
    return f"{network}.{_ugdc_name(rest, config)}"


def _tml_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    pm, em = (
        _ugdc_config({key[3:]: value for key, value in state.items() if key.startswith(prefix)})
        for prefix in ("pm.", "em.")
    )
    return {
        "pm_stem": pm["stem_channels"],
        "em_stem": em["stem_channels"],
        "nominal_size": pm["nominal_size"],
        "patch": pm["patch"],
    }


def _tml_unused(config: Mapping[str, Any]) -> list[str]:
    return [f"{network}.{name}" for network in ("pm", "em") for name in _ugdc_unused(config)]


def join(predicting: Part, enhancing: Part) -> Part:
    """Return config and state of the TML that two UGDCs (config, state) make.

    Raises UsageError where they are for images of different sizes.
    """
    from restore_cli.networks.tml.model import UGDCConfig

    pm, em = UGDCConfig(**predicting[0]), UGDCConfig(**enhancing[0])
    if (*pm.nominal_size, pm.patch) != (*em.nominal_size, em.patch):
        raise UsageError(
            f"the two are for images of {tuple(pm.nominal_size)} and of "
            f"{tuple(em.nominal_size)} (H, W), so they do not belong together"
        )
    config = {
        "pm_stem": pm.stem_channels,
        "em_stem": em.stem_channels,
        "nominal_size": list(pm.nominal_size),
        "patch": pm.patch,
    }
    state = {f"pm.{key}": value for key, value in predicting[1].items()}
    return config, state | {f"em.{key}": value for key, value in enhancing[1].items()}


UGDC_LAYOUT = Layout(
    official_name=_ugdc_name,
    signature=frozenset({"inc.double_conv.0.weight", f"{UGDC_GDCS[0]}.diff"}),
    config=_ugdc_config,
    unused=_ugdc_unused,
    joined=("tml", join),
)
# Both files of the published code in one, each under the name of its part.
TML_LAYOUT = Layout(
    official_name=_tml_name,
    signature=frozenset({"pm.outc.conv.weight", "em.outc.conv.weight"}),
    config=_tml_config,
    unused=_tml_unused,
)
