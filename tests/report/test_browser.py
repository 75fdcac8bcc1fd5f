"""A page in Chromium."""

import io

import pytest
from PIL import Image

from restore_cli.report.page import render
from tests.report.pages import small_page


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a page; at the end it has asked for no other file, and reported no error."""
    faults = []
    contexts = []

    def on_request(request):
        if not request.url.startswith(("data:", "file:///")):
            faults.append(request.url)

    def open_page(page=None, **options):
        target = tmp_path / "page.html"
        target.write_bytes(render(small_page() if page is None else page))
        contexts.append(browser.new_context(**options))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: faults.append(message.text))
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("request", on_request)
        tab.goto(target.as_uri())
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def names(tab):
    return tab.locator(".sortable tbody td:first-child").all_inner_texts()


def visible_share(tab):
    return tab.locator(".slider").evaluate("slider => slider.style.getPropertyValue('--cut')")


def test_the_slider_follows_the_mouse(opened):
    tab = opened()
    slider = tab.locator(".slider input")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    tab.mouse.move(box["x"] + 0.5 * box["width"], middle)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.9 * box["width"], middle)
    tab.mouse.up()
    assert 80 < float(visible_share(tab).rstrip("%")) <= 100


def test_the_slider_follows_the_keys_and_tells_its_value(opened):
    tab = opened()
    slider = tab.locator(".slider input")
    slider.focus()
    slider.press("End")
    assert visible_share(tab) == "100%"
    assert slider.get_attribute("aria-valuetext") == "100 % before"
    slider.press("Home")
    assert visible_share(tab) == "0%"


def colour_at(tab, share):
    """The colour of the slider at a share of its width, by a screenshot."""
    shot = Image.open(io.BytesIO(tab.locator(".slider").screenshot()))
    return shot.convert("L").getpixel((int(share * shot.width), shot.height // 4))


def test_the_image_before_is_left_of_the_edge_and_the_other_one_right(opened):
    tab = opened()
    assert colour_at(tab, 0.25) < 20 and colour_at(tab, 0.75) > 235  # black before, white after
    tab.locator(".slider input").fill("100")
    assert colour_at(tab, 0.75) < 20


def test_a_heading_sorts_by_numbers_up_and_down_with_gaps_last(opened):
    tab = opened()
    heading = tab.get_by_role("button", name="PSNR")
    heading.click()
    assert names(tab) == ["b.png", "a.png", "c.png"]
    heading.press("Enter")
    assert names(tab) == ["a.png", "b.png", "c.png"]
    assert heading.locator("..").get_attribute("aria-sort") == "descending"


def test_a_heading_sorts_by_names(opened):
    tab = opened()
    tab.get_by_role("button", name="image").click()
    assert names(tab) == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_width_makes_the_page_scroll_sideways(opened, width):
    tab = opened(viewport={"width": width, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_the_page_has_the_colours_that_the_user_prefers(opened, scheme, is_dark):
    tab = opened(color_scheme=scheme)
    colour = tab.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    first = int(colour.removeprefix("rgb(").split(",")[0])
    assert (first < 100) == is_dark
