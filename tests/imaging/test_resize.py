import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from restore_cli.imaging.io import read
from restore_cli.imaging.resize import resize_matlab

DATA = Path(__file__).parents[3] / "shared" / "data"
PUBLISHED = sorted(DATA.glob("set5/x*/HR/*.png")) + sorted(DATA.glob("set14/x*/HR/*.png"))

SIZES = {
    "down": ((7, 13), (3, 5)),
    "up": ((5, 4), (11, 9)),
    "down_and_up": ((33, 6), (8, 30)),
    "up_and_down": ((6, 33), (30, 8)),
    "same_height": ((9, 8), (9, 3)),
    "to_one_pixel": ((6, 7), (1, 1)),
    "from_one_pixel": ((1, 1), (4, 3)),
    "several_blocks": ((4, 150), (4, 200)),
}


def cubic(x):
    """Keys 1981, eq. 15."""
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def resized_row(row, size):
    """imresize in one dimension, sample by sample: 1-based positions as in its source."""
    scale = size / len(row)
    shrink = min(scale, 1)
    out = []
    for x in range(1, size + 1):
        u = x / scale + 0.5 * (1 - 1 / scale)
        reach = range(math.floor(u - 2 / shrink), math.ceil(u + 2 / shrink) + 1)
        weights = [cubic(shrink * (u - i)) for i in reach]
        inputs = [row[min(max(i, 1), len(row)) - 1] for i in reach]
        out.append(sum(w * v for w, v in zip(weights, inputs, strict=True)) / sum(weights))
    return out


def resized_plane(plane, height, width):
    rows = [resized_row(row, width) for row in plane.tolist()]
    columns = [resized_row(column, height) for column in zip(*rows, strict=True)]
    return torch.tensor(columns, dtype=torch.float64).T


@pytest.mark.parametrize("hr", PUBLISHED, ids=lambda path: path.stem.removesuffix("_HR"))
def test_published_low_resolution_files_are_reproduced_exactly(hr):
    lr = read(hr.parent.parent / "LR" / hr.name.replace("_HR", "_LR")).pixels
    made = resize_matlab(read(hr).pixels, *lr.shape[-2:], rounding="uint8")
    assert torch.equal((made * 255).round(), (lr * 255).round())


@pytest.mark.parametrize(("source", "target"), SIZES.values(), ids=SIZES)
def test_it_is_the_formula_of_imresize(source, target):
    plane = torch.rand(source, dtype=torch.float64)
    assert_close(resize_matlab(plane, *target), resized_plane(plane, *target))


@pytest.mark.parametrize("target", [(25, 20), (100, 80), (37, 59)], ids=str)
def test_the_inner_part_equals_antialiased_torch(target):
    x = torch.rand(1, 3, 50, 40, dtype=torch.float64)
    expected = F.interpolate(x, size=target, mode="bicubic", antialias=True)
    inner = (..., slice(8, -8), slice(8, -8))  # torch leaves taps beyond the border out
    assert_close(resize_matlab(x, *target)[inner], expected[inner])


@pytest.mark.parametrize("target", [(2, 1), (7, 13), (64, 129)], ids=str)
def test_a_flat_image_stays_flat(target):
    assert_close(resize_matlab(torch.full((3, 5, 9), 0.3), *target), torch.full((3, *target), 0.3))


def test_the_same_size_is_the_same_image():
    x = torch.rand(3, 7, 13)
    assert torch.equal(resize_matlab(x, 7, 13), x)


def test_a_batch_equals_its_images():
    x = torch.rand(2, 3, 20, 30)
    alone = torch.stack([resize_matlab(image, 10, 10) for image in x])
    assert_close(resize_matlab(x, 10, 10), alone)


def test_uint8_gives_levels_within_the_range():
    checker = (torch.arange(40)[:, None] + torch.arange(40)).remainder(4).div(2).floor()
    levels = resize_matlab(checker, 90, 90, rounding="uint8") * 255
    assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    assert (levels.min().item(), levels.max().item()) == (0, 255)


def test_float_keeps_the_overshoot():
    edge = torch.cat([torch.zeros(8, 4), torch.ones(8, 4)], dim=1)
    assert resize_matlab(edge, 8, 32).max() > 1.01


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("rounding", ["float", "uint8"])
def test_the_type_of_the_pixels_is_kept(dtype, rounding):
    x = torch.rand(3, 6, 6).to(dtype)
    assert resize_matlab(x, 3, 3, rounding=rounding).dtype == dtype


def test_its_input_is_left_alone():
    x = torch.rand(3, 6, 6)
    before = x.clone()
    resize_matlab(x, 6, 6, rounding="uint8").zero_()
    assert torch.equal(x, before)
