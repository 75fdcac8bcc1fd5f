from functools import partial

import pytest

from restore_cli import assets
from tests.cli.invoke import restore

samples = partial(restore, "samples")


def test_the_samples_are_copied_with_their_sources(tmp_path):
    result = samples(tmp_path / "new")
    copied = {path.name for path in (tmp_path / "new").iterdir()}
    assert result.exit_code == 0, result.stderr
    assert {path.name for path in assets.samples_dir().glob("*.jpg")} < copied
    assert {"SOURCES.md", "rocket_rain.mp4"} < copied
    assert {*result.stdout.split()} == {str(tmp_path / "new" / name) for name in copied}


def test_existing_files_stay_without_overwrite(tmp_path):
    (tmp_path / "SOURCES.md").write_text("mine")
    refused = samples(tmp_path)
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert [path.name for path in tmp_path.iterdir()] == ["SOURCES.md"]
    assert samples(tmp_path, "--overwrite").exit_code == 0
    assert (tmp_path / "SOURCES.md").read_text() != "mine"


@pytest.mark.parametrize("name", ["file", "file/below", "a" * 300])
def test_a_folder_that_cannot_be_is_one_line_and_exit_3(tmp_path, name):
    (tmp_path / "file").write_text("mine")
    result = samples(tmp_path / name)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.count("\n") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
