import pytest
import torch
from torch import Generator

from benchmarks.drawn_objects import draw_object, ground
from benchmarks.object_count import areas, count_objects, repetition


def draw(side, seed=0, name="heart"):
    return draw_object(name, (side, side), Generator().manual_seed(seed))


def tiled(rows, columns):
    """Hearts of the trained size, side by side."""
    row = [torch.cat([draw(32, seed) for seed in range(columns)], 2) for _ in range(rows)]
    return torch.cat(row, 1)


def test_parts_are_connected_over_corners():
    mask = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 1]]).bool()
    assert sorted(areas(mask)) == [1, 2, 3]


def test_a_spiral_is_one_part():
    mask = torch.ones(9, 9, dtype=torch.bool)
    mask[1, :8] = mask[2:8, 7] = mask[7, 1:7] = mask[3:7, 1] = mask[3, 2:6] = False
    assert len(areas(mask)) == 1


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 2), (2, 2), (3, 4)])
def test_repeated_objects_are_counted(rows, columns):
    assert count_objects(tiled(rows, columns), trained=32) == rows * columns


def test_a_grown_object_counts_once_and_a_ground_not_at_all():
    assert count_objects(draw(64), trained=32) == 1
    assert count_objects(draw(128), trained=32) == 1
    assert count_objects(ground((64, 64), Generator().manual_seed(0)), trained=32) == 0


def test_repetition_tells_many_from_one():
    many = repetition(tiled(2, 2), trained=32)
    assert many > 2
    assert repetition(draw(64), trained=32) < 0.5 * many
