import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from restore_cli.cli.main import app


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "deeper/ü.png"):
        Image.effect_noise((12, 9), 50).convert("RGB").save(folder / name)
    return folder


def derain(*arguments, **options):
    return CliRunner().invoke(app, ["derain", *map(str, arguments)], **options)


def test_a_single_file_lands_beside_its_source(photos, random_weights):
    result = derain(photos / "a.png", "--weights", random_weights)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{photos / 'a_derained.png'}\n"
    with Image.open(photos / "a_derained.png") as restored:
        assert restored.size == (12, 9)


def test_a_folder_is_mirrored(photos, random_weights, tmp_path):
    out = tmp_path / "out"
    result = derain(photos, "-r", "-o", out, "--weights", random_weights)
    assert result.exit_code == 0, result.stderr
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == {"a.png", "b.jpg", "deeper/ü.png"}


def test_one_bad_file_does_not_stop_the_rest(photos, random_weights, tmp_path):
    (photos / "c.png").write_text("no picture")
    result = derain(photos, "-o", tmp_path / "out", "--json", "--weights", random_weights)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 6
    assert {row["source"].split("/")[-1]: row["status"] for row in rows} == {
        "a.png": "ok",
        "b.jpg": "ok",
        "c.png": "failed",
    }
    assert "c.png" in result.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"text", "not an image"), (b"\x89PNG\r\n\x1a\n", "truncated")],
    ids=["empty", "text", "cut"],
)
def test_a_single_bad_file_is_one_line_and_exit_3(tmp_path, random_weights, content, said):
    bad = tmp_path / "bad.png"
    bad.write_bytes(content)
    result = derain(bad, "--weights", random_weights)
    assert result.exit_code == 3
    assert said in result.stderr
    assert list(tmp_path.glob("*derained*")) == []


def test_a_missing_file_is_exit_3(tmp_path, random_weights):
    assert derain(tmp_path / "none.png", "--weights", random_weights).exit_code == 3


def test_nothing_is_overwritten_unasked(photos, random_weights):
    target = photos / "a_derained.png"
    target.write_bytes(b"precious")
    result = derain(photos / "a.png", "--weights", random_weights)
    assert result.exit_code == 3
    assert target.read_bytes() == b"precious"


def test_the_source_is_never_the_target(photos, random_weights):
    source = photos / "a.png"
    result = derain(source, "-o", source, "--overwrite", "--weights", random_weights)
    assert result.exit_code == 3


def test_contradicting_options_are_exit_2(photos):
    assert derain(photos / "a.png", "--overwrite", "--skip-existing").exit_code == 2


def test_two_sources_for_one_target_are_refused_before_work(photos, random_weights, tmp_path):
    Image.new("RGB", (3, 3)).save(photos / "a.bmp")
    result = derain(photos, "-o", tmp_path / "out", "--weights", random_weights)
    assert result.exit_code == 3
    assert not (tmp_path / "out").exists()


def test_unknown_weights_are_exit_4(photos):
    assert derain(photos / "a.png", "--weights", "dpenet.nowhere").exit_code == 4


def test_a_device_that_is_not_there_is_exit_5(photos, random_weights):
    result = derain(photos / "a.png", "--device", "cuda:99", "--weights", random_weights)
    assert result.exit_code == 5


def test_stdin_goes_to_stdout(photos, random_weights):
    result = derain(
        "-", "--format", "png", "--weights", random_weights, input=(photos / "a.png").read_bytes()
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout_bytes.startswith(b"\x89PNG")


def test_a_dry_run_writes_nothing(photos):
    before = sorted(photos.rglob("*"))
    result = derain(photos, "--dry-run")
    assert result.exit_code == 0
    assert "a_derained.png" in result.stdout
    assert sorted(photos.rglob("*")) == before
