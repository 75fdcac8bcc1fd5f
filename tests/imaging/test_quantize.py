import numpy as np
import pytest
import torch

from restore_cli.errors import ImageTooLarge
from restore_cli.imaging import quantize as module
from restore_cli.imaging.headers import refuse_giant
from restore_cli.imaging.image import Image
from restore_cli.imaging.quantize import Decoded, quantize, strips, to_image
from tests.imaging.images import noise

# Where the first pixel of the file belongs in the upright image, and which way its row then runs.
FIRST_ROW = {
    1: ("top left", "right"),
    2: ("top right", "left"),
    3: ("bottom right", "left"),
    4: ("bottom left", "right"),
    5: ("top left", "down"),
    6: ("top right", "down"),
    7: ("bottom right", "up"),
    8: ("bottom left", "up"),
}
CORNERS = {
    "top left": (0, 0),
    "top right": (0, -1),
    "bottom left": (-1, 0),
    "bottom right": (-1, -1),
}
STEPS = {"right": (0, 1), "left": (0, -1), "down": (1, 0), "up": (-1, 0)}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_puts_the_first_row_where_exif_says(orientation):
    levels = noise(3, 5, 1)
    pixels = to_image(Decoded(levels, orientation=orientation)).pixels[0]
    corner, way = FIRST_ROW[orientation]
    (row, column), (down, right) = CORNERS[corner], STEPS[way]
    row, column = row % pixels.shape[0], column % pixels.shape[1]
    found = [pixels[row + i * down, column + i * right].item() * 255 for i in range(5)]
    np.testing.assert_allclose(found, levels[0, :, 0], atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "colours", "alpha"), [(1, 1, False), (2, 1, True), (3, 3, False), (4, 3, True)]
)
def test_an_even_number_of_channels_ends_with_alpha(channels, colours, alpha):
    image = to_image(Decoded(noise(4, 6, channels)))
    assert image.pixels.shape == (colours, 4, 6)
    assert (image.alpha is not None) == alpha


@pytest.mark.parametrize(("largest", "depth"), [(1, 8), (255, 8), (1023, 16), (65535, 16)])
def test_the_largest_level_means_one(largest, depth):
    image = to_image(Decoded(np.array([[[0], [largest]]], np.uint16), largest))
    assert image.pixels.flatten().tolist() == [0.0, 1.0]
    assert image.bit_depth == depth


def test_colours_that_alpha_was_multiplied_into_come_out_whole():
    stored = Decoded(np.array([[[64, 128], [200, 100], [7, 0]]], np.uint8), premultiplied=True)
    image = to_image(stored).as_tensors()
    torch.testing.assert_close(image.pixels.flatten()[:2], torch.tensor([0.5, 1.0]))
    assert float(image.pixels.max()) <= 1


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_nothing_is_no_image(size):
    with pytest.raises(ValueError, match="pixels"):
        refuse_giant(*size)


def test_the_largest_image_is_just_not_a_giant():
    refuse_giant(20_000, 25_000)
    with pytest.raises(ImageTooLarge, match="the limit is 500,000,000"):
        refuse_giant(20_000, 25_001)


@pytest.mark.parametrize("depth", [8, 16])
def test_strips_together_are_the_whole(depth, monkeypatch):
    image = to_image(Decoded(noise(11, 7, 4, depth), 2**depth - 1))
    monkeypatch.setattr(module, "STRIP", 20)
    parts = list(strips((image,), depth))
    assert [len(part) for part in parts] == [2, 2, 2, 2, 2, 1]
    assert np.array_equal(np.concatenate(parts), noise(11, 7, 4, depth))
    assert np.array_equal(quantize(image, depth), noise(11, 7, 4, depth))


def test_a_row_longer_than_a_strip_is_a_strip(monkeypatch):
    monkeypatch.setattr(module, "STRIP", 4)
    assert [part.shape for part in strips((Image(torch.zeros(1, 2, 9)),), 8)] == [(1, 9, 1)] * 2


def test_on_white_the_hidden_becomes_white():
    image = Image(torch.zeros(3, 1, 3), torch.tensor([[[0.0, 0.6, 1.0]]]))
    assert quantize(image, 8, on_white=True)[0, :, 0].tolist() == [255, 102, 0]


def test_what_inference_mode_made_can_be_turned_into_levels():
    with torch.inference_mode():
        image = Image(torch.full((3, 2, 2), 0.5))
    assert quantize(image, 8).tolist() == [[[128] * 3] * 2] * 2
