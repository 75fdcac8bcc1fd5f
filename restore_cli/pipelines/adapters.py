"""How a network wants to be fed, and how its answer becomes a picture again.

An adapter sees the whole picture, before any tile is cut: statistics and colour conversions
computed there do not depend on how the picture is tiled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

from torch import Tensor

from restore_cli.registry import ModelSpec

Finish = Callable[[Tensor], Tensor]


class Adapter(Protocol):
    def __call__(self, pixels: Tensor, spec: ModelSpec) -> tuple[Tensor, Finish]:
        """What the network is fed, (1, spec.channels, H, W), and what makes pixels of its answer.

        pixels: (C, H, W) in [0, 1], C 1 or 3. The answer that `finish` gets is
        (1, spec.channels, spec.scale * H, spec.scale * W); pixels of C channels come back, not
        yet clamped.
        """
        ...


def rgb(pixels: Tensor, spec: ModelSpec) -> tuple[Tensor, Finish]:
    """Colours as they are; a grey picture goes as three equal channels and comes back grey."""
    if pixels.shape[0] == 3:
        return pixels[None], lambda answer: answer[0]
    return pixels.expand(3, -1, -1)[None], lambda answer: answer[0].mean(0, keepdim=True)


ADAPTERS: Mapping[str, Adapter] = MappingProxyType({"rgb": rgb})
