"""`restore ui` as a process, with its page in Chromium, driven by Playwright."""

import io
import os
import signal
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from PIL import Image

pytest.importorskip("gradio", reason="restore ui needs the extra")
playwright = pytest.importorskip("playwright.sync_api", reason="pages are driven by Playwright")

MAKER = 271  # tag of EXIF
PATIENCE = 60_000  # ms
SIDES_ARE_SHOWN = """() => {
    const widths = [...document.querySelectorAll("#slider img")].map(side => side.naturalWidth);
    return widths.join() === "32,32";
}"""


@contextmanager
def serving(folder, *options, **variables):
    """Run `restore ui` with `folder` for temporary files; yield the process and its address."""
    command = [sys.executable, "-m", "restore_cli", "ui", "--no-open", *options]
    environment = {**os.environ, "TMPDIR": str(folder), **variables}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    with process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("server")) as (_, address):
        yield address


@pytest.fixture
def opened(browser):
    """Opens a page; at the end it has asked no other host, and reported no error."""
    faults, contexts = [], []

    def open_page(address, **options):
        def on_request(request):
            if not request.url.startswith((address, "data:", "blob:")):
                faults.append(request.url)

        def on_console(message):
            if message.type == "error":
                faults.append(message.text)

        contexts.append(browser.new_context(**options))
        tab = contexts[-1].new_page()
        tab.set_default_timeout(PATIENCE)
        tab.on("console", on_console)
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("request", on_request)
        tab.goto(address)
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "my photo.jpg"
    exif = Image.Exif()
    exif[MAKER] = "a camera"
    Image.effect_noise((16, 12), 50).convert("RGB").save(path, exif=exif)
    return path


def drop(tab, *paths):
    tab.locator("input[type=file]").first.set_input_files([str(path) for path in paths])
    for path in paths:
        tab.get_by_text(path.stem).first.wait_for()


def upscale(tab, *paths):
    tab.get_by_role("radio", name="upscale").click()
    drop(tab, *paths)
    tab.get_by_role("button", name="Restore", exact=True).click()


def downloaded(tab, link):
    with tab.expect_download() as download:
        link.click()
    return download.value.path().read_bytes()


def test_a_dropped_image_is_enlarged_shown_and_downloaded_with_its_exif(opened, address, photo):
    tab = opened(address)
    upscale(tab, photo)
    tab.get_by_text("1 restored").wait_for()
    tab.wait_for_function(SIDES_ARE_SHOWN)
    data = downloaded(tab, tab.locator("#results a").first)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("JPEG", (32, 24))
        assert image.getexif()[MAKER] == "a camera"
    assert b"espcn.x2" in data  # the record


def test_several_images_are_downloaded_in_one_archive(opened, address, photo):
    other = photo.with_name("other.png")
    Image.new("L", (5, 4)).save(other)
    tab = opened(address)
    tab.get_by_text("More options").click()  # as they are, they change nothing
    upscale(tab, photo, other)
    tab.get_by_text("2 restored").wait_for()
    data = downloaded(tab, tab.get_by_text("Download all (zip)"))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {*archive.namelist()} == {"my photo_upscaled.jpg", "other_upscaled.png"}


def test_an_error_is_shown_with_its_hint(opened, address, photo):
    tab = opened(address)
    tab.get_by_role("radio", name="upscale").click()
    tab.get_by_label("Scale", exact=True).fill("huge")
    tab.keyboard.press("Enter")
    drop(tab, photo)
    tab.get_by_role("button", name="Restore", exact=True).click()
    tab.get_by_text("wanted a factor above 1 (hint: for example 2, 2x or 2.5)").wait_for()


def test_a_folder_is_planned_and_restored(opened, address, photo, tmp_path):
    tab = opened(address)
    tab.get_by_role("radio", name="upscale").click()
    tab.get_by_role("tab", name="Folder").click()
    tab.get_by_label("Source folder").fill(str(photo.parent))
    tab.get_by_label("Output folder").fill(str(tmp_path / "out"))
    tab.get_by_role("button", name="Show the plan").click()
    tab.get_by_text("1 planned").wait_for()
    assert not (tmp_path / "out").exists()
    tab.get_by_role("button", name="Restore the folder").click()
    tab.get_by_text("1 restored").wait_for()
    assert (tmp_path / "out" / "my photo.jpg").is_file()


def test_settings_and_presets_set_the_options(opened, tmp_path):
    settings = tmp_path / "restore.toml"
    settings.write_text("[upscale]\nscale = 3\n[presets.large]\nsize = 1920\n")
    server = tmp_path / "server"
    server.mkdir()
    with serving(server, RESTORE_CONFIG=str(settings)) as (_, address):
        tab = opened(address)
        tab.get_by_role("radio", name="upscale").click()
        scale, size = tab.get_by_label("Scale", exact=True), tab.get_by_label("Size Size in pixels")
        playwright.expect(scale).to_have_value("3")
        tab.get_by_label("Preset").click()
        tab.get_by_role("option", name="large").click()
        playwright.expect(size).to_have_value("1920")
        playwright.expect(scale).to_have_value("default: 2, or that of --weights")  # excluded
        tab.close()  # before its server goes


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_does_not_scroll_sideways(opened, address, scheme):
    tab = opened(address, viewport={"width": 390, "height": 800}, color_scheme=scheme)
    tab.get_by_role("radio", name="upscale").wait_for()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_foreign_name_for_this_machine_is_refused(address):
    connection = HTTPConnection(urlsplit(address).netloc)
    connection.request("GET", "/", headers={"Host": "example.org"})
    assert connection.getresponse().status == 400
    connection.close()


def test_elsewhere_a_password_opens_a_page_without_folders_until_ctrl_c(opened, photo, tmp_path):
    server = tmp_path / "server"
    server.mkdir()
    with serving(server, "--host", "127.0.0.2", RESTORE_UI_PASSWORD="secret") as (process, address):
        tab = opened(address)
        tab.get_by_label("username").fill("restore")
        tab.get_by_label("password").fill("secret")
        assert tab.get_by_role("radio", name="upscale").count() == 0
        tab.get_by_role("button", name="Login").click()
        upscale(tab, photo)
        tab.get_by_text("1 restored").wait_for()
        assert tab.get_by_role("tab", name="Folder").count() == 0
        assert len([*server.iterdir()]) == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == "press Ctrl-C to stop\nrestore: interrupted\n"
    assert not [*server.iterdir()]
