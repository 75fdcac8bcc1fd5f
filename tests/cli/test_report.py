"""`--report` of the commands that restore."""

import numpy as np
import pytest
from PIL import Image

from tests.cli.invoke import restore
from tests.report.pages import Elements


@pytest.fixture
def photos(tmp_path):
    """A folder of three images of 24 x 18 px."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, name in enumerate("abc"):
        levels = np.random.default_rng(seed).integers(0, 256, (18, 24, 3), np.uint8)
        Image.fromarray(levels).save(folder / f"{name}.png")
    return folder


def derain(photos, weights, *options):
    return restore("derain", photos, "-o", photos.parent / "out", "--weights", weights, *options)


def test_a_page_shows_three_images_and_lists_all(photos, random_weights):
    target = photos.parent / "page.html"
    (photos / "d.png").write_bytes(b"")
    result = derain(photos, random_weights, "--report", target)
    assert result.exit_code == 6
    assert str(target) not in result.stdout  # paths of results only
    html, elements = target.read_text(), Elements(target.read_bytes())
    assert len(elements.all("input")) == 3
    assert [html.count(f"{photos / name}.png") for name in "abc"] == [1, 1, 1]
    assert "the file is empty" in html
    assert "random (weight file)" in html
    assert "torch" in html


def test_an_enlarged_image_is_shown_at_the_size_of_the_result(photos, tmp_path):
    target = tmp_path / "page.html"
    result = restore("upscale", photos / "a.png", "-o", tmp_path / "x2.png", "--report", target)
    assert result.exit_code == 0, result.stderr
    assert "espcn.x2 (restore)" in target.read_text()
    assert len(Elements(target.read_bytes()).all("input")) == 1


def test_several_steps_name_all_their_weights(photos, random_weights, tmp_path):
    target = tmp_path / "page.html"
    options = ("--steps", "derain,upscale:2", "--weights", f"derain={random_weights}")
    result = restore(
        "run", photos / "a.png", "-o", tmp_path / "out.png", *options, "--report", target
    )
    assert result.exit_code == 0, result.stderr
    assert "random (weight file)" in target.read_text()
    assert "espcn.x2 (restore)" in target.read_text()


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("page.png", 2, "not an HTML file"),
        ("there.html", 3, "already exists"),
        ("there.html/a.html", 3, "is not a folder"),
    ],
)
def test_a_page_that_cannot_be_written_is_refused_before_any_work(
    photos, random_weights, name, code, said
):
    (photos.parent / "there.html").write_text("")
    result = derain(photos, random_weights, "--report", photos.parent / name)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert not (photos.parent / "out").exists()


def test_a_page_is_replaced_with_overwrite(photos, random_weights):
    target = photos.parent / "page.html"
    target.write_text("")
    assert derain(photos, random_weights, "--report", target, "--overwrite").exit_code == 0
    assert target.read_text() != ""


def test_a_plan_writes_no_page(photos, random_weights):
    target = photos.parent / "page.html"
    derain(photos, random_weights, "--report", target, "--dry-run")
    assert not target.exists()
