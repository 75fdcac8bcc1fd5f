import hashlib
import io
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from restore_cli import registry
from restore_cli.checkpoints.save import save
from restore_cli.errors import OutputExists, UnreadableImage
from restore_cli.imaging.io import decode, piped
from restore_cli.inference.rain import Rain, RainMeter
from tests.cli.invoke import restore, rows

derain = partial(restore, "derain")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "deeper/ü.png"):
        Image.effect_noise((12, 9), 50).convert("RGB").save(folder / name)
    return folder


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
    (photos / "c.png").write_text("no image")
    result = derain(photos, "-o", tmp_path / "out", "--json", "--weights", random_weights)
    assert result.exit_code == 6
    assert {Path(row["source"]).name: row["status"] for row in rows(result)} == {
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


def test_nothing_is_overwritten_without_overwrite(photos, random_weights):
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


def test_contradicting_options_are_refused_before_the_plan_is_shown(photos):
    result = derain(photos / "a.png", "--tile", "exact", "--overlap", 3, "--dry-run")
    assert (result.exit_code, result.stdout) == (2, "")


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


def test_json_describes_how_each_image_was_made(photos, random_weights, tmp_path):
    target = tmp_path / "out.png"
    result = derain(photos / "a.png", "-o", target, "--weights", random_weights, "--json")
    (row,) = rows(result)
    digest = hashlib.sha256(random_weights.read_bytes()).hexdigest()
    assert row.pop("seconds") > 0
    assert row.pop("precision") in ("fp32", "bf16", "fp16")
    assert set(row["rain"]) == {"share", "angle", "strength"}
    assert row == {
        "source": str(photos / "a.png"),
        "target": str(target),
        "status": "ok",
        "error": None,
        "model": "dpenet",
        "weights": "random",
        "weights_sha256": digest,
        "device": row["device"],
        "backend": "torch",
        "tile": None,
        "width": 12,
        "height": 9,
        "seed": 0,
        "noise_sigma": None,
        "rain": row["rain"],
    }


def test_failures_are_in_the_json_and_listed_at_the_end(photos, random_weights, tmp_path):
    (photos / "[red]0.png").write_bytes(b"")
    missing = tmp_path / "missing.png"
    result = derain(photos, missing, "-o", tmp_path / "out", "--json", "--weights", random_weights)
    errors = {row["source"]: row["error"] for row in rows(result) if row["status"] == "failed"}
    assert result.exit_code == 6
    assert errors[str(missing)]["kind"] == "UnreadableImage"
    assert errors[str(photos / "[red]0.png")] == {
        "kind": "UnreadableImage",
        "message": f"{photos / '[red]0.png'}: the file is empty",
        "hint": None,
    }
    told = [line for line in result.stderr.splitlines() if not line.startswith("hint")][-3:]
    assert told[0].startswith("2 restored, 2 failed in ")
    assert told[1:] == [
        f"restore: {missing}: no such file",
        f"restore: {photos / '[red]0.png'}: the file is empty",
    ]


def test_a_single_failure_is_in_the_json_too(tmp_path, random_weights):
    (tmp_path / "a.png").write_bytes(b"")
    result = derain(tmp_path / "a.png", "--json", "--weights", random_weights)
    assert result.exit_code == 3
    assert [row["status"] for row in rows(result)] == ["failed"]
    assert result.stderr == f"restore: {tmp_path / 'a.png'}: the file is empty\n"


def test_skip_existing_does_the_rest(photos, random_weights, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"precious")
    result = derain(
        photos, "-o", tmp_path / "out", "--skip-existing", "--json", "--weights", random_weights
    )
    assert result.exit_code == 0, result.stderr
    assert [(row["source"][-5:], row["status"]) for row in rows(result)] == [
        ("a.png", "skipped"),
        ("b.jpg", "ok"),
    ]
    assert (tmp_path / "out" / "a.png").read_bytes() == b"precious"
    assert "1 restored, 1 skipped" in result.stderr


def test_nothing_left_to_do_is_no_failure(photos, random_weights, tmp_path):
    derain(photos, "-o", tmp_path / "out", "--weights", random_weights)
    again = derain(photos, "-o", tmp_path / "out", "--skip-existing", "--weights", random_weights)
    assert (again.exit_code, again.stdout) == (0, "")
    assert again.stderr.startswith("2 skipped in ")


def test_overwrite_replaces(photos, random_weights, tmp_path):
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    result = derain(photos / "a.png", "-o", target, "--overwrite", "--weights", random_weights)
    assert result.exit_code == 0
    assert target.read_bytes().startswith(b"\x89PNG")


def test_quiet_leaves_the_paths_only(photos, random_weights, tmp_path):
    result = derain(photos, "-o", tmp_path / "out", "-q", "--weights", random_weights)
    assert (result.exit_code, result.stderr) == (0, "")
    assert {*result.stdout.split()} == {str(tmp_path / "out" / name) for name in ("a.png", "b.jpg")}


def test_a_dry_run_as_json_has_no_status_yet(photos, tmp_path):
    result = derain(photos, "-r", "-o", tmp_path / "out", "--dry-run", "--json")
    assert result.exit_code == 0
    assert [(row["status"], row["error"]) for row in rows(result)] == [(None, None)] * 3
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--quality", "90"], "--quality has no effect on png"),
        (["--compress", "small", "--format", "jpeg"], "--compress has no effect on jpeg"),
        (["-o", "-", "--json"], "cannot both go to stdout"),
        (["--tile", "big"], "--tile big: wanted auto, off, exact or a number"),
        (["--tile", "15"], "a number of pixels, 16 or more"),
        (["--overlap", "-1"], "--overlap -1: wanted auto, exact or a number"),
        (["--model", "mirror"], "'mirror' does not derain"),
        (["-o", ""], "-o is empty"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_options_that_make_no_sense_are_one_line_a_hint_and_exit_2(photos, options, said):
    before = sorted(photos.rglob("*"))
    result = derain(photos / "a.png", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr.splitlines()[0]
    assert result.stderr.count("\n") == 2
    assert sorted(photos.rglob("*")) == before


def test_an_image_on_stdin_can_become_a_file(photos, random_weights, tmp_path):
    data = (photos / "a.png").read_bytes()
    target = tmp_path / "out.webp"
    result = derain("-", "-o", target, "--weights", random_weights, input=data)
    assert (result.exit_code, result.stdout) == (0, f"{target}\n"), result.stderr
    with Image.open(target) as restored:
        assert (restored.format, restored.size) == ("WEBP", (12, 9))


def test_stdin_that_is_not_an_image_is_exit_3(random_weights):
    result = derain("-", "--format", "png", "--weights", random_weights, input=b"text")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("restore: stdin: ")


@pytest.fixture
def keeps(tmp_path):
    """Weights of a DPENet that changes nothing."""
    network = registry.build("dpenet")
    torch.nn.init.zeros_(network.streaks.weight)
    torch.nn.init.zeros_(network.detail.weight)
    path = tmp_path / "keeps.safetensors"
    save(network, path, arch="dpenet", config={}, record={})
    return path


def test_no_rain_in_a_dry_image_is_reported(photos, keeps):
    result = derain(photos / "a.png", "--weights", keeps, "--json")
    assert "\nrestore derain: no rain found: nearly unchanged\n" in result.stderr
    assert rows(result)[0]["rain"] is None


def test_rain_is_reported_with_its_share_and_direction(photos, random_weights, monkeypatch):
    monkeypatch.setattr(RainMeter, "rain", lambda meter: Rain(0.3421, 0.0812, -12.34))
    result = derain(photos / "a.png", "--weights", random_weights, "--json")
    assert "rain on 34 % of the image, streaks 12 degrees from vertical\n" in result.stderr
    assert rows(result)[0]["rain"] == {"share": 0.3421, "angle": -12.3, "strength": 0.0812}


def test_rain_without_a_direction_is_reported_without(photos, random_weights, monkeypatch):
    monkeypatch.setattr(RainMeter, "rain", lambda meter: Rain(0.3421, 0.0812, None))
    result = derain(photos / "a.png", "--weights", random_weights, "--json")
    assert "rain on 34 % of the image\n" in result.stderr
    assert rows(result)[0]["rain"]["angle"] is None


def test_in_a_batch_the_rain_is_reported_with_the_file(photos, keeps, tmp_path):
    result = derain(photos, "-o", tmp_path / "out", "--weights", keeps)
    for name in ("a.png", "b.jpg"):
        assert f"{photos / name}: no rain found: nearly unchanged\n" in result.stderr


def test_strength_does_not_alter_the_rain_that_is_found(photos, random_weights, tmp_path):
    found = [
        rows(derain(photos / "a.png", "-o", tmp_path / f"{strength}.png", "--strength", strength,
                    "--weights", random_weights, "--json"))[0]["rain"]
        for strength in ("1", "0.3")
    ]  # fmt: skip
    assert found[0] is not None
    assert found[0] == found[1]


def test_a_folder_tells_what_it_passes_over(photos, random_weights, tmp_path):
    (photos / "d.psd").write_bytes(b"")
    result = derain(photos, "-o", tmp_path / "out", "--weights", random_weights)
    assert result.exit_code == 0
    assert "1 file of another kind (.psd) was ignored\n" in result.stderr


def test_paths_can_end_with_nul(photos, random_weights, tmp_path):
    (photos / "a.png").rename(photos / "a\n.png")
    out = tmp_path / "out"
    result = derain(photos, "-o", out, "--weights", random_weights, "--print0")
    assert sorted(result.stdout.split("\0")) == ["", f"{out / 'a'}\n.png", str(out / "b.jpg")]
    planned = derain(photos, "-o", tmp_path / "new", "--dry-run", "--print0").stdout
    assert planned.count("\0") == 2


@pytest.mark.parametrize("arguments", [["--json"], ["-o", "-"]], ids=["json", "stdout"])
def test_print0_goes_with_no_other_data_on_stdout(photos, arguments):
    result = derain(photos / "a.png", "--print0", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--print0" in result.stderr


@pytest.mark.parametrize(("names", "code"), [(["d.xcf"], 3), (["a.png", "d.xcf"], 6)])
def test_a_dry_run_fails_where_the_run_would(photos, names, code):
    (photos / "d.xcf").write_bytes(b"gimp xcf file\0")
    sources = [photos / name for name in names]
    plan, run = derain(*sources, "--dry-run"), derain(*sources, "--overwrite")
    assert (plan.exit_code, run.exit_code) == (code, code)
    for result in (plan, run):
        assert (
            result.stderr.count("d.xcf: a GIMP image, which restore cannot read\nhint: export it")
            == 1
        )


def test_stdin_without_end_is_refused_by_its_beginning(random_weights):
    class Endless(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            assert self.tell_read < 1 << 20
            self.tell_read += len(buffer)
            buffer[:] = bytes(len(buffer))
            return len(buffer)

        tell_read = 0

    with pytest.raises(UnreadableImage, match="not an image"):
        decode(piped(io.BufferedReader(Endless())), name="stdin")


def test_an_output_that_appears_meanwhile_is_skipped(photos, random_weights, monkeypatch):
    def appear_late(*arguments, **options):
        raise OutputExists("already exists: it")

    monkeypatch.setattr("restore_cli.batch.pipeline.write_atomically", appear_late)
    options = ["--skip-existing", "--weights", random_weights]
    result = derain(photos / "a.png", "--json", *options)
    assert (result.exit_code, rows(result)[0]["status"]) == (0, "skipped")
    result = derain(photos, *options)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "2 skipped in" in result.stderr
