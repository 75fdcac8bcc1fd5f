import math
from itertools import pairwise

import pytest

from restore_cli.report.page import (
    MOST_LINES,
    WIDTH,
    Cell,
    Chart,
    Point,
    Table,
    circumstances,
    plot,
    render,
)
from tests.report.pages import Elements, small_page


def test_a_page_refers_to_no_other_file():
    elements = Elements(render(small_page()))
    addresses = [each.get("src") or each.get("href") for _, each in elements.found]
    addresses = [address for address in addresses if address is not None]
    assert len(addresses) == 6  # before, after, three crops, and no icon
    assert all(address.startswith("data:") for address in addresses)


def test_the_best_figure_is_bold():
    assert Elements(render(small_page())).bold == ["36.61"]


def test_each_image_and_the_slider_have_a_name():
    elements = Elements(render(small_page()))
    assert all(image["alt"] for image in elements.all("img"))
    (slider,) = elements.all("input")
    assert slider["type"] == "range" and "b.png" in slider["aria-label"]


def test_names_are_escaped():
    table = Table("<script>", ("<b>",), [[Cell("a & <i>")]])
    html = render(small_page(title="<title>", summary=[table])).decode()
    assert "<i>" not in html and "a &amp; &lt;i&gt;" in html
    assert html.count("<script>") == 1  # its own


def test_a_file_name_that_is_no_text_is_written_with_an_escape():
    table = Table("Images", ("image",), [[Cell("caf\udce9.png")]])
    assert b"caf\\udce9.png" in render(small_page(images=table))


def test_infinity_is_sorted_as_a_number():
    table = Table("Images", ("PSNR",), [[Cell("inf", math.inf)]])
    assert b'data-value="Infinity"' in render(small_page(images=table))


def test_a_long_table_is_cut_and_says_so():
    table = Table("Images", ("image",), [[Cell(str(index))] for index in range(MOST_LINES + 1)])
    html = render(small_page(images=table)).decode()
    assert html.count("<tr>") < MOST_LINES + 10
    assert f"The first {MOST_LINES} of {MOST_LINES + 1} lines" in html


def test_the_circumstances_name_command_date_version_and_machine(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/bin/restore", "derain", "my photos/"])
    facts = circumstances("1.2", {"torch": "2.13", "gpu": None})
    assert facts.pop("date").startswith("20")
    assert facts == {"command": "restore derain 'my photos/'", "restore": "1.2", "torch": "2.13"}


def chart(*points, level=None):
    named = [Point(f"n{index}", *point, "network") for index, point in enumerate(points)]
    return Chart("set", "s", "dB", tuple(named), level)


def test_a_dearer_and_a_better_point_lie_to_the_right_and_above():
    placed = {each.point.name: each for each in plot(chart((0.1, 30.0), (1.0, 33.0))).placed}
    assert placed["n1"].x > placed["n0"].x
    assert placed["n1"].y < placed["n0"].y


@pytest.mark.parametrize(
    "points",
    [[(0.1, 30.0)], [(0.1, 30.0), (0.1, 30.0)], [(1e-4, 20.0), (900.0, 48.0)]],
    ids=["one", "equal", "far apart"],
)
def test_points_and_ticks_lie_inside_the_chart(points):
    plotted = plot(chart(*points, level=("input", 25.0)))
    assert all(0 < each.x < WIDTH for each in plotted.placed)
    assert all(0 < x < WIDTH for x, _ in plotted.cost_ticks)
    assert plotted.cost_ticks and len(plotted.quality_ticks) >= 2
    heights = [y for y, _ in plotted.quality_ticks]
    assert all(min(heights) <= each.y <= max(heights) for each in plotted.placed)
    assert min(heights) <= plotted.level <= max(heights)


def test_labels_of_equal_points_do_not_lie_on_each_other():
    heights = sorted(each.label_y for each in plot(chart(*[(0.1, 30.0)] * 3)).placed)
    assert all(below - above >= 14 for above, below in pairwise(heights))
