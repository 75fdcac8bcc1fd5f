"""Official checkpoints under our names: one table per published code, strict both ways."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations, product
from math import isqrt
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from restore_cli.checkpoints.read import read
from restore_cli.checkpoints.shapes import check_fit, expected_state
from restore_cli.errors import WeightsMismatch

if TYPE_CHECKING:
    from torch import Tensor

    from restore_cli.networks.mirnet.model import MIRNetConfig


@dataclass(frozen=True)
class Layout:
    """How the published code of a network names what ours holds."""

    official_name: Callable[[str, Mapping[str, Any]], str]  # of one of our keys, given the config
    signature: frozenset[str]  # keys that together occur in no layout before this one
    config: Callable[[Mapping[str, Tensor]], dict[str, Any]]  # what names and shapes tell of it
    # What a file may hold besides, given the config: copies, by the name of the tensor that they
    # repeat, and constants.
    repeats: Callable[[Mapping[str, Any]], Mapping[str, str | Tensor]] = lambda config: {}
    # What it may hold that the network never uses, given the config.
    unused: Callable[[Mapping[str, Any]], Collection[str]] = lambda config: ()
    # Official modules by the names that other public code has for them.
    other_names: Mapping[str, str] = field(default_factory=dict)


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


def _dpenet_name(key: str, config: Mapping[str, Any]) -> str:
    module, leaf = key.rsplit(".", 1)
    return f"{DPENET_MODULES[module]}.{leaf}"


def _dpenet_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    mid_channels, in_channels = state["inconv1.0.weight"].shape[:2]
    return {"in_channels": in_channels, "mid_channels": mid_channels}


ESPCN_MODULES: Mapping[str, str] = MappingProxyType(
    # Ours -> those of yjn870/ESPCN-pytorch at ab84ee1; the authors published no code.
    {"extract": "first_part.0", "map": "first_part.2", "subpixel": "last_part.0"}
)
ESPCN_OTHER_NAMES: Mapping[str, str] = MappingProxyType(
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


def _espcn_name(key: str, config: Mapping[str, Any]) -> str:
    module, leaf = key.rsplit(".", 1)
    return f"{ESPCN_MODULES[module]}.{leaf}"


def _espcn_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    features, channels = state["first_part.0.weight"].shape[:2]
    outputs, mapping = state["last_part.0.weight"].shape[:2]
    scale = isqrt(outputs // channels)
    return {"scale": scale, "features": features, "mapping": mapping, "in_channels": channels}


MIRNET_DAU = {  # modules of a unit: ours -> those of swz30/MIRNet at 6934e83
    "embed": "body.0",
    "refine": "body.2",
    "spatial.weigh": "SA.spatial.conv",
    "channel.squeeze": "CA.conv_du.0",
    "channel.excite": "CA.conv_du.2",
    "merge": "conv1x1",
}


@lru_cache(maxsize=8)
def _mirnet_modules(c: MIRNetConfig) -> dict[str, str]:
    modules = {
        "embed": "conv_in",
        "output": "conv_out",
        "prelu": "body.0.body.0.blocks.0.0.body.1",  # one module under many names
    }
    block = _mirnet_block_modules(c)
    for group in range(c.n_RRG):
        modules[f"rrgs.{group}.conv"] = f"body.{group}.body.{c.n_MSRB}"
        for mrb in range(c.n_MSRB):
            ours, official = f"rrgs.{group}.mrbs.{mrb}", f"body.{group}.body.{mrb}"
            modules |= {f"{ours}.{key}": f"{official}.{name}" for key, name in block.items()}
    return modules


def _mirnet_block_modules(c: MIRNetConfig) -> dict[str, str]:
    """The modules of one MRB; streams count from the finest."""
    modules = {"conv": "conv_out"}
    for stream in range(c.height):
        for ours, official in MIRNET_DAU.items():
            modules[f"daus.{stream}.{ours}"] = f"blocks.{stream}.0.{official}"
        modules[f"fuse.{stream}.squeeze"] = f"selective_kernel.{stream}.conv_du.0"
        modules[f"fuse.{stream}.prelu"] = f"selective_kernel.{stream}.conv_du.1"
        modules |= _mirnet_chain(f"enlarge.{stream}", f"last_up.{stream}", steps=stream)
        for target in range(c.height):
            modules[f"fuse.{stream}.score.{target}"] = f"selective_kernel.{stream}.fcs.{target}"
            steps = abs(target - stream)
            way = "down" if stream < target else "up"
            official = f"{way}.{c.n_feat * 2**stream}_{2**steps}"
            modules |= _mirnet_chain(f"resize.{stream}to{target}", official, steps)
    return modules


def _mirnet_chain(ours: str, official: str, steps: int) -> dict[str, str]:
    """The modules of `steps` resizing units in a row."""
    modules = {}
    for step in range(steps):
        for layer in range(6):
            modules[f"{ours}.{step}.body.{layer}"] = f"{official}.body.{step}.top.{layer}"
        for layer in range(2):
            modules[f"{ours}.{step}.shortcut.{layer}"] = f"{official}.body.{step}.bot.{layer}"
    return modules


def _mirnet_name(key: str, config: Mapping[str, Any]) -> str:
    from restore_cli.networks.mirnet.model import MIRNetConfig

    module, leaf = key.rsplit(".", 1)
    return f"{_mirnet_modules(MIRNetConfig(**config))[module]}.{leaf}"


def _mirnet_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    def count(pattern: str) -> int:
        return len({match[1] for key in state if (match := re.match(pattern, key))})

    return {
        "n_feat": state["conv_in.weight"].shape[0],
        "n_RRG": count(r"body\.(\d+)\."),
        "n_MSRB": count(r"body\.0\.body\.(\d+)\.blocks\."),
        "height": count(r"body\.0\.body\.0\.blocks\.(\d+)\."),
        "width": count(r"body\.0\.body\.0\.blocks\.0\.(\d+)\."),
    }


def _mirnet_repeats(config: Mapping[str, Any]) -> dict[str, str | Tensor]:
    """The units of further columns, the PReLU that all units share, and the blur kernels."""
    from restore_cli.networks.mirnet.model import MIRNetConfig, binomial_kernel

    c = MIRNetConfig(**config)
    shared = f"{_mirnet_modules(c)['prelu']}.weight"
    repeats: dict[str, str | Tensor] = {}
    for group, mrb in product(range(c.n_RRG), range(c.n_MSRB)):
        block = f"body.{group}.body.{mrb}"
        for stream, column in product(range(c.height), range(c.width)):
            unit = f"{block}.blocks.{stream}"
            repeats[f"{unit}.{column}.body.1.weight"] = shared
            for part in MIRNET_DAU.values() if column else ():
                repeats[f"{unit}.{column}.{part}.weight"] = f"{unit}.0.{part}.weight"
        for source, target in combinations(range(c.height), 2):
            chain = f"{block}.down.{c.n_feat * 2**source}_{2 ** (target - source)}"
            for step in range(target - source):
                kernel = binomial_kernel(c.n_feat * 2 ** (source + step))
                repeats[f"{chain}.body.{step}.top.4.filt"] = kernel
                repeats[f"{chain}.body.{step}.bot.0.filt"] = kernel
    del repeats[shared]
    return repeats


CBSN_MODULES: Mapping[str, str] = MappingProxyType(
    {
        "embed": "conv0",
        "fuse.0": "conv1",
        "fuse.2": "conv2",
        "fuse.4": "conv3",
        "fuse.6": "conv4",
    }
)
CBSN_BRANCH_MODULES: Mapping[str, str] = MappingProxyType(
    {
        "look": "conv1",
        "mix.0": "conv2",
        "mix.2": "conv3",
        "spread": "conv1",
        "mix": "conv2",
        "end": "conv4",
    }
)


def _cbsn_name(key: str, config: Mapping[str, Any]) -> str:
    """jyicu/CBSN at 37da7aa, as the PyTorch names of its TensorFlow variables."""
    module, leaf = key.rsplit(".", 1)
    if module in CBSN_MODULES:
        return f"{CBSN_MODULES[module]}.{leaf}"
    _, branch, rest = module.split(".", 2)
    block = ""
    if rest.startswith("dcm."):
        _, index, rest = rest.split(".", 2)
        block = f"dcm.{index}."
    return f"b{int(branch) + 1}.{block}{CBSN_BRANCH_MODULES[rest]}.{leaf}"


TENSORFLOW_LEAVES = {"kernel": "weight", "W1": "weight", "b1": "bias"}


def _from_tensorflow(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The variables of a C-BSN checkpoint as PyTorch would name and lay them out.

    Any other state dict stays as it is. W1, of the conditional convolutions, is stored unmasked.
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


def _cbsn_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    channels, in_channels = state["conv0.weight"].shape[:2]
    return {
        "in_channels": in_channels,
        "out_channels": state["conv4.weight"].shape[0],
        "channels": channels,
        "num_module": sum(
            key.startswith("b1.dcm.") and key.endswith(".conv1.weight") for key in state
        ),
    }


def _fit_name(key: str, config: Mapping[str, Any]) -> str:
    """The names of whlzy/FiT at b22b7b0, whose embeddings are wrapped once more."""
    for ours, official in FIT_MODULES.items():
        if key.startswith(ours):
            return official + key.removeprefix(ours)
    return key


FIT_MODULES: Mapping[str, str] = MappingProxyType(
    {"x_embedder.": "x_embedder.proj.", "y_embedder.": "y_embedder.embedding_table."}
)
FIT_HEADS: Mapping[int, int] = MappingProxyType({768: 12, 1152: 16, 2304: 24})  # of each width


def _fitv2_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    rank = state["blocks.0.adaLN_modulation.1.weight"].shape[0]
    return {**_fitv1_config(state), "adaln_lora_dim": rank}


def _fitv1_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    classes, width = state["y_embedder.embedding_table.weight"].shape
    if width not in FIT_HEADS:
        raise WeightsMismatch(
            f"FiT of width {width}: its tensors do not tell how many heads it has",
            hint=f"known are the published widths: {', '.join(map(str, FIT_HEADS))}",
        )
    return {
        "hidden_size": width,
        "num_heads": FIT_HEADS[width],
        "num_classes": classes - 1,
        "depth": sum(key.endswith(".attn.qkv.weight") for key in state),
    }


def _ugdc_modules() -> dict[str, str]:
    """Our modules -> those of Rainbowman0/TML_LLIE at 6a9f952."""
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


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "dpenet": Layout(
            official_name=_dpenet_name,
            signature=frozenset(
                {"inconv1.0.weight", "ddrb1.dconv5.0.weight", "erpab1.outconv.0.bias"}
            ),
            config=_dpenet_config,
        ),
        "espcn": Layout(
            official_name=_espcn_name,
            signature=frozenset(
                {"first_part.0.weight", "first_part.2.weight", "last_part.0.weight"}
            ),
            config=_espcn_config,
            other_names=ESPCN_OTHER_NAMES,
        ),
        "mirnet": Layout(
            official_name=_mirnet_name,
            signature=frozenset(
                {"conv_in.weight", "body.0.body.0.blocks.0.0.SA.spatial.conv.weight"}
            ),
            config=_mirnet_config,
            repeats=_mirnet_repeats,
        ),
        "cbsn": Layout(
            official_name=_cbsn_name,
            signature=frozenset(
                {"conv0.weight", "conv4.weight", "b1.conv1.weight", "b2.conv4.bias"}
            ),
            config=_cbsn_config,
        ),
        "fitv2": Layout(
            official_name=_fit_name,
            signature=frozenset({"global_adaLN_modulation.1.weight", "blocks.0.attn.qkv.weight"}),
            config=_fitv2_config,
        ),
        # Its names are among those of FiTv2, so it is asked for after that.
        "fitv1": Layout(
            official_name=_fit_name,
            signature=frozenset({"x_embedder.proj.weight", "blocks.0.mlp.fc1_g.weight"}),
            config=_fitv1_config,
        ),
        "ugdc": Layout(
            official_name=_ugdc_name,
            signature=frozenset({"inc.double_conv.0.weight", f"{UGDC_GDCS[0]}.diff"}),
            config=_ugdc_config,
            unused=_ugdc_unused,
        ),
        # Both files of the published code in one, each under its part's name.
        "tml": Layout(
            official_name=_tml_name,
            signature=frozenset({"pm.outc.conv.weight", "em.outc.conv.weight"}),
            config=_tml_config,
            unused=_tml_unused,
        ),
    }
)


def from_official(arch: str, state: Mapping[str, Tensor], **config: Any) -> dict[str, Tensor]:
    """The state dict of our `arch` with the values of an official one.

    config: fields of the network's config dataclass, as for registry.build.
    Raises WeightsMismatch if a key is missing, unknown or of another shape, if a copy differs from
    its original, and for a network without a known official layout.
    """
    if arch not in LAYOUTS:
        raise WeightsMismatch(
            f"no official layout of {arch!r} is known", hint=f"known: {', '.join(sorted(LAYOUTS))}"
        )
    state = _from_tensorflow(state)
    expected = expected_state(arch, config)
    layout = LAYOUTS[arch]
    names = {key: layout.official_name(key, config) for key in expected}
    official = {names[key]: tensor for key, tensor in expected.items()}
    unused = layout.unused(config)
    state = {name: tensor for name, tensor in state.items() if name not in unused}
    state = _under_official_names(_without_repeats(state, layout.repeats(config)), layout)
    check_fit(state, official, source="state dict", layout=f"the official {arch}")
    return {key: state[name] for key, name in names.items()}


def _without_repeats(
    state: Mapping[str, Tensor], repeats: Mapping[str, str | Tensor]
) -> Mapping[str, Tensor]:
    """What remains of `state` when all is left out that must be so anyway."""
    for name, original in repeats.items():
        wanted = state.get(original) if isinstance(original, str) else original
        if name in state and wanted is not None and not _same(state[name], wanted):
            what = original if isinstance(original, str) else "the constant of the published code"
            raise WeightsMismatch(f"{name} differs from {what}, which it must repeat")
    return {name: tensor for name, tensor in state.items() if name not in repeats}


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and bool((first == second).all())


def recognise(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    """The network of an official state dict, and its config as far as shapes tell it.

    Raises WeightsMismatch if no layout has these keys.
    """
    state = _from_tensorflow(state)
    for arch, layout in LAYOUTS.items():
        renamed = _under_official_names(state, layout)
        if layout.signature <= renamed.keys():
            return arch, layout.config(renamed)
    first = ", ".join(list(state)[:3]) or "none"
    raise WeightsMismatch(
        f"no known network has these tensors ({first} ...)",
        hint=f"official files of {', '.join(sorted(LAYOUTS))} are known, and our own",
    )


def _under_official_names(state: Mapping[str, Tensor], layout: Layout) -> Mapping[str, Tensor]:
    if not layout.other_names:
        return state
    parts = {key: key.rpartition(".") for key in state}
    return {
        f"{layout.other_names.get(module, module)}{dot}{leaf}": state[key]
        for key, (module, dot, leaf) in parts.items()
    }


def read_official(path: Path) -> dict[str, Tensor]:
    """The bare state dict of an official file, under its own names; see read.read."""
    return read(path).state
