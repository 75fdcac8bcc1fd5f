import pytest
import torch
from torch import Generator

from benchmarks.distribution import kernel_distance, pyramid, sliced_wasserstein
from benchmarks.drawn_objects import draw_object


def normal(count, seed, *, mean=0.0):
    return mean + torch.randn(count, 16, generator=Generator().manual_seed(seed))


def hearts(count, seed):
    generator = Generator().manual_seed(seed)
    return torch.stack([draw_object("heart", (32, 32), generator) for _ in range(count)])


def distance(a, b, seed=0):
    return sliced_wasserstein(a, b, Generator().manual_seed(seed))


def plain_kernel_distance(a, b):
    """The formula, term by term."""

    def kernel(x, y):
        return (torch.dot(x, y).item() / len(x) + 1) ** 3

    def within(rows):
        pairs = [(i, j) for i in range(len(rows)) for j in range(len(rows)) if i != j]
        return sum(kernel(rows[i], rows[j]) for i, j in pairs) / len(pairs)

    across = [kernel(x, y) for x in a for y in b]
    return within(a) + within(b) - 2 * sum(across) / len(across)


def test_kid_is_the_mean_discrepancy_of_its_kernel():
    a, b = normal(6, 0), normal(9, 1, mean=0.5)
    assert kernel_distance(a, b)[0] == pytest.approx(plain_kernel_distance(a, b), rel=1e-6)


def test_kid_of_sets_of_one_kind_is_zero_within_its_interval():
    value, half = kernel_distance(normal(200, 0), normal(2000, 1))
    assert abs(value) < half < 0.1


def test_kid_tells_sets_of_two_kinds():
    value, half = kernel_distance(normal(200, 0), normal(2000, 1, mean=0.5))
    assert value > 3 * half


def test_the_interval_of_kid_is_how_far_it_scatters():
    b = normal(500, 1, mean=0.5)
    draws = torch.tensor([kernel_distance(normal(40, seed), b) for seed in range(2, 62)])
    scatter, told = 1.96 * draws[:, 0].std().item(), draws[:, 1].mean().item()
    assert told == pytest.approx(scatter, rel=0.3)


def test_a_pyramid_holds_the_whole_image():
    image = torch.rand(1, 3, 16, 24)
    fine, middle, coarse = pyramid(image)
    assert [part.shape[-2:] for part in (fine, middle, coarse)] == [(16, 24), (8, 12), (4, 6)]

    def grown(part, like):
        return torch.nn.functional.interpolate(part, like.shape[-2:], mode="bilinear")

    torch.testing.assert_close(fine + grown(middle + grown(coarse, middle), fine), image)


def test_patches_of_noisy_and_of_blurred_images_are_farther_than_those_of_others_alike():
    ours, theirs = hearts(40, 0), hearts(40, 1)
    noisy = ours + 0.1 * torch.randn(ours.shape, generator=Generator().manual_seed(2))
    blurred = torch.nn.functional.avg_pool2d(ours, 5, stride=1, padding=2)
    alike = distance(ours, theirs)
    assert distance(noisy, theirs) > 3 * alike
    assert distance(blurred, theirs) > 1.5 * alike


def test_patches_of_sets_of_other_sizes_are_compared():
    assert distance(hearts(8, 0), hearts(40, 1)) < 2 * distance(hearts(8, 2), hearts(8, 3))
