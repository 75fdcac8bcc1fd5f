"""Files of version b689b0b still tell how they were made, and are made again."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from restore_cli.cli.main import app

FILES = Path(__file__).parents[1] / "fixtures" / "b689b0b"
BYTES_AS_BEFORE = ("sunflower.png",)  # pixels
WEIGHTS_AS_BEFORE = ("enhanced.tif", *BYTES_AS_BEFORE)
WEIGHTS_REPLACED = {
    "upscaled.png": "espcn.x2",
    "restored.jpg": "mirnet.denoise",
    "derained.webp": "dpenet.default",
    "mushroom.png": "scalecrafter.default",
}


def replay(name, *arguments):
    return CliRunner().invoke(app, ["replay", str(FILES / name), *map(str, arguments)])


@pytest.mark.parametrize(
    ("name", "command", "networks"),
    [
        ("upscaled.png", "upscale", ["espcn.x2"]),
        ("restored.jpg", "run", ["mirnet.denoise", "espcn.x2"]),
        ("derained.webp", "derain", ["dpenet.default"]),
        ("enhanced.tif", "enhance", ["tml.default"]),
        ("sunflower.png", "generate", ["fitv2.default"]),
        ("mushroom.png", "generate", ["scalecrafter.default"]),
    ],
)
def test_the_record_of_an_old_file_is_read(name, command, networks):
    record = json.loads(replay(name, "--show").stdout)
    assert record["command"] == command
    assert [network["weights"] for network in record["networks"]] == networks


@pytest.mark.slow
@pytest.mark.parametrize("name", WEIGHTS_AS_BEFORE)
def test_an_old_file_is_replayed_with_bundled_weights(name, tmp_path):
    target = tmp_path / name
    result = replay(name, "-o", target, "--json")
    assert result.exit_code == 0, result.stderr
    row = json.loads(result.stdout)
    assert row["target"] == str(target)
    assert target.exists()
    assert row["largest_difference"] < 0.05
    if not row["pixels_identical"]:
        assert "pixels differ by up to" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", BYTES_AS_BEFORE)
def test_an_old_generated_image_has_the_same_pixels(name, tmp_path):
    row = json.loads(replay(name, "-o", tmp_path / name, "--json").stdout)
    assert row["pixels_identical"]


@pytest.mark.parametrize(("name", "weights"), WEIGHTS_REPLACED.items())
def test_replaced_weights_are_exit_4_with_a_hint(name, weights, tmp_path):
    result = replay(name, "-o", tmp_path / name)
    assert result.exit_code == 4
    assert f"{weights} has sha256" in result.stderr
    assert "hint: " in result.stderr
    assert "--weights FILE" in result.stderr
    assert not (tmp_path / name).exists()
