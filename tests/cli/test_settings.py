"""Settings in files and variables, presets, and the command that shows them."""

import os
import re
from pathlib import Path

import pytest

from restore_cli.cli import settings
from tests.cli.invoke import restore, rows

DOCUMENT = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Return a function that writes the files of the user and of the project."""
    own, project = tmp_path / "config" / "restore.toml", tmp_path / "project" / "restore.toml"
    own.parent.mkdir()
    project.parent.mkdir()
    monkeypatch.delenv("RESTORE_CONFIG")
    monkeypatch.setattr(settings, "user_settings", lambda: own)
    monkeypatch.chdir(project.parent)

    def write(user=None, project_text=None):
        for path, text in ((own, user), (project, project_text)):
            if text is not None:
                path.write_text(text)

    return write


def shown(command, option, *arguments):
    """Return the value of an option and its source."""
    found = rows(restore("config", "show", *command.split(), "--json", *arguments))
    (row,) = (row for row in found if row["option"] == option)
    return row["value"], row["source"]


def test_a_nearer_setting_counts_more(files, monkeypatch):
    assert shown("upscale", "scale") == (None, "default")
    files(user="[upscale]\nscale = 2")
    assert shown("upscale", "scale") == ("2", "user")
    files(project_text="[upscale]\nscale = 3")
    assert shown("upscale", "scale") == ("3", "project")
    monkeypatch.setenv("RESTORE_UPSCALE_SCALE", "4")
    assert shown("upscale", "scale") == ("4", "environment")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((), "photo_x3.png"), (("--scale", "4"), "photo_x4.png"), (("--size", "99x99"), "99x99.png")],
    ids=["setting", "flag", "partner"],
)
def test_a_command_takes_its_settings_unless_an_option_is_given(files, photo, arguments, name):
    files(user="[upscale]\nscale = 3")
    result = restore("upscale", photo, "--dry-run", "-o", "{stem}_x{scale}{ext}", *arguments)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.endswith(f"{name}\n")


def test_a_variable_without_the_command_is_for_all_that_make_images(photo, monkeypatch):
    monkeypatch.setenv("RESTORE_FORMAT", "jpg")
    assert restore("derain", photo, "--dry-run").stdout.endswith("photo_derained.jpg\n")
    assert restore("ledger", "export", photo.with_name("none")).exit_code == 3  # not its --format


def test_common_settings_are_for_each_command_that_has_the_option(files):
    files(user='[common]\nstrength = 0.5\ndevice = "cpu"')
    assert shown("derain", "strength") == ("0.5", "user")
    assert shown("generate", "device") == ("cpu", "user")
    assert shown("bench quality", "device") == ("auto", "default")


def test_the_section_of_a_command_counts_more_than_common(files):
    files(user='[common]\ndevice = "cuda"\n[derain]\ndevice = "cpu"')
    assert shown("derain", "device") == ("cpu", "user")


def test_inner_commands_have_inner_sections(files):
    files(user='[bench.quality]\nset = ["set5", "set14"]')
    assert shown("bench quality", "set") == (["set5", "set14"], "user")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[upscal]\nscale = 2", "unknown section 'upscal'\nhint: the nearest: upscale"),
        ("seed = 2", "unknown key outside a section 'seed'\nhint: one of: "),
        ("[upscale]\nscal = 2", "[upscale] scal: no such option\nhint: the nearest: scale"),
        ("[bench.qualty]\ntile = 16", "unknown section 'bench.qualty'\nhint: the nearest: quality"),
        ("[common]\ntille = 16", "[common] tille: no such option\nhint: the nearest: tile"),
        ("[presets.a]\ntille = 16", "[presets.a] tille: no such option\nhint: the nearest: tile"),
        ("[upscale]\nno-record = true", "[upscale] no-record: no such option\nhint: the nearest"),
        ("[upscale]\nsource = 'a.png'", "[upscale] source: no such option\nhint: "),
        ("[upscale]\npreset = 'a'", "[upscale] preset: no such option\nhint: "),
        ("[config.show]\njson = true", "unknown section 'config'\nhint: "),
        ("upscale = 2", "upscale: wanted a section\nhint: write [upscale]"),
        ("presets.a = 2", "presets.a: wanted a section\nhint: write [presets.a]"),
        ("[upscale]\nrecursive = 1", "[upscale] recursive: wanted true or false\nhint: "),
        ("[upscale]\nscale = true", "[upscale] scale: wanted a text or a number\nhint: "),
        ("[upscale]\nscale = [2]", "[upscale] scale: wanted a text or a number\nhint: "),
        ("[upscale]\nscale = 1979-05-27", "[upscale] scale: wanted a text or a number\nhint: "),
        (f"[upscale]\nseed = 0x{'f' * 9999}", "[upscale] seed: wanted a text or a number\nhint: "),
        ("[run]\nmodel = 'a'", "[run] model: wanted a list\nhint: "),
        ("[run]\nmodel = [true]", "[run] model: wanted a list\nhint: "),
        ("[upscale]\nquality = 2.5", "[upscale] quality: Input should be a valid integer"),
        ("[upscale]\nquality = 101", "[upscale] quality: Input should be less than"),
        ("[upscale]\nformat = 'gif'", "[upscale] format: 'gif' is not one of 'png', 'jpeg', "),
        ("[common]\nprecision = 'fp8'", "[common] precision: 'fp8' is not one of 'auto', "),
        ("[upscale\n", "Expected ']' at the end of a table declaration"),
        ("[upscale]\nscale = 2\nscale = 3", "Cannot overwrite a value"),
        ("a = " + "[" * 9999, ""),
        ("\0", "Invalid statement"),
    ],
    ids=repr,
)
def test_a_fault_in_a_file_is_one_line_a_hint_and_exit_2(files, photo, tmp_path, text, said):
    files(user=text)
    result = restore("derain", photo)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"restore: {tmp_path / 'config' / 'restore.toml'}: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 2


def test_a_file_of_another_encoding_is_exit_2(files, photo, tmp_path):
    files(user="")
    (tmp_path / "config" / "restore.toml").write_bytes("[upscale] # é".encode("latin-1"))
    assert restore("derain", photo).exit_code == 2


def test_a_folder_in_place_of_the_file_is_exit_2(files, photo, tmp_path):
    (tmp_path / "config" / "restore.toml").mkdir()
    result = restore("derain", photo)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 2)


@pytest.mark.skipif(os.name != "posix", reason="needs a named pipe")
def test_a_pipe_is_not_waited_for(files, photo, tmp_path):
    os.mkfifo(tmp_path / "project" / "restore.toml")
    assert restore("derain", photo).exit_code == 2


def test_a_huge_file_is_not_read(files, photo, tmp_path):
    files(project_text="#" * (settings.LARGEST + 1))
    assert "larger than" in restore("derain", photo).stderr


@pytest.mark.parametrize("arguments", [["--help"], ["derain", "-h"], ["--version"]])
def test_help_needs_no_sound_file(files, arguments):
    files(user="[")
    assert restore(*arguments).exit_code == 0


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("common", "overwrite"),
        ("presets.a", "overwrite"),
        *(("derain", key) for key in ("overwrite", "output", "weights", "ledger", "report")),
        *(("derain", key) for key in ("quiet", "dry-run", "shard")),
    ],
)
def test_the_file_of_a_project_chooses_no_files_and_nothing_unsafe(files, photo, section, key):
    files(project_text=f"[{section}]\n{key} = true")
    result = restore("derain", photo)
    assert result.exit_code == 2
    assert f"[{section}] {key}: not accepted from the file of a project" in result.stderr
    assert list(photo.parent.glob("*.png")) == [photo]


def test_the_user_may_set_what_a_project_may_not(files, photo):
    files(user="[derain]\noverwrite = true")
    assert shown("derain", "overwrite") == (True, "user")


def test_every_option_of_projects_exists():
    from restore_cli.cli.main import app

    commands = settings.commands_of(settings.typer.main.get_command(app)).values()
    known = {flag for command in commands for flag in settings.options_of(command)}
    assert known >= settings.OF_PROJECTS


def test_the_document_names_the_options_of_projects():
    assert {*re.findall(r"`([a-z-]+)`", DOCUMENT)} >= settings.OF_PROJECTS


def test_the_example_of_the_document_is_sound(files):
    files(user=re.search("```toml\n(.*?)```", DOCUMENT, re.DOTALL)[1])
    assert shown("upscale", "output") == ("{folder}/{stem}_x{scale}{ext}", "user")


@pytest.mark.parametrize(("marker", "found"), [(None, True), (".git", False)])
def test_the_file_of_a_project_is_the_nearest_above_in_the_repository(
    files, tmp_path, monkeypatch, marker, found
):
    files(project_text="[upscale]\nscale = 3")
    inner = tmp_path / "project" / "a" / "b"
    inner.mkdir(parents=True)
    if marker:
        (inner.parent / marker).mkdir()
    monkeypatch.chdir(inner)
    listed = restore("config", "path").stdout.split()
    assert listed == ([str(tmp_path / "project" / "restore.toml")] if found else [])


def test_the_search_does_not_leave_the_home_folder(files, tmp_path, monkeypatch):
    files(project_text="[upscale]\nscale = 3")
    home = tmp_path / "project" / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(home)
    assert shown("upscale", "scale") == (None, "default")


def test_restore_config_names_the_only_file(files, tmp_path, monkeypatch):
    files(user="[upscale]\nscale = 2", project_text="[upscale]\nscale = 3")
    other = tmp_path / "other.toml"
    other.write_text("[derain]\nstrength = 0.5")
    monkeypatch.setenv("RESTORE_CONFIG", str(other))
    assert restore("config", "path").stdout == f"{other}\n"
    assert shown("upscale", "scale") == (None, "default")
    assert shown("derain", "strength") == ("0.5", "user")


PRESET = "[presets.old-scan]\nscale = 4\nfor = 'photo'\nstrength = 0.8\nsteps = 'denoise'\n"


def test_a_preset_gives_each_command_the_options_that_it_has(files):
    files(project_text=PRESET, user="[upscale]\nscale = 2\n[derain]\nstrength = 0.1")
    assert shown("upscale", "scale", "--preset", "old-scan") == ("4", "preset")
    assert shown("upscale", "for", "--preset", "old-scan") == ("photo", "preset")
    assert shown("derain", "strength", "--preset", "old-scan") == ("0.8", "preset")


def test_a_flag_counts_more_than_the_preset(files, photo):
    files(user=PRESET)
    options = ("--preset", "old-scan", "--dry-run", "-o", "{stem}_x{scale}{ext}")
    assert restore("upscale", photo, *options).stdout.endswith("photo_x4.png\n")
    assert restore("upscale", photo, *options, "-s", "2").stdout.endswith("photo_x2.png\n")


def test_the_preset_of_the_project_replaces_that_of_the_user(files):
    files(user=PRESET, project_text="[presets.old-scan]\nscale = 3")
    assert shown("upscale", "scale", "--preset", "old-scan") == ("3", "preset")
    assert shown("upscale", "for", "--preset", "old-scan") == ("auto", "default")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--preset", "old-skan"), "no preset is called 'old-skan'\nhint: the nearest: old-scan"),
        (("--preset", "zoom"), "--preset zoom has no option of restore derain\nhint: it is for: "),
    ],
    ids=["unknown", "of other commands"],
)
def test_a_preset_that_does_not_fit_is_exit_2(files, photo, arguments, said):
    files(user=f"{PRESET}[presets.zoom]\nscale = 4")
    result = restore("derain", photo, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_preset_without_files_is_exit_2(photo):
    assert restore("derain", photo, "--preset", "x").exit_code == 2


def test_the_output_of_settings_is_not_for_an_image_from_stdin(files):
    files(user="[common]\noutput = 'out'")
    assert restore("derain", "-", "--format", "png", "--dry-run").stdout == "- -> -\n"


def test_a_setting_without_effect_on_these_sources_is_passed_over(files, photo):
    files(user="[common]\nquality = 90")
    assert restore("derain", photo, "--dry-run").exit_code == 0
    assert restore("derain", photo, "--dry-run", "--quality", "90").exit_code == 2


def test_an_error_about_a_setting_names_its_place(files, photo, tmp_path):
    files(user="[common]\ntile = 3")
    result = restore("derain", photo)
    place = f"{tmp_path / 'config' / 'restore.toml'} [common]"
    assert f"--tile is set by {place}\n" in result.stderr


def test_the_ledger_takes_a_preset_for_the_options_that_it_stands_for(files, photo, random_weights):
    files(user="[presets.half]\nstrength = 0.5")
    options = ("--weights", random_weights, "--ledger", photo.with_name("run.sqlite"))
    first = restore("derain", photo, *options, "--strength", "0.5")
    assert first.exit_code == 0, first.stderr
    again = restore("derain", photo, *options, "--preset", "half", "--skip-existing")
    assert (again.exit_code, again.stdout) == (0, "")


def test_all_that_is_set_is_shown_with_its_place(files, tmp_path):
    files(user="[upscale]\nscale = 3\n[derain]\nrecursive = true")
    place = tmp_path / "config" / "restore.toml"
    assert restore("config", "show").stdout.splitlines() == [
        f"derain --recursive  true  {place} [derain]",
        f"upscale --scale     3     {place} [upscale]",
    ]


def test_an_unknown_command_has_no_settings_to_show():
    assert restore("config", "show", "upscal").exit_code == 2
