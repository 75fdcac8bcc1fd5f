"""Geometric self-ensemble: the mean over the flips and rotations of an image, each turned back.

Lim et al., Enhanced Deep Residual Networks for Single Image Super-Resolution, CVPR Workshops 2017,
section 3.4.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

ALL = tuple(range(8))
UPRIGHT = (0, 4)  # the image, and its mirror image


def turn(x: Tensor, orientation: int) -> Tensor:
    """Rotate by `orientation` quarter turns, and mirror from 4 on: (..., H, W), 0 to 7."""
    x = x.rot90(orientation % 4, (-2, -1))
    return x.flip(-1) if orientation >= 4 else x


def turn_back(x: Tensor, orientation: int) -> Tensor:
    """Undo `turn`."""
    x = x.flip(-1) if orientation >= 4 else x
    return x.rot90(-(orientation % 4), (-2, -1))


def mean_of_orientations(
    network: Callable[[Tensor], Tensor], x: Tensor, orientations: tuple[int, ...]
) -> Tensor:
    """Return the mean output of a network for an input (B, C, H, W) in all orientations."""
    outputs = (turn_back(network(turn(x, each)), each) for each in orientations)
    total = next(outputs).clone()
    for output in outputs:
        total += output
    return total / len(orientations)
