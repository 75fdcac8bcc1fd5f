"""Planes of luma and chroma, and their conversion to RGB and back."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from restore_cli.imaging.colour import luma, rgb_to_ycbcr
from restore_cli.imaging.video.yuv import (
    LEFT,
    Layout,
    Planes,
    from_rgb,
    rotated,
    to_luma,
    to_rgb,
    with_change,
    with_full_chroma,
    with_luma,
)

LAYOUTS = {
    "420": Layout(2, 2, matrix="bt601"),
    "422": Layout(1, 2),
    "444": Layout(1, 1, matrix="bt2020"),
    "full range": Layout(2, 2, full_range=True),
    "10 bit": Layout(2, 2, bits=10),
}
each_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
FULL_CHROMA = Layout(1, 1, matrix="bt601")


def noise(layout, height=9, width=13):
    """Return random levels, including those beyond black and white."""
    most = 1 << layout.bits
    dtype = torch.uint8 if layout.bits == 8 else torch.int32
    chroma = torch.randint(most, (2, *layout.chroma_size(height, width)))
    return Planes(torch.randint(most, (height, width)).to(dtype), chroma.to(dtype), layout)


def flat(layout, luma, blue, red):
    chroma = torch.tensor([blue, red]).view(2, 1, 1).expand(2, *layout.chroma_size(4, 6))
    return Planes(torch.full((4, 6), luma), chroma, layout)


@pytest.mark.parametrize(
    ("layout", "black", "white", "grey"),
    [
        (Layout(), 16, 235, 128),
        (Layout(full_range=True), 0, 255, 128),
        (Layout(bits=10), 64, 940, 512),
    ],
    ids=["studio", "full", "10 bit"],
)
def test_black_and_white_are_where_the_range_puts_them(layout, black, white, grey):
    assert_close(to_rgb(flat(layout, black, grey, grey)), torch.zeros(3, 4, 6))
    assert_close(to_rgb(flat(layout, white, grey, grey)), torch.ones(3, 4, 6))
    assert to_luma(flat(layout, black, grey, grey)).unique() == pytest.approx(16 / 255)
    assert to_luma(flat(layout, white, grey, grey)).unique() == pytest.approx(235 / 255)


@pytest.mark.parametrize(
    ("matrix", "red"),  # ITU-T H.273: luma of pure red in studio range, rounded
    [("bt601", 81), ("bt709", 63), ("bt2020", 74)],
)
def test_each_matrix_has_its_own_red(matrix, red):
    pure = torch.tensor([1.0, 0, 0]).view(3, 1, 1).expand(3, 4, 6)
    planes = from_rgb(pure, Layout(matrix=matrix))
    assert planes.luma.unique().tolist() == [red]
    assert planes.chroma[1].unique().tolist() == [240]


def test_bt601_is_that_of_the_papers():
    rgb = torch.rand(3, 5, 7)
    planes = from_rgb(rgb, FULL_CHROMA)
    ours = torch.cat([planes.luma[None], planes.chroma])
    assert_close(ours.float(), rgb_to_ycbcr(rgb) * 255, atol=0.501, rtol=0)


@each_layout
def test_what_is_not_changed_stays_bit_for_bit(layout):
    planes = noise(layout)
    rgb = to_rgb(planes)
    same = with_change(planes, rgb, rgb.clone())
    assert torch.equal(same.luma, planes.luma)
    assert torch.equal(same.chroma, planes.chroma)


@each_layout
def test_rgb_comes_back_from_planes_to_a_level(layout):
    rows, columns = torch.linspace(0.2, 0.8, 16)[:, None], torch.linspace(0.2, 0.8, 24)
    rgb = torch.stack([rows + 0 * columns, columns + 0 * rows, (rows + columns) / 2])
    inner = (slice(None), slice(4, -4), slice(4, -4))  # beyond the edge chroma has to be guessed
    assert_close(to_rgb(from_rgb(rgb, layout))[inner], rgb[inner], atol=2 / 255, rtol=0)


def test_a_change_of_rgb_arrives_in_the_planes():
    planes = from_rgb(torch.full((3, 8, 8), 0.4), FULL_CHROMA)
    before = to_rgb(planes)
    after = before + torch.tensor([0.1, -0.1, 0.2]).view(3, 1, 1)
    assert_close(to_rgb(with_change(planes, before, after)), after, atol=1.5 / 255, rtol=0)


def test_luma_of_full_range_is_fed_as_studio_range():
    grey = torch.rand(1, 6, 8)
    planes = from_rgb(grey.expand(3, -1, -1), Layout(full_range=True))
    assert_close(to_luma(planes), luma(grey), atol=0.51 / 255, rtol=0)


@each_layout
def test_luma_comes_back_as_it_was_fed(layout):
    planes = noise(layout, 8, 12)
    again = with_luma(planes, to_luma(planes))
    assert torch.equal(again.luma, planes.luma)
    assert torch.equal(again.chroma, planes.chroma)


@pytest.mark.parametrize("size", [(8, 12), (7, 13), (1, 1)], ids=str)
def test_chroma_grows_with_luma_also_to_odd_sizes(size):
    planes = noise(Layout(), *size)
    larger = with_luma(planes, torch.rand(1, 3 * size[0], 3 * size[1]))
    assert larger.luma.shape == (3 * size[0], 3 * size[1])
    assert larger.chroma.shape == (2, -(-3 * size[0] // 2), -(-3 * size[1] // 2))


@pytest.mark.parametrize("width", [16, 17])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_chroma_stays_over_the_luma_that_it_belongs_to(width, scale):
    """Check a gradient of chroma, sampled at the left of each pair of columns."""
    layout = Layout(bits=10)
    columns = layout.chroma_size(8, width)[1]
    slope = 300 + 16 * torch.arange(columns).expand(2, 4, columns)  # 8 levels to a pixel
    planes = Planes(torch.full((8, width), 512), slope, layout)
    larger = with_luma(planes, torch.full((1, 8 * scale, width * scale), 0.5))
    seen = with_full_chroma(larger).chroma[0, 4].float()
    place = (torch.arange(width * scale) + 0.5) / scale - 0.5
    inner = slice(5 * scale, -5 * scale)  # bicubic knows nothing beyond the edge
    assert_close(seen[inner], (300 + 8 * place)[inner], atol=1.1, rtol=0)


def test_without_anchors_chroma_would_be_elsewhere():
    """Check that the test above can fail: half a pixel of 8 levels."""
    assert (0.5 - LEFT) * 16 > 1.1


def test_a_turn_moves_luma_and_chroma_alike():
    planes = noise(Layout(), 8, 12)
    upright = rotated(planes, 1, False)
    assert torch.equal(upright.luma, torch.rot90(planes.luma))
    assert torch.equal(upright.chroma[1], torch.rot90(planes.chroma[1]))
    back = rotated(upright, 3, False)
    assert torch.equal(back.chroma, planes.chroma)


def test_a_mirror_comes_before_the_turn():
    planes = noise(Layout(), 8, 12)
    assert torch.equal(rotated(planes, 1, True).luma, torch.rot90(planes.luma.flip(1)))


def test_a_quarter_turn_of_422_gives_each_pixel_its_chroma():
    planes = noise(Layout(1, 2), 8, 12)
    upright = rotated(planes, 1, False)
    assert upright.layout == replace(planes.layout, down=1, across=1)
    assert upright.chroma.shape == (2, 12, 8)
