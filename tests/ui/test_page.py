"""`restore ui` without a browser: its options, its work, and what its page says."""

import inspect
import sys
import threading
import zipfile
from dataclasses import asdict, fields

import numpy as np
import pytest
from imagecodecs import png_encode

from restore_cli.cli import ui_work
from restore_cli.cli.main import app
from restore_cli.cli.ui_work import Choices, Work, pack, plan_of, previews
from restore_cli.errors import UsageError
from tests.cli.invoke import restore, size_of

COMMANDS = {each.name or each.callback.__name__: each.callback for each in app.registered_commands}
TASKS = ("derain", "denoise", "enhance", "upscale", "deblur", "dejpeg", "dehaze", "face")


def silent(share, text):
    """A callback of progress."""


@pytest.fixture
def deep(tmp_path):
    """A 16-bit image, alone in its folder."""
    path = tmp_path / "in" / "deep.png"
    path.parent.mkdir()
    pixels = np.random.default_rng(0).integers(0, 65536, (12, 9, 3), dtype=np.uint16)
    path.write_bytes(png_encode(pixels))
    return path


def run(choices, sources, output, **options):
    planned = plan_of(choices, [str(source) for source in sources], str(output), **options)
    return Work().run(choices, planned, silent)


@pytest.mark.parametrize("task", TASKS)
def test_the_defaults_of_the_page_are_those_of_the_command(task):
    parameters = inspect.signature(COMMANDS[task]).parameters
    own = {name: value or None for name, value in asdict(Choices(task)).items()}
    if task != "upscale":
        del own["purpose"]  # --for jpeg of denoise is the task dejpeg
    usual = {name: parameters[name].default for name in own if name in parameters}
    assert {"weights", "tile", "device", "precision", "format", "quality"} <= usual.keys()
    assert usual == {name: own[name] for name in usual}


@pytest.mark.parametrize("task", ["upscale", "derain"])
def test_a_result_is_the_file_that_the_command_writes(deep, tmp_path, task):
    done = run(Choices(task), [deep], tmp_path / "page/")
    restore(task, deep, "-o", tmp_path / "command/", "--backend", "torch")
    assert done.made == [(str(deep), str(tmp_path / "page/deep.png"))]
    written = [(tmp_path / each / "deep.png").read_bytes() for each in ("page", "command")]
    assert written[0] == written[1]


def test_options_reach_the_result(deep, tmp_path):
    choices = Choices("upscale", scale="3x", format="jpeg", quality=50)
    done = run(choices, [deep], tmp_path / "out/")
    assert size_of(done.made[0][1]) == (27, 36)
    assert done.made[0][1].endswith(".jpg")


def test_networks_are_loaded_once(deep, tmp_path):
    ui_work.load.cache_clear()
    for number in range(3):
        run(Choices("upscale", quality=90 + number), [deep], tmp_path / str(number))
    assert ui_work.load.cache_info().misses == 1


def test_a_file_that_fails_is_named_and_stops_no_other(deep, tmp_path):
    (deep.parent / "broken.png").write_bytes(b"no image")
    done = run(Choices("upscale"), [deep.parent], tmp_path / "out/")
    states = {source: (state, message) for source, state, message in done.rows}
    assert states[str(deep)][0] == "ok"
    state, message = states[str(deep.parent / "broken.png")]
    assert state == "failed" and "broken.png" in message


def test_existing_outputs_are_skipped_where_that_is_chosen(deep, tmp_path):
    for _ in range(2):
        done = run(Choices("upscale"), [deep.parent], tmp_path / "out/", existing="skip")
    assert [state for _, state, _ in done.rows] == ["skipped"] and not done.made


def test_warnings_are_rows(deep, tmp_path):
    choices = Choices("upscale", format="jpeg")
    (warning,) = [row for row in run(choices, [deep], tmp_path / "out/").rows if row[0] == ""]
    assert warning[1] == "warning" and "deep" in warning[2]


def test_a_run_that_is_stopped_says_so_and_writes_no_more(deep, tmp_path):
    work, choices = Work(), Choices("upscale")
    stopping = threading.Thread(target=work.stop)

    def on_progress(share, text):
        if text != "loading" and stopping.ident is None:
            stopping.start()
            work._stopping.wait()

    for name in ("b.png", "c.png", "d.png"):
        (deep.parent / name).write_bytes(deep.read_bytes())
    planned = plan_of(choices, [str(deep.parent)], str(tmp_path / "out/"))
    done = work.run(choices, planned, on_progress)
    stopping.join()
    assert done.is_stopped and len(done.made) < 4


def test_both_sides_of_the_slider_have_one_size(deep, tmp_path):
    done = run(Choices("upscale"), [deep], tmp_path / "out/")
    before, after = previews(*done.made[0])
    assert size_of(before) == size_of(after) == (18, 24)


def test_a_video_has_no_slider(tmp_path):
    assert previews(str(tmp_path / "clip.mp4"), str(tmp_path / "clip_upscaled.mp4")) is None


def test_an_archive_holds_the_files_unchanged_also_two_of_one_name(deep, tmp_path):
    other = tmp_path / "other" / "deep.png"
    other.parent.mkdir()
    other.write_bytes(b"other")
    with zipfile.ZipFile(pack([str(deep), str(other)], tmp_path / "all.zip")) as archive:
        assert archive.read("deep.png") == deep.read_bytes()
        assert archive.read("other/deep.png") == b"other"


def test_a_network_address_needs_a_password():
    result = restore("ui", "--host", "0.0.0.0", "--no-open")
    assert result.exit_code == 2
    assert "RESTORE_UI_PASSWORD" in result.stderr


def test_an_empty_password_is_none():
    result = restore("ui", "--host", "0.0.0.0", env={"RESTORE_UI_PASSWORD": ""})
    assert result.exit_code == 2


def test_a_missing_extra_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = restore("ui", "--no-open")
    assert result.exit_code == 2
    assert "pip install 'restore-cli[ui]'" in result.stderr


@pytest.fixture
def page(monkeypatch):
    """The module of the page, which imports Gradio."""
    pytest.importorskip("gradio")
    from restore_cli.cli import ui_page

    return ui_page


@pytest.mark.parametrize("count", [0, 51])
def test_no_upload_and_too_many_are_refused(page, count):
    with pytest.raises(UsageError):
        page.refuse_uploads(["photo.png"] * count)


def test_controls_that_were_emptied_leave_the_default(page):
    controls = {each.name: each.name for each in fields(Choices)}
    values = asdict(Choices("upscale")) | {"tile": "", "quality": "", "strength": 0.0}
    assert page.choices_of(values, controls) == Choices("upscale", strength=0.0)


@pytest.mark.parametrize("text", ["0", "101", "high", "-5"])
def test_a_quality_out_of_range_is_refused(page, text):
    with pytest.raises(UsageError, match="from 1 to 100"):
        page.choices_of({"quality": text}, {"quality": "quality"})


def test_names_cannot_bring_markup_into_the_page(page):
    shown = page.table_of([("<script>.png", "failed", "<b>")], "1 <failed>")
    assert "<script>" not in shown and "<b>" not in shown and "<failed>" not in shown


def test_uploads_are_shown_by_their_names(page, tmp_path):
    text = f"{tmp_path}/0a1b/my photo.png: empty; {tmp_path}/x/0a/my photo_upscaled.png"
    shown = page.table_of([("", "failed", text)], "", tmp_path)
    assert "my photo.png: empty; my photo_upscaled.png" in shown
