"""Drawn objects: one in each image."""

import pytest
import torch
from torch import Generator

from benchmarks.drawn_objects import DRAWERS, draw_object
from benchmarks.object_count import count_objects, foreground

each_class = pytest.mark.parametrize("name", DRAWERS)


def draw(name, side=32, seed=0):
    return draw_object(name, (side, side), Generator().manual_seed(seed))


@each_class
def test_the_same_seed_draws_the_same_image_and_another_one_another(name):
    assert torch.equal(draw(name), draw(name))
    assert not torch.equal(draw(name), draw(name, seed=1))


@each_class
@pytest.mark.parametrize("side", [24, 32, 64])
def test_an_image_holds_one_object_of_half_its_width(name, side):
    for seed in range(8):
        image = draw(name, side, seed)
        assert image.shape == (3, side, side)
        assert 0 <= image.min() < image.max() <= 1
        assert count_objects(image, trained=side) == (2 if name == "ball" else 1)
        columns = foreground(image).any(0).nonzero()
        assert 0.25 <= (columns.max() - columns.min() + 1).item() / side <= 0.62


@each_class
def test_the_object_lies_in_the_middle(name):
    rows, columns = foreground(draw(name, 64)).nonzero().float().mean(0)
    assert abs(rows - 32) < 8
    assert abs(columns - 32) < 8


@pytest.mark.parametrize("size", [(20, 44), (44, 20), (24, 40)])
def test_an_object_keeps_its_shape_in_an_image_of_any_aspect(size):
    image = draw_object("heart", size, Generator().manual_seed(0))
    assert image.shape == (3, *size)
    rows, columns = (foreground(image).any(axis).sum().item() for axis in (1, 0))
    assert abs(rows - columns) <= 2
