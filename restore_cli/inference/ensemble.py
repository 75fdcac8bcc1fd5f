"""Geometric self-ensemble: the mean over the flips and rotations of an image, each turned back.

Lim et al., Enhanced Deep Residual Networks for Single Image Super-Resolution, CVPR Workshops 2017,
section 3.4.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from restore_cli.imaging.orientations import turned, turned_back

ALL = tuple(range(8))
UPRIGHT = (0, 4)  # the image, and its mirror image


def mean_of_orientations(
    network: Callable[[Tensor], Tensor], x: Tensor, orientations: tuple[int, ...]
) -> Tensor:
    """Return the mean output of a network for an input (B, C, H, W) in all orientations."""
    outputs = (turned_back(network(turned(x, each)), each) for each in orientations)
    total = next(outputs).clone()
    for output in outputs:
        total += output
    return total / len(orientations)
