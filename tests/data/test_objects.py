"""The procedural set: one clear thing in each picture."""

import pytest
import torch
from torch import Generator

from restore_cli.data.objects import DRAWERS, draw_object
from restore_cli.metrics.objects import count_objects, foreground

each_class = pytest.mark.parametrize("name", DRAWERS)


def draw(name, side=32, seed=0):
    return draw_object(name, (side, side), Generator().manual_seed(seed))


@each_class
def test_the_same_seed_draws_the_same_picture_and_another_one_another(name):
    assert torch.equal(draw(name), draw(name))
    assert not torch.equal(draw(name), draw(name, seed=1))


@each_class
@pytest.mark.parametrize("side", [24, 32, 64])
def test_a_picture_holds_one_object_of_half_its_width(name, side):
    for seed in range(8):
        picture = draw(name, side, seed)
        assert picture.shape == (3, side, side)
        assert 0 <= picture.min() < picture.max() <= 1
        assert count_objects(picture, trained=side) == (2 if name == "ball" else 1)
        columns = foreground(picture).any(0).nonzero()
        assert 0.25 <= (columns.max() - columns.min() + 1).item() / side <= 0.62


@each_class
def test_the_object_lies_in_the_middle(name):
    rows, columns = foreground(draw(name, 64)).nonzero().float().mean(0)
    assert abs(rows - 32) < 8
    assert abs(columns - 32) < 8


@pytest.mark.parametrize("size", [(20, 44), (44, 20), (24, 40)])
def test_an_object_keeps_its_shape_in_a_picture_of_any_aspect(size):
    picture = draw_object("heart", size, Generator().manual_seed(0))
    assert picture.shape == (3, *size)
    rows, columns = (foreground(picture).any(axis).sum().item() for axis in (1, 0))
    assert abs(rows - columns) <= 2
