import pytest
import torch

from restore_cli.imaging.image import Image, Metadata


def holed(channels=3, height=12, width=10):
    """An image whose left half is hidden."""
    alpha = torch.ones(1, height, width)
    alpha[..., : width // 2] = 0
    return Image(torch.rand(channels, height, width), alpha)


def test_other_pixels_keep_all_else():
    image = Image(torch.rand(3, 4, 5), torch.rand(1, 4, 5), 16, Metadata(icc=b"profile"))
    other = image.with_pixels(torch.zeros(3, 4, 5))
    assert (other.height, other.width, other.bit_depth) == (4, 5, 16)
    assert other.alpha is image.alpha
    assert other.metadata == image.metadata


def test_what_is_visible_stays_as_it_is():
    image = holed()
    found = image.visible_colours().pixels
    assert torch.equal(found[..., 5:], image.pixels[..., 5:])


def test_hidden_colours_do_not_count():
    image = holed()
    other = image.with_pixels(torch.where(image.alpha > 0, image.pixels, torch.rand(3, 12, 10)))
    assert torch.equal(image.visible_colours().pixels, other.visible_colours().pixels)


def test_what_is_hidden_takes_the_one_colour_around_it():
    image = holed()
    image = image.with_pixels(torch.where(image.alpha > 0, 0.25, image.pixels))
    torch.testing.assert_close(image.visible_colours().pixels, torch.full((3, 12, 10), 0.25))


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (3, 200)], ids=str)
def test_what_is_hidden_in_a_thin_image_takes_that_colour_too(size):
    alpha = torch.zeros(1, *size)
    alpha[..., :1, :1] = 1
    filled = Image(0.25 * alpha.expand(3, *size), alpha).visible_colours().pixels
    torch.testing.assert_close(filled, torch.full((3, *size), 0.25))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (33, 64)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_filled_colours_stay_within_what_is_seen(channels, size):
    image = Image(torch.rand(channels, *size), (torch.rand(1, *size) > 0.7).float())
    filled = image.visible_colours().pixels
    assert filled.shape == image.pixels.shape
    assert bool(((filled >= 0) & (filled <= 1)).all())


def test_an_image_of_which_nothing_is_visible_stays_finite():
    image = Image(torch.rand(3, 9, 9), torch.zeros(1, 9, 9))
    assert bool(torch.isfinite(image.visible_colours().pixels).all())


@pytest.mark.parametrize("alpha", [None, torch.ones(1, 12, 10), torch.full((1, 12, 10), 0.1)])
def test_without_hidden_pixels_nothing_is_filled(alpha):
    image = Image(torch.rand(3, 12, 10), alpha)
    assert image.visible_colours() is image


def test_hidden_colours_come_back_unrestored():
    image = holed()
    restored = torch.rand(3, 12, 10)
    kept = image.keep_hidden_colours(restored)
    assert torch.equal(kept[..., :5], image.pixels[..., :5])
    assert torch.equal(kept[..., 5:], restored[..., 5:])


def test_without_alpha_all_that_is_restored_is_kept():
    restored = torch.rand(3, 4, 4)
    assert Image(torch.rand(3, 4, 4)).keep_hidden_colours(restored) is restored
