import json
from functools import partial

import numpy as np
import pytest
from PIL import Image

from tests.cli.invoke import restore, size_of
from tests.report.pages import Elements

compare = partial(restore, "compare")


@pytest.fixture
def folders(tmp_path):
    """Folders before/, after/ and clean/ of two images of 40 x 30 px; the results are better."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        clean = random.integers(60, 190, (30, 40, 3), np.uint8)
        for folder, amount, ending in (
            ("before", 50, ""),
            ("after", 10, "_derained"),
            ("clean", 0, ""),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            levels = clean + random.integers(-amount, amount + 1, clean.shape)
            target = tmp_path / folder / f"{name}{ending}.png"
            Image.fromarray(levels.astype(np.uint8)).save(target)
    return tmp_path


def test_two_folders_become_a_page_with_a_slider_for_each_image(folders):
    target = folders / "page.html"
    result = compare(folders / "before", folders / "after", "-o", target)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{target}\n"
    elements = Elements(target.read_bytes())
    assert len(elements.all("input")) == 2
    assert "PSNR" not in target.read_text()


def test_references_give_scores_and_the_better_mean_is_bold(folders):
    target = folders / "page.html"
    compare(folders / "before", folders / "after", folders / "clean", "-o", target)
    elements = Elements(target.read_bytes())
    expected = rows_of_eval(folders)
    assert elements.bold == [expected["psnr"], expected["ssim"]]
    captions = [each["alt"] for each in elements.all("img") if each["alt"].startswith("Crop")]
    assert [caption.split(":")[1].strip() for caption in captions] == [
        "before",
        "after",
        "reference",
    ] * 2


def rows_of_eval(folders):
    """The means that `restore eval` reports, as the page writes them."""
    result = restore("eval", folders / "after", folders / "clean", "--json")
    means = json.loads(result.stdout.splitlines()[-1])
    return {"psnr": f"{means['psnr']:.2f}", "ssim": f"{means['ssim']:.4f}"}


def test_a_sheet_has_the_images_side_by_side_above_their_crops(folders):
    target = folders / "sheet.png"
    files = [folders / "before/a.png", folders / "after/a_derained.png", folders / "clean/a.png"]
    assert compare(*files, "-o", target).exit_code == 0
    assert size_of(target) == (3 * 40 + 2 * 2, 2 * (30 + 2))
    sheet = np.asarray(Image.open(target))
    assert (sheet[:30, :40] == np.asarray(Image.open(files[0]))).all()
    assert (sheet[:30, 84:] == np.asarray(Image.open(files[2]))).all()


def test_an_image_that_was_enlarged_is_shown_at_its_size(folders):
    Image.open(folders / "after/a_derained.png").resize((80, 60)).save(folders / "x2.png")
    target = folders / "sheet.png"
    compare(folders / "before/a.png", folders / "x2.png", "-o", target)
    assert size_of(target) == (2 * 80 + 2, 2 * (60 + 2))


def test_of_many_images_the_worst_the_median_and_the_best_are_shown(tmp_path):
    for folder, step in (("before", 0), ("after", 3)):
        (tmp_path / folder).mkdir()
        for number in range(13):
            Image.new("RGB", (12, 12), (step * number,) * 3).save(
                tmp_path / folder / f"{number:02}.png"
            )
    compare(tmp_path / "before", tmp_path / "after", "-o", tmp_path / "page.html")
    titles = [
        each["aria-label"] for each in Elements((tmp_path / "page.html").read_bytes()).all("input")
    ]
    assert [title[-6:] for title in titles] == ["00.png", "06.png", "12.png"]


def test_an_image_whose_reference_has_another_size_fails_alone(folders):
    Image.new("RGB", (5, 5)).save(folders / "clean/b.png")
    target = folders / "page.html"
    result = compare(folders / "before", folders / "after", folders / "clean", "-o", target)
    assert result.exit_code == 6
    assert "b_derained.png" in result.stderr
    assert len(Elements(target.read_bytes()).all("input")) == 1


@pytest.mark.parametrize(
    ("output", "code", "said"),
    [
        ("before/a.png", 3, "is a source"),
        ("there.html", 3, "already exists"),
        ("page.txt", 2, "page.txt"),
        ("there.html/page.html", 3, "is not a folder"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_any_work(folders, output, code, said):
    (folders / "there.html").write_text("")
    before = folders / "before"
    result = compare(before / "a.png", folders / "after/a_derained.png", "-o", folders / output)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert size_of(before / "a.png") == (40, 30)


def test_a_file_and_a_folder_are_refused(folders):
    result = compare(folders / "before", folders / "after/a_derained.png", "-o", folders / "p.html")
    assert result.exit_code == 2
