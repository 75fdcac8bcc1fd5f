"""Pixels that are read by rows, whether a tensor holds them or a file does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from restore_cli.imaging.canvas import MEMORY, Storage

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STRIP = 64  # rows worked on at a time, which stay in the caches of a CPU
ON_DEVICE = 1 << 22  # pixels worked on at a time on a GPU, which wants few large operations


def strip_rows(device: torch.device, width: int) -> int:
    """Return the rows to be worked on at a time."""
    return STRIP if device.type == "cpu" else max(STRIP, ON_DEVICE // width)


def new_planes(storage: Storage, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return float32 planes to be filled: on a device, unless a storage other than memory is."""
    import torch

    if storage is MEMORY:
        return torch.empty(shape, device=device)
    return torch.from_numpy(storage.new(shape, np.float32))


@dataclass(frozen=True)
class Planes:
    """Pixels (channels, height, width); `read` returns the rows from top to bottom."""

    shape: tuple[int, int, int]
    read: Callable[[int, int], Tensor]
    release: Callable[[], None] = lambda: None  # take what was read out of memory

    @staticmethod
    def of(pixels: Tensor | Planes) -> Planes:
        """Return the planes of a tensor (C, H, W)."""
        if isinstance(pixels, Planes):
            return pixels
        channels, height, width = pixels.shape
        return Planes((channels, height, width), lambda top, bottom: pixels[:, top:bottom])

    @property
    def height(self) -> int:
        return self.shape[1]

    @property
    def width(self) -> int:
        return self.shape[2]

    @property
    def device(self) -> torch.device:
        """Device on which rows are read."""
        return self.read(0, 1).device

    def inside(self, rows: slice, columns: slice) -> Planes:
        """Return a part of the planes."""
        shape = (self.shape[0], rows.stop - rows.start, columns.stop - columns.start)
        return Planes(
            shape,
            lambda top, bottom: self.read(rows.start + top, rows.start + bottom)[..., columns],
            self.release,
        )

    def spans(self) -> Iterator[tuple[int, int]]:
        """Yield the rows of each strip, (top, bottom); release the pixels after each."""
        step = strip_rows(self.device, self.width)
        for top in range(0, self.height, step):
            yield top, min(top + step, self.height)
            self.release()

    def strips(self) -> Iterator[Tensor]:
        """Yield the pixels of each strip, top to bottom."""
        return (self.read(*span) for span in self.spans())

    def sampled(self, step: int, rows: int) -> Tensor:
        """Return `rows` neighbouring rows at each step that has them all, (C, steps, rows, W)."""
        import torch

        starts = range(0, self.height - rows + 1, step)
        return torch.stack([self.read(start, start + rows) for start in starts], dim=1)
