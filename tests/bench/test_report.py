import re

import pytest

from restore_cli.bench.quality import Shot
from restore_cli.bench.report import page, quality_table, speed_table
from restore_cli.metrics import Scores

ROW = {
    "set": "set5",
    "scale": 3,
    "weights": "espcn.x3",
    "protocol": "sr_x3",
    "images": 5,
    "psnr": 32.455,
    "ssim": 0.9035,
    "megapixels_per_second": 1.7,
    "peak_memory_mb": 369.4,
    "published": {"psnr": 33.13, "ssim": None, "note": ""},
    "baseline": {"bicubic": {"psnr": 30.388, "ssim": 0.86783}},
    "error": None,
}


def test_a_line_has_the_baseline_ours_and_the_paper():
    columns, (line,) = quality_table([ROW])
    assert dict(zip(columns, line, strict=True)) == {
        "set": "set5 x3",
        "weights": "espcn.x3",
        "protocol": "sr_x3",
        "images": "5",
        "bicubic": "30.39 / 0.8678",
        "ours": "32.45 / 0.9035",
        "paper": "33.13",
        "Mpx/s": "1.70",
        "MB": "369",
    }


def test_baselines_of_other_tasks_leave_their_cells_empty():
    other = ROW | {"set": "rain", "scale": 1, "baseline": {"input": {"psnr": 20, "ssim": 0.5}}}
    columns, lines = quality_table([ROW, other])
    assert columns[4:6] == ["bicubic", "input"]
    assert [line[4:6] for line in lines] == [["30.39 / 0.8678", ""], ["", "20.00 / 0.5000"]]


@pytest.mark.parametrize("table", [quality_table, speed_table])
def test_a_row_that_failed_says_why(table):
    failed = ROW | {"psnr": None, "published": None, "error": {"message": "no memory"}}
    _, (line,) = table([failed])
    assert "no memory" in line


def test_identical_pictures_are_infinitely_alike():
    _, (line,) = quality_table([ROW | {"psnr": "inf", "ssim": 1.0}])
    assert "inf / 1.0000" in line


def test_a_page_needs_no_other_file():
    shot = Shot("set5 x3", "img_1", b"png", {"espcn.x3": (b"png", Scores(32.4, 0.9, None))})
    html = page("report", {"restore": "1.2", "gpu": None}, quality_table([ROW]), [shot])
    assert not re.search(r"(src|href)=\"(?!data:)", html)
    assert html.count("data:image/png;base64,") == 2
    assert "espcn.x3: 32.40 / 0.9000" in html
    assert "<p>restore 1.2</p>" in html


def test_names_are_escaped():
    html = page("report", {}, (["<b>"], [["a & <i>"]]), [])
    assert "&lt;b&gt;" in html and "a &amp; &lt;i&gt;" in html
