"""`restore ui` without a browser: its options, its work, and what its page says."""

import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import typer
from imagecodecs import png_encode

from restore_cli.cli.main import app
from restore_cli.cli.ui_options import Options
from restore_cli.cli.ui_work import Outcome, Work, pack, previews
from restore_cli.errors import UsageError
from restore_cli.inference import restorer
from restore_cli.tasks import TASKS
from tests.cli.invoke import restore, size_of


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


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """Return a function that writes restore.toml and reads the options of a page."""

    def options(text="", *, is_local=True):
        path = tmp_path / "restore.toml"
        path.write_text(text)
        monkeypatch.setenv("RESTORE_CONFIG", str(path))
        return Options(typer.main.get_command(app), is_local=is_local)

    return options


@pytest.fixture
def options(configured):
    return configured()


def line_of(options, task, sources, output, *words, preset=None, **values):
    arguments = [*map(str, sources), f"--output={output}", *words]
    return options.line(task, values, arguments, preset=preset)


@pytest.fixture
def run(options):
    """Runs a task on the page, each time with networks of its own."""

    def run_task(task, sources, output, *words, work=None, **values):
        line = line_of(options, task, sources, output, *words, **values)
        return (work or Work()).run(line, silent)

    return run_task


@pytest.mark.parametrize("task", TASKS)
def test_the_page_shows_the_options_of_the_command(options, task):
    own = {each.name for each in options.of(task)}
    command = {option.name for option in options.commands[task].params}
    elsewhere = {"source", "output", "save", "recursive", "overwrite", "skip_existing", "preset"}
    messages = {"json", "print0", "quiet", "dry_run", "html"}
    batches = {"ledger", "fingerprint", "retry_failed", "shard", "watch"}
    ray = {"engine", "address", "workers", "gpus_per_worker"}
    assert own == command - elsewhere - messages - batches - ray


@pytest.mark.parametrize("task", TASKS)
def test_the_defaults_of_the_page_are_those_of_the_command(options, task):
    defaults = {option.name: option.default for option in options.commands[task].params[1:]}
    values = options.values(task)
    assert values == {name: defaults[name] for name in values}
    assert options.line(task, values, []).arguments == []


def test_settings_and_variables_are_on_the_page(configured, monkeypatch):
    monkeypatch.setenv("RESTORE_TILE", "64")
    values = configured("[upscale]\nscale = 3\ntile = 128").values("upscale")
    assert (values["scale"], values["tile"]) == ("3", "64")


def test_a_preset_gives_its_values(configured):
    options = configured("[presets.soft]\nstrength = 0.5\nformat = 'png'\nquiet = true")
    assert options.presets == ["soft"]
    values = options.values("derain", "soft")
    assert (values["strength"], values["format"]) == ("0.5", "png")
    assert options.line("derain", values, [], preset="soft").settings == {
        "strength": "0.5",
        "format": "png",
    }


def test_a_preset_for_other_commands_is_refused(configured):
    options = configured("[presets.big]\nscale = 4")
    with pytest.raises(UsageError, match="no option of restore derain"):
        options.values("derain", "big")


def test_a_value_that_is_changed_is_typed_and_a_setting_that_excludes_it_yields(configured):
    options = configured("[upscale]\nscale = 3\nquality = 80")
    line = options.line("upscale", {"scale": "", "size": "99x99", "quality": "80"}, ["a.png"])
    assert line.arguments == ["a.png", "--size=99x99"]
    assert line.settings == {"quality": "80"}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("record", False, ["--no-record"]),
        ("repeat", True, ["--repeat"]),
        ("repeat", "", []),
        ("quality", "70", ["--quality=70"]),
        ("seed", 3.0, ["--seed=3"]),
        ("weights", "-odd.pth", ["--weights=-odd.pth"]),
        ("purpose", "photo", ["--for=photo"]),
    ],
)
def test_a_value_is_typed_as_its_option_wants_it(options, name, value, words):
    assert options.line("upscale", {name: value}, []).arguments == words


def test_a_variable_yields_to_a_value_that_was_cleared(configured, monkeypatch, deep, tmp_path):
    monkeypatch.setenv("RESTORE_UPSCALE_SCALE", "3")
    line = line_of(configured(), "upscale", [deep], tmp_path / "out/", scale="")
    done = Work().run(line, silent)
    assert size_of(done.results[0][1]) == (18, 24)


def test_elsewhere_weights_are_chosen_by_name_only(configured, tmp_path):
    options = configured(is_local=False)
    assert "deblur" not in options.commands
    assert options.line("upscale", {"weights": "espcn.x3"}, []).arguments == ["--weights=espcn.x3"]
    with pytest.raises(UsageError, match="no weights are called"):
        options.line("upscale", {"weights": str(tmp_path / "any.pth")}, [])


@pytest.mark.parametrize("task", ["upscale", "derain"])
def test_a_result_is_the_file_that_the_command_writes(run, deep, tmp_path, task):
    done = run(task, [deep], tmp_path / "page/")
    restore(task, deep, "-o", tmp_path / "command/")
    assert done.results == [(str(deep), str(tmp_path / "page/deep.png"))]
    written = [(tmp_path / each / "deep.png").read_bytes() for each in ("page", "command")]
    assert written[0] == written[1]


def test_options_reach_the_result(run, deep, tmp_path):
    done = run("upscale", [deep], tmp_path / "out/", scale="3x", format="jpeg", quality="50")
    assert size_of(done.results[0][1]) == (27, 36)
    assert done.results[0][1].endswith(".jpg")


def test_a_size_is_reached(run, deep, tmp_path):
    done = run("upscale", [deep], tmp_path / "out/", size="x48")
    assert size_of(done.results[0][1]) == (36, 48)


def test_a_network_adapts_to_the_images_first(run, tmp_path):
    path = tmp_path / "noisy.png"
    pixels = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    path.write_bytes(png_encode(pixels))
    done = run("denoise", [path], tmp_path / "out/", adapt=True, time="1s")
    texts = " ".join(
        [*done.messages, *(text for _, state, text in done.rows if state == "warning")]
    )
    assert "held-out loss" in texts
    assert len(done.results) == 1


@pytest.fixture
def loads(monkeypatch):
    """The names of the weights that are loaded."""
    names, load = [], restorer.load_network

    def counted(weights, options):
        names.append(weights)
        return load(weights, options)

    monkeypatch.setattr(restorer, "load_network", counted)
    return names


def test_another_strength_or_tile_loads_no_network_again(run, deep, tmp_path, loads):
    work = Work()
    made = [
        run("derain", [deep], tmp_path / str(number), work=work, **values).results[0][1]
        for number, values in enumerate(({}, {"strength": 0.5}, {"tile": "16"}, {"quality": ""}))
    ]
    assert loads == ["dpenet.default"]
    restore("derain", deep, "-o", tmp_path / "half.png", "--strength", "0.5")
    assert Path(made[1]).read_bytes() == (tmp_path / "half.png").read_bytes()


def test_a_file_that_fails_is_named_and_stops_no_other(run, deep, tmp_path):
    (deep.parent / "broken.png").write_bytes(b"no image")
    done = run("upscale", [deep.parent], tmp_path / "out/")
    states = {source: (state, message) for source, state, message in done.rows}
    assert states[str(deep)][0] == "ok"
    state, message = states[str(deep.parent / "broken.png")]
    assert state == "failed" and "broken.png" in message


def test_the_only_file_that_fails_is_a_row(run, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    ((source, state, _),) = run("upscale", [broken], tmp_path / "out/").rows
    assert (source, state) == (str(broken), "failed")


def test_options_that_contradict_each_other_are_refused(run, deep, tmp_path):
    with pytest.raises(UsageError, match="--scale and --size"):
        run("upscale", [deep], tmp_path / "out/", scale="2", size="99x99")


def test_a_value_of_another_kind_is_refused(run, deep, tmp_path):
    with pytest.raises(typer.BadParameter):
        run("upscale", [deep], tmp_path / "out/", format="jpeg", quality="high")


def test_existing_outputs_are_skipped_where_that_is_chosen(run, deep, tmp_path):
    for _ in range(2):
        done = run("upscale", [deep.parent], tmp_path / "out/", "--skip-existing")
    assert [state for _, state, _ in done.rows] == ["skipped"] and not done.results


def test_a_plan_does_nothing(options, deep, tmp_path):
    done = Work().plan(line_of(options, "upscale", [deep.parent], f"{tmp_path}/out/"))
    assert done.rows == [(str(deep), "planned", str(tmp_path / "out" / "deep.png"))]
    assert not (tmp_path / "out").exists()


def test_warnings_are_rows(run, deep, tmp_path):
    done = run("upscale", [deep], tmp_path / "out/", format="jpeg")
    (warning,) = [row for row in done.rows if row[0] == ""]
    assert warning[1] == "warning" and "deep" in warning[2]


def test_a_run_that_is_stopped_says_so_and_writes_no_more(options, deep, tmp_path):
    work = Work()
    stopping = threading.Thread(target=work.stop)

    def on_progress(share, text):
        if text != "loading" and stopping.ident is None:
            stopping.start()
            work._stopping.wait()

    for name in ("b.png", "c.png", "d.png"):
        (deep.parent / name).write_bytes(deep.read_bytes())
    done = work.run(line_of(options, "upscale", [deep.parent], f"{tmp_path}/out/"), on_progress)
    stopping.join()
    assert done.is_stopped and len(done.results) < 4


def test_both_sides_of_the_slider_have_one_size(run, deep, tmp_path):
    done = run("upscale", [deep], tmp_path / "out/")
    before, after = previews(*done.results[0])
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


def test_names_cannot_bring_markup_into_the_page(page):
    shown = page.table_of(Outcome([("<script>.png", "failed", "<i>")], [], ["<u>"]))
    assert "<script>" not in shown and "<i>" not in shown and "<u>" not in shown


def test_uploads_are_shown_by_their_names(page, tmp_path):
    text = f"{tmp_path}/0a1b/my photo.png: empty; {tmp_path}/x/0a/my photo_upscaled.png"
    shown = page.table_of(Outcome([("", "failed", text)]), tmp_path)
    assert "my photo.png: empty; my photo_upscaled.png" in shown
