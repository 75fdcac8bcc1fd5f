import re

import pytest

from restore_cli.bench.quality import Comparison
from restore_cli.bench.report import page, quality_table, speed_table
from restore_cli.metrics import Scores

BICUBIC = {"psnr": 30.388, "ssim": 0.86783, "ms_ssim": 0.95, "cpu_seconds_per_megapixel": 0.021}
ROW = {
    "set": "set5",
    "scale": 3,
    "weights": "espcn.x3",
    "protocol": "sr_x3",
    "images": 5,
    "psnr": 32.455,
    "ssim": 0.9035,
    "ms_ssim": None,
    "megapixels_per_second": 1.7,
    "cpu_seconds_per_megapixel": 0.588,
    "peak_memory_mb": 369.4,
    "published": {"psnr": 33.13, "ssim": None, "note": ""},
    "baseline": {"bicubic": BICUBIC},
    "error": None,
}


def test_each_set_has_its_baselines_above_its_rows():
    peer = ROW | {"weights": "span", "psnr": 33.5, "published": None}
    columns, lines = quality_table([ROW, peer])
    assert [line[:5] for line in lines] == [
        ["set5 x3", "sr_x3", "5", "bicubic", "30.39"],
        ["set5 x3", "sr_x3", "5", "espcn.x3", "32.45"],
        ["set5 x3", "sr_x3", "5", "span", "33.50"],
    ]
    assert dict(zip(columns, lines[1], strict=True)) == {
        "set": "set5 x3",
        "protocol": "sr_x3",
        "images": "5",
        "weights": "espcn.x3",
        "PSNR": "32.45",
        "SSIM": "0.9035",
        "MS-SSIM": "",
        "paper": "33.13",
        "CPU s/Mpx": "0.59",
        "Mpx/s": "1.70",
        "MB": "369",
    }
    assert lines[0][5:] == ["0.8678", "0.9500", "", "0.02", "", ""]


def test_rows_of_one_set_stand_together():
    other = ROW | {"set": "rain", "scale": 1, "baseline": {"input": BICUBIC}}
    _, lines = quality_table([ROW, other, ROW | {"weights": "espcn.other"}])
    assert [(line[0], line[3]) for line in lines] == [
        ("set5 x3", "bicubic"),
        ("set5 x3", "espcn.x3"),
        ("set5 x3", "espcn.other"),
        ("rain", "input"),
        ("rain", "espcn.x3"),
    ]


@pytest.mark.parametrize("table", [quality_table, speed_table])
def test_a_row_that_failed_says_why(table):
    error = {"message": "no memory"}
    failed = ROW | {"psnr": None, "published": None, "baseline": {}, "error": error}
    _, (line,) = table([failed])
    assert "no memory" in line


def test_identical_images_are_infinitely_alike():
    _, (_, line) = quality_table([ROW | {"psnr": "inf", "ssim": 1.0}])
    assert line[4:6] == ["inf", "1.0000"]


def test_a_page_needs_no_other_file():
    comparison = Comparison(
        "set5 x3", "img_1", b"png", {"espcn.x3": (b"png", Scores(32.4, 0.9, None))}
    )
    html = page("report", {"restore": "1.2", "gpu": None}, quality_table([ROW]), [comparison])
    assert not re.search(r"(src|href)=\"(?!data:)", html)
    assert html.count("data:image/png;base64,") == 2
    assert "espcn.x3: 32.40 / 0.9000" in html
    assert "<p>restore 1.2</p>" in html


def test_names_are_escaped():
    html = page("report", {}, (["<b>"], [["a & <i>"]]), [])
    assert "&lt;b&gt;" in html and "a &amp; &lt;i&gt;" in html
