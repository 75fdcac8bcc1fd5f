"""The eight flips and rotations of an image by right angles, numbered 0 to 7."""

from __future__ import annotations

from torch import Tensor


def turned(x: Tensor, orientation: int) -> Tensor:
    """Rotate (..., H, W) by `orientation` quarter turns, and mirror it from 4 on."""
    x = x.rot90(orientation % 4, (-2, -1))
    return x.flip(-1) if orientation >= 4 else x


def turned_back(x: Tensor, orientation: int) -> Tensor:
    """Undo `turned`."""
    x = x.flip(-1) if orientation >= 4 else x
    return x.rot90(-(orientation % 4), (-2, -1))
