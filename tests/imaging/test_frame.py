import pytest
import torch

from restore_cli.imaging.frame import inside_frame


def scene(height, width):
    return 0.1 + 0.1 * torch.rand(3, height, width)


@pytest.mark.parametrize("level", [0.0, 2 / 255, 0.5, 1.0])
def test_a_frame_of_any_color_is_found_on_any_side(level):
    pixels = torch.full((3, 60, 80), level)
    pixels[:, 5:50, :] = scene(45, 80)
    assert inside_frame(pixels) == (slice(5, 50), slice(0, 80))
    pixels = torch.full((3, 60, 80), level)
    pixels[:, :, :70] = scene(60, 70)
    assert inside_frame(pixels) == (slice(0, 60), slice(0, 70))


def test_an_image_without_a_frame_is_inside_as_a_whole():
    assert inside_frame(scene(40, 50)) == (slice(0, 40), slice(0, 50))


def test_a_backdrop_around_an_object_is_not_a_frame():
    pixels = torch.full((3, 60, 80), 0.15)
    y, x = torch.meshgrid(torch.arange(60), torch.arange(80), indexing="ij")
    pixels[:, (y - 30) ** 2 + (x - 40) ** 2 < 400] = 0.5
    assert inside_frame(pixels) == (slice(0, 60), slice(0, 80))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (40, 50)], ids=str)
def test_one_color_alone_is_not_a_frame(size):
    assert inside_frame(torch.zeros(3, *size)) == (slice(0, size[0]), slice(0, size[1]))
