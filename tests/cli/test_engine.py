"""Options of `--engine ray` that contradict others are refused before any work."""

import pytest
from PIL import Image

from tests.cli.invoke import restore


@pytest.fixture
def photo(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("derain", ["--workers", "2"], "--workers needs workers of Ray"),
        ("upscale", ["--address", "auto"], "--address needs workers of Ray"),
        ("enhance", ["--gpus-per-worker", "0.5"], "--gpus-per-worker needs workers of Ray"),
        ("denoise", ["--engine", "ray", "--adapt"], "--engine ray and --adapt"),
        ("derain", ["--engine", "ray", "-o", "-"], "--engine ray and - contradict"),
    ],
    ids=["workers", "address", "gpus", "adapt", "stdout"],
)
def test_options_that_do_not_fit_the_engine_are_refused(photo, command, options, message):
    result = restore(command, photo, *options)
    assert result.exit_code == 2
    assert message in result.stderr
