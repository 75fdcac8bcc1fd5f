import base64
import io

import pytest
import torch
from PIL import Image

from restore_cli.report.views import (
    CROP,
    LARGEST_SIDE,
    change_of,
    ranked,
    view_of,
    visible_pixels,
    window_of_largest_difference,
)

WORDS = ("worst", "median", "best")


def opened(uri):
    kind, data = uri.split(",")
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([], {}),
        ([3.0], {0: ""}),
        ([3.0, 1.0], {1: "worst", 0: "best"}),
        ([3.0, 1.0, 2.0, 9.0, 8.0], {1: "worst", 0: "median", 3: "best"}),
        ([5.0, float("inf"), 4.0], {2: "worst", 0: "median", 1: "best"}),
    ],
    ids=["none", "one", "two", "five", "identical"],
)
def test_the_worst_the_median_and_the_best_are_chosen(scores, expected):
    assert ranked(scores, WORDS) == expected


def test_of_many_sets_only_the_worst_image_is_chosen():
    assert ranked([3.0, 1.0, 2.0], WORDS, count=1) == {1: "worst"}


def test_a_large_image_is_reduced_and_its_crop_is_not():
    view = view_of(
        "x", "", ("before", torch.zeros(3, 700, 1400)), ("after", torch.ones(3, 1400, 2800))
    )
    assert opened(view.before.uri).size == opened(view.after.uri).size == (LARGEST_SIDE, 640)
    assert [opened(crop.uri).size for crop in view.crops] == [(CROP, CROP)] * 2


def test_a_crop_has_the_pixels_of_the_image():
    after = torch.randint(0, 256, (3, 40, 50)) / 255
    view = view_of("x", "", ("before", torch.zeros(3, 40, 50)), ("after", after), after)
    shown = torch.tensor(list(opened(view.crops[1].uri).convert("RGB").tobytes()))
    assert torch.equal(shown.reshape(40, 50, 3).permute(2, 0, 1), (after * 255).round().long())


def test_a_grey_image_is_shown_beside_a_coloured_one():
    view = view_of("x", "", ("before", torch.zeros(1, 20, 30)), ("after", torch.ones(3, 20, 30)))
    assert opened(view.before.uri).size == (30, 20)


def test_the_crop_lies_where_the_image_is_worst():
    clean = torch.zeros(3, 500, 600)
    degraded = clean.clone()
    degraded[:, 400:420, 300:320] = 1
    top, left = window_of_largest_difference(degraded, clean)
    assert top <= 400 and top + CROP >= 420
    assert left <= 300 and left + CROP >= 320


def test_the_change_of_an_enlarged_image_is_measured_at_its_size():
    assert change_of(torch.full((3, 5, 7), 0.25), torch.full((3, 10, 14), 0.5)) == 0.25


def test_a_transparent_image_is_shown_on_white(tmp_path):
    Image.new("RGBA", (4, 3), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert torch.equal(visible_pixels(tmp_path / "a.png"), torch.ones(3, 3, 4))
