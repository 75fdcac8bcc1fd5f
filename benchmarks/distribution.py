"""Distances between two sets of images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

PATCH = 7  # pixels along a side
LEVELS = 3  # of the pyramid
PATCHES = 64  # per image and level
DIRECTIONS = 128


def kernel_distance(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Return the KID of two sets of features (N, D), (M, D), and half of its 95 % interval.

    Binkowski et al. 2018, sec. 4: the unbiased squared maximum mean discrepancy of the kernel
    (x y / D + 1)^3. Sets of one distribution have a mean of 0, so it may be negative. The interval
    is a jackknife over `a`, with `b` fixed; for sets of one distribution it is 1.5 times too wide.
    """
    a, b = a.double(), b.double()
    width = a.shape[1]

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / width + 1) ** 3

    own, other, across = kernel(a, a), kernel(b, b), kernel(a, b).mean(1)
    own.fill_diagonal_(0)
    other.fill_diagonal_(0)
    n, m = len(a), len(b)
    between_b = other.sum() / (m * (m - 1))

    def discrepancy(within: Tensor, between: Tensor, n: int) -> Tensor:
        return within / (n * (n - 1)) + between_b - 2 * between / n

    whole = discrepancy(own.sum(), across.sum(), n)
    without = discrepancy(own.sum() - 2 * own.sum(1), across.sum() - across, n - 1)
    variance = (n - 1) / n * (without - without.mean()).square().sum()
    return whole.item(), 1.96 * variance.sqrt().item()


def sliced_wasserstein(a: Tensor, b: Tensor, generator: Generator) -> float:
    """Return the sliced Wasserstein distance of patches of two sets (N, 3, H, W), in thousandths.

    Karras et al. 2018, sec. 5: 7x7 patches of a Laplacian pyramid of three levels, each channel
    standardized by the second set; the mean over levels of the distance of their projections on
    random directions. It measures blur, noise and texture, not positions.
    """
    distances = []
    for one, other in zip(pyramid(a), pyramid(b), strict=True):
        mean = other.mean((0, 2, 3), keepdim=True)
        std = other.std((0, 2, 3), keepdim=True).clamp(min=1e-6)
        ours, theirs = (_patches((level - mean) / std, generator) for level in (one, other))
        directions = F.normalize(torch.randn(ours.shape[1], DIRECTIONS, generator=generator), dim=0)
        shares = torch.linspace(0, 1, min(len(ours), len(theirs)))
        projected = [torch.quantile(part @ directions, shares, dim=0) for part in (ours, theirs)]
        distances.append((projected[0] - projected[1]).abs().mean())
    return 1000 * torch.stack(distances).mean().item()


def pyramid(images: Tensor) -> list[Tensor]:
    """Return the Laplacian pyramid of LEVELS levels, the finest first."""
    levels = []
    for _ in range(LEVELS - 1):
        smaller = F.avg_pool2d(images, 2)
        larger = F.interpolate(smaller, images.shape[-2:], mode="bilinear", align_corners=False)
        levels.append(images - larger)
        images = smaller
    return [*levels, images]


def _patches(images: Tensor, generator: Generator) -> Tensor:
    """Return PATCHES of each image at random positions, (N PATCHES, 3 * 49)."""
    places = (side - PATCH + 1 for side in images.shape[-2:])
    rows, columns = (
        torch.randint(count, (len(images), PATCHES), generator=generator) for count in places
    )
    windows = images.unfold(2, PATCH, 1).unfold(3, PATCH, 1)  # a view, (N, 3, rows, columns, 7, 7)
    each = torch.arange(len(images))[:, None].expand(-1, PATCHES)
    return windows[each, :, rows, columns].flatten(0, 1).flatten(1)
