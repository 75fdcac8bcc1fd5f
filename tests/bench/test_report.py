import pytest

from restore_cli.bench.report import quality_page, quality_table, speed_page, speed_table
from restore_cli.report.page import render
from tests.report.pages import Elements

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
    "origin": "restore",
    "device": "cpu",
    "per_image": [
        {"image": "img_1", "psnr": 32.455, "ssim": 0.9035, "ms_ssim": None, "seconds": 0.02}
    ],
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
        "origin": "restore",
    }
    assert lines[0][5:] == ["0.8678", "0.9500", "", "0.02", "", "", "baseline"]


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


def bold(page):
    return {
        (table.title, line[0].text, column)
        for table in page.summary
        for line in table.lines
        for column, cell in zip(table.columns, line, strict=True)
        if cell.best
    }


def test_the_best_figure_of_each_column_is_bold_and_a_lone_cost_is_not():
    slower = ROW | {"weights": "b", "psnr": 33.0, "ssim": 0.9, "cpu_seconds_per_megapixel": 9.0}
    slower |= {"megapixels_per_second": 1.7, "peak_memory_mb": None, "ms_ssim": 0.9}
    assert bold(quality_page({}, [ROW, slower], [])) == {
        ("set5 x3, 5 images", "b", "PSNR"),
        ("set5 x3, 5 images", "espcn.x3", "SSIM"),
        ("set5 x3, 5 images", "espcn.x3", "CPU s/Mpx"),  # not bicubic, which has no weights
        ("set5 x3, 5 images", "espcn.x3", "Mpx/s"),  # equal
        ("set5 x3, 5 images", "b", "Mpx/s"),
        ("set5 x3, 5 images", "bicubic", "MS-SSIM"),
    }


def test_weights_of_others_are_named_as_such_in_table_and_chart():
    official = ROW | {"weights": "espcn.paper", "origin": "official layout"}
    page = quality_page({}, [ROW, official], [])
    origins = {line[0].text: line[1].text for line in page.summary[0].lines}
    assert origins == {
        "bicubic": "baseline",
        "espcn.x3": "restore",
        "espcn.paper": "official layout",
    }
    kinds = {point.name: point.kind for point in page.charts[0].points}
    assert kinds == {"espcn.x3": "network", "espcn.paper": "other"}
    assert page.charts[0].level == ("bicubic", 30.388)


def test_costs_on_a_gpu_are_seconds_without_the_baselines_of_the_cpu():
    two = {"bicubic": BICUBIC, "lanczos": BICUBIC}
    page = quality_page({}, [ROW | {"device": "cuda:0", "baseline": two}], [])
    (point,) = page.charts[0].points
    assert point.cost == pytest.approx(1 / 1.7)


def test_an_image_of_a_part_stands_in_the_table_once():
    whole = ROW | {"set": "derain-test", "scale": 1}
    page = quality_page({}, [whole | {"set": "derain-test/irr"}, whole], [])
    assert [[cell.text for cell in line[:2]] for line in page.images.lines] == [
        ["img_1", "derain-test"]
    ]


def test_a_page_of_rows_that_failed_has_no_chart():
    error = {"message": "no memory"}
    failed = ROW | {"psnr": None, "published": None, "baseline": {}, "error": error}
    failed |= {"per_image": [], "device": None, "cpu_seconds_per_megapixel": None}
    page = quality_page({}, [failed], [])
    assert page.charts == []
    assert b"no memory" in render(page)


def test_a_page_of_speeds_has_their_table():
    row = ROW | {"precision": "fp32", "seconds": 1.0, "times_plain": 1.2, "times_plain_cpu": 1.1}
    row |= {"share_of_matrix_peak": 0.5}
    row |= {"baseline": {"plain": {"seconds": 1.2, "peak_memory_mb": 400.0}}}
    html = render(speed_page({"torch": "2.13"}, [row]))
    assert "restore s" in html.decode() and Elements(html).all("table")
