"""How far the images of one set, as a whole, are from those of another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

PATCH = 7  # pixels along a side
LEVELS = 3  # of the pyramid
PATCHES = 64  # of an image, at each level
DIRECTIONS = 128


def kernel_distance(a: Tensor, b: Tensor) -> tuple[float, float]:
    """KID of two sets of features (N, D), (M, D), and half of its 95 % interval.

    Binkowski et al. 2018, sec. 4: the squared maximum mean discrepancy of the kernel
    (x y / D + 1)^3 without bias, so that sets of one kind have 0 in the mean and it may well be
    negative. The interval: of leaving out each of `a` in turn (jackknife), `b` taken as it is; of
    sets of one kind it is half as wide again as it should be.
    """
    a, b = a.double(), b.double()
    width = a.shape[1]

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / width + 1) ** 3

    own, other, across = kernel(a, a), kernel(b, b), kernel(a, b).mean(1)
    own.fill_diagonal_(0)
    other.fill_diagonal_(0)
    n, m = len(a), len(b)
    apart = other.sum() / (m * (m - 1))

    def discrepancy(within: Tensor, between: Tensor, n: int) -> Tensor:
        return within / (n * (n - 1)) + apart - 2 * between / n

    whole = discrepancy(own.sum(), across.sum(), n)
    without = discrepancy(own.sum() - 2 * own.sum(1), across.sum() - across, n - 1)
    variance = (n - 1) / n * (without - without.mean()).square().sum()
    return whole.item(), 1.96 * variance.sqrt().item()


def sliced_wasserstein(a: Tensor, b: Tensor, generator: Generator) -> float:
    """The distance of the patches in two sets of images (N, 3, H, W), in thousandths.

    Karras et al. 2018, sec. 5: 7x7 patches of a Laplacian pyramid of three levels, each channel
    with mean 0 and deviation 1 by the second set; the mean over levels of the distance of what they
    cast on random directions. It tells blur and noise from texture, not where things are.
    """
    distances = []
    for one, other in zip(pyramid(a), pyramid(b), strict=True):
        mean = other.mean((0, 2, 3), keepdim=True)
        deviation = other.std((0, 2, 3), keepdim=True).clamp(min=1e-6)
        ours, theirs = (_patches((level - mean) / deviation, generator) for level in (one, other))
        directions = F.normalize(torch.randn(ours.shape[1], DIRECTIONS, generator=generator), dim=0)
        shares = torch.linspace(0, 1, min(len(ours), len(theirs)))
        cast = [torch.quantile(part @ directions, shares, dim=0) for part in (ours, theirs)]
        distances.append((cast[0] - cast[1]).abs().mean())
    return 1000 * torch.stack(distances).mean().item()


def pyramid(images: Tensor) -> list[Tensor]:
    """What each halving takes away, and what is left: LEVELS of them, the finest first."""
    levels = []
    for _ in range(LEVELS - 1):
        smaller = F.avg_pool2d(images, 2)
        larger = F.interpolate(smaller, images.shape[-2:], mode="bilinear", align_corners=False)
        levels.append(images - larger)
        images = smaller
    return [*levels, images]


def _patches(images: Tensor, generator: Generator) -> Tensor:
    """PATCHES of each image at random places, (N PATCHES, 3 * 49)."""
    places = (side - PATCH + 1 for side in images.shape[-2:])
    rows, columns = (
        torch.randint(count, (len(images), PATCHES), generator=generator) for count in places
    )
    seen = images.unfold(2, PATCH, 1).unfold(3, PATCH, 1)  # a view, (N, 3, rows, columns, 7, 7)
    each = torch.arange(len(images))[:, None].expand(-1, PATCHES)
    return seen[each, :, rows, columns].flatten(0, 1).flatten(1)
