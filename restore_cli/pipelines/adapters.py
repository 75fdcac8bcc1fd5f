"""How a network wants to be fed, and how its answer becomes a picture again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

Finish = Callable[[Tensor], Tensor]
Adapter = Callable[[Tensor], tuple[Tensor, Finish]]


def rgb(pixels: Tensor) -> tuple[Tensor, Finish]:
    """(C, H, W) -> (1, 3, H, W); a grey picture goes as three channels, returns grey."""
    if pixels.shape[0] == 3:
        return pixels[None], lambda result: result[0]
    return pixels.expand(3, -1, -1)[None], lambda result: result[0].mean(0, keepdim=True)


ADAPTERS: Mapping[str, Adapter] = MappingProxyType({"rgb": rgb})
