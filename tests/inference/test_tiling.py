import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from restore_cli.inference.tiling import (
    blend_in,
    cut,
    fade_window,
    kept,
    pad_to_multiple,
    plan_axis,
    plan_tiles,
)

sizes = st.integers(1, 40)
tiles = st.none() | st.integers(1, 50)
overlaps = st.integers(0, 20)
multiples = st.sampled_from([1, 2, 3, 8])


@st.composite
def axes(draw):
    """Whatever an image and a user may ask of one axis: (size, tile, overlap, blend, multiple)."""
    multiple = draw(multiples)
    size = draw(st.integers(1, 60)) * multiple
    return size, draw(tiles), draw(overlaps), draw(overlaps), multiple


@given(axes(), st.integers(1, 4))
def test_windows_sum_to_one_everywhere(axis, scale):
    size = axis[0]
    total = torch.zeros(size * scale)
    for span in plan_axis(*axis):
        total[span.keep_start * scale : span.keep_stop * scale] += fade_window(span, scale)
    assert_close(total, torch.ones(size * scale), atol=1e-6, rtol=0)


@given(axes())
def test_what_is_read_lies_on_the_grid_of_the_network(axis):
    size, *_, multiple = axis
    for span in plan_axis(*axis):
        assert 0 <= span.start < span.stop <= size
        assert span.start % multiple == span.stop % multiple == 0


@given(axes())
def test_what_is_kept_without_a_fade_has_the_whole_overlap_or_ends_at_the_border(axis):
    size, tile, overlap, _, multiple = axis
    for span in plan_axis(size, tile, overlap, 0, multiple):
        assert span.start == 0 or span.keep_start - span.start >= overlap
        assert span.stop == size or span.stop - span.keep_stop >= overlap


@given(axes())
def test_no_core_is_longer_than_the_tile(axis):
    size, tile, overlap, _, multiple = axis
    longest = max(multiple, tile or size)
    for span in plan_axis(size, tile, overlap, 0, multiple):
        assert span.keep_stop - span.keep_start <= longest


@given(axes())
def test_what_is_kept_was_read(axis):
    for span in plan_axis(*axis):
        assert span.start <= span.keep_start < span.keep_stop <= span.stop


@given(sizes, sizes, tiles, overlaps, overlaps, multiples, st.integers(1, 3))
def test_tiles_of_an_enlarging_network_make_the_enlarged_image(
    height, width, tile, overlap, blend, multiple, scale
):
    def enlarge(image):
        return image.repeat_interleave(scale, -1).repeat_interleave(scale, -2)

    image = pad_to_multiple(torch.rand(1, 3, height, width), multiple)
    result = torch.zeros_like(enlarge(image))
    for row, column in plan_tiles(
        *image.shape[-2:], tile=tile, overlap=overlap, blend=blend, multiple=multiple
    ):
        answer = enlarge(cut(image, row, column))
        blend_in(result, kept(answer, row, column, scale), row, column, scale)
    assert_close(result, enlarge(image), atol=1e-6, rtol=0)


def test_what_is_kept_has_context_on_each_interior_side():
    first, second = plan_axis(200, 100, 30, 0)
    assert (first.start, first.stop, first.keep_stop) == (0, 130, 100)
    assert (second.start, second.keep_start, second.stop) == (70, 100, 200)


def test_a_fade_is_centred_on_the_border_between_two_cores():
    first, second = plan_axis(200, 100, 30, 20)
    assert (first.keep_stop, first.fade_out) == (110, 20)
    assert (second.keep_start, second.fade_in) == (90, 20)
    assert fade_window(second)[:20].diff().min() > 0


def test_no_tile_size_means_one_tile():
    assert len(plan_tiles(33, 91, tile=None, overlap=64, blend=32)) == 1


def test_padding_reflects_about_the_border_pixel():
    row = torch.tensor([[[[1.0, 2.0, 3.0, 4.0, 5.0]]]])
    assert pad_to_multiple(row, 4)[0, 0, 0].tolist() == [1, 2, 3, 4, 5, 4, 3, 2]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (4, 3)])
def test_an_image_too_small_to_reflect_is_padded_to_the_multiple(size):
    image = torch.rand(1, 3, *size)
    padded = pad_to_multiple(image, 8)
    assert padded.shape[-2] % 8 == padded.shape[-1] % 8 == 0
    assert torch.equal(padded[..., : size[0], : size[1]], image)


def test_padding_repeats_the_end_of_the_reflection():
    row = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    assert pad_to_multiple(row, 8)[0, 0, 0].tolist() == [1, 2, 3, 2, 1, 1, 1, 1]


@given(sizes, sizes)
def test_a_image_that_fits_is_not_copied(height, width):
    image = torch.rand(1, 3, 8 * height, 8 * width)
    assert pad_to_multiple(image, 8) is image
