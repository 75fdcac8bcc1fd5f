"""Official checkpoints under our names, strict both ways (names: official.py of each paper)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from restore_cli.checkpoints.shapes import check_fit, empty_network
from restore_cli.errors import WeightsMismatch
from restore_cli.networks.layout import Layout
from restore_cli.registry import NETWORKS

if TYPE_CHECKING:
    from torch import Tensor


def _layout(name: str) -> Layout:
    module, attribute = name.split(":")
    layout: Layout = getattr(import_module(module), attribute)
    return layout


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {spec.arch: _layout(spec.official) for spec in NETWORKS.values() if spec.official}
)


def from_official(arch: str, state: Mapping[str, Tensor], **config: Any) -> dict[str, Tensor]:
    """Return the state dict of our `arch` with the values of an official one.

    config: fields of the network's config dataclass, as for registry.build.
    Raises WeightsMismatch if a key is missing, unknown or of another shape, if a copy differs from
    its original, and for a network without a known official layout.
    """
    if arch not in LAYOUTS:
        raise WeightsMismatch(
            f"no official layout of {arch!r} is known", hint=f"known: {', '.join(sorted(LAYOUTS))}"
        )
    layout = LAYOUTS[arch]
    state = layout.convert(state)
    expected = empty_network(arch, config, state).state_dict()
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
    """Return `state` without copies and constants, once they are checked."""
    for name, original in repeats.items():
        wanted = state.get(original) if isinstance(original, str) else original
        if name in state and wanted is not None and not _equal(state[name], wanted):
            what = original if isinstance(original, str) else "the constant of the published code"
            raise WeightsMismatch(f"{name} differs from {what}, which it must repeat")
    return {name: tensor for name, tensor in state.items() if name not in repeats}


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a == b).all())


def is_known(state: Mapping[str, Tensor]) -> bool:
    """Return True if the names are those of an official layout."""
    return next(_matching_layouts(state), None) is not None


def recognise(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    """Return the network of an official state dict, and its config as far as shapes tell.

    Raises WeightsMismatch if no layout has these keys.
    """
    try:
        for arch, layout, renamed in _matching_layouts(state):
            return arch, layout.config(renamed)
    except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
        raise WeightsMismatch(
            f"its tensors have the names of a known network, but other shapes: {error}"
        ) from error
    first = ", ".join(list(state)[:3]) or "none"
    raise WeightsMismatch(
        f"no known network has these tensors ({first} ...)",
        hint=f"official files of {', '.join(sorted(LAYOUTS))} are known, and our own",
    )


def _matching_layouts(
    state: Mapping[str, Tensor],
) -> Iterator[tuple[str, Layout, Mapping[str, Tensor]]]:
    """Yield each network whose layout has these keys, and the state dict under official names."""
    for arch, layout in LAYOUTS.items():
        renamed = _under_official_names(layout.convert(state), layout)
        if layout.signature <= renamed.keys():
            yield arch, layout, renamed


def _under_official_names(state: Mapping[str, Tensor], layout: Layout) -> Mapping[str, Tensor]:
    if not layout.other_names:
        return state
    parts = {key: key.rpartition(".") for key in state}
    return {
        f"{layout.other_names.get(module, module)}{dot}{leaf}": state[key]
        for key, (module, dot, leaf) in parts.items()
    }
