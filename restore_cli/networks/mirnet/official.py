"""Key names of MIRNet in swz30/MIRNet at 6934e83."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

from restore_cli.networks.layout import Layout

if TYPE_CHECKING:
    from torch import Tensor

    from restore_cli.networks.mirnet.model import MIRNetConfig

DAU_MODULES = {  # of a dual attention unit: ours -> official
    "embed": "body.0",
    "refine": "body.2",
    "spatial.weigh": "SA.spatial.conv",
    "channel.squeeze": "CA.conv_du.0",
    "channel.excite": "CA.conv_du.2",
    "merge": "conv1x1",
}


@lru_cache(maxsize=8)
def _modules(c: MIRNetConfig) -> dict[str, str]:
    modules = {
        "embed": "conv_in",
        "output": "conv_out",
        "prelu": "body.0.body.0.blocks.0.0.body.1",  # one module under many names
    }
    block = _block_modules(c)
    for group in range(c.n_RRG):
        modules[f"rrgs.{group}.conv"] = f"body.{group}.body.{c.n_MSRB}"
        for mrb in range(c.n_MSRB):
            ours, official = f"rrgs.{group}.mrbs.{mrb}", f"body.{group}.body.{mrb}"
            modules |= {f"{ours}.{key}": f"{official}.{name}" for key, name in block.items()}
    return modules


def _block_modules(c: MIRNetConfig) -> dict[str, str]:
    """The modules of one MRB; streams count from the finest."""
    modules = {"conv": "conv_out"}
    for stream in range(c.height):
        for ours, official in DAU_MODULES.items():
            modules[f"daus.{stream}.{ours}"] = f"blocks.{stream}.0.{official}"
        modules[f"fuse.{stream}.squeeze"] = f"selective_kernel.{stream}.conv_du.0"
        modules[f"fuse.{stream}.prelu"] = f"selective_kernel.{stream}.conv_du.1"
        modules |= _chain(f"enlarge.{stream}", f"last_up.{stream}", steps=stream)
        for target in range(c.height):
            modules[f"fuse.{stream}.score.{target}"] = f"selective_kernel.{stream}.fcs.{target}"
            steps = abs(target - stream)
            direction = "down" if stream < target else "up"
            official = f"{direction}.{c.n_feat * 2**stream}_{2**steps}"
            modules |= _chain(f"resize.{stream}to{target}", official, steps)
    return modules


def _chain(ours: str, official: str, steps: int) -> dict[str, str]:
    """The modules of `steps` resizing units in a row."""
    modules = {}
    for step in range(steps):
        for layer in range(6):
            modules[f"{ours}.{step}.body.{layer}"] = f"{official}.body.{step}.top.{layer}"
        for layer in range(2):
            modules[f"{ours}.{step}.shortcut.{layer}"] = f"{official}.body.{step}.bot.{layer}"
    return modules


def _name(key: str, config: Mapping[str, Any]) -> str:
    from restore_cli.networks.mirnet.model import MIRNetConfig

    module, leaf = key.rsplit(".", 1)
    return f"{_modules(MIRNetConfig(**config))[module]}.{leaf}"


def _config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    def count(pattern: str) -> int:
        return len({match[1] for key in state if (match := re.match(pattern, key))})

    return {
        "n_feat": state["conv_in.weight"].shape[0],
        "n_RRG": count(r"body\.(\d+)\."),
        "n_MSRB": count(r"body\.0\.body\.(\d+)\.blocks\."),
        "height": count(r"body\.0\.body\.0\.blocks\.(\d+)\."),
        "width": count(r"body\.0\.body\.0\.blocks\.0\.(\d+)\."),
    }


def _repeats(config: Mapping[str, Any]) -> dict[str, str | Tensor]:
    """The units of further columns, the PReLU that all units share, and the blur kernels."""
    from restore_cli.networks.mirnet.model import MIRNetConfig, binomial_kernel

    c = MIRNetConfig(**config)
    shared = f"{_modules(c)['prelu']}.weight"
    repeats: dict[str, str | Tensor] = {}
    for group, mrb in product(range(c.n_RRG), range(c.n_MSRB)):
        block = f"body.{group}.body.{mrb}"
        for stream, column in product(range(c.height), range(c.width)):
            unit = f"{block}.blocks.{stream}"
            repeats[f"{unit}.{column}.body.1.weight"] = shared
            for part in DAU_MODULES.values() if column else ():
                repeats[f"{unit}.{column}.{part}.weight"] = f"{unit}.0.{part}.weight"
        for source, target in combinations(range(c.height), 2):
            chain = f"{block}.down.{c.n_feat * 2**source}_{2 ** (target - source)}"
            for step in range(target - source):
                kernel = binomial_kernel(c.n_feat * 2 ** (source + step))
                repeats[f"{chain}.body.{step}.top.4.filt"] = kernel
                repeats[f"{chain}.body.{step}.bot.0.filt"] = kernel
    del repeats[shared]
    return repeats


LAYOUT = Layout(
    official_name=_name,
    signature=frozenset({"conv_in.weight", "body.0.body.0.blocks.0.0.SA.spatial.conv.weight"}),
    config=_config,
    repeats=_repeats,
)
