"""Videos from the command line."""

import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from tests.cli.invoke import restore, rows
from tests.imaging.clips import make_clip, see


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "clip.mp4")


def test_a_video_is_enlarged_beside_its_source(clip, x2):
    result = restore("upscale", clip, "--weights", x2)
    assert result.exit_code == 0, result.stderr
    target = clip.with_name("clip_upscaled.mp4")
    assert result.stdout == f"{target}\n"
    assert "6 frames" in result.stderr
    before, after = see(clip), see(target)
    assert after.size == (96, 128)
    assert (after.rate, after.times, after.sound) == (before.rate, before.times, before.sound)


def test_a_video_is_derained_by_the_same_code(clip, random_weights, tmp_path):
    target = tmp_path / "out.mkv"
    result = restore("derain", clip, "-o", target, "--weights", random_weights)
    assert result.exit_code == 0, result.stderr
    assert see(target).size == (48, 64)
    assert "rain" not in result.stderr.replace("derain", "")


def test_json_has_one_line_for_a_video(clip, x2):
    result = restore("upscale", clip, "--weights", x2, "--json")
    (row,) = rows(result)
    assert (row["width"], row["height"], row["status"]) == (128, 96, "ok")
    assert row["seconds"] > 0
    assert row["weights"] == "x2"


def test_a_folder_gives_its_images_and_videos(clip, x2, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    clip.rename(folder / "clip.mp4")
    Image.new("RGB", (9, 7)).save(folder / "still.png")
    result = restore("upscale", folder, "-o", tmp_path / "out", "--weights", x2, "--format", "jpeg")
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clip.mp4", "still.jpg"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"nothing" * 99, "damaged or not a video"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\0\0\x10\0mdat", "truncated"),
    ],
    ids=["empty", "text", "cut"],
)
def test_a_bad_video_is_one_line_and_exit_3(tmp_path, x2, content, said):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(content)
    result = restore("upscale", bad, "--weights", x2)
    assert result.exit_code == 3
    (message, hint) = result.stderr.splitlines()
    assert said in message
    assert hint.startswith("hint: ")
    assert not list(tmp_path.glob("*upscaled*"))


def test_one_bad_video_does_not_stop_the_rest(clip, x2, tmp_path):
    (tmp_path / "bad.mkv").write_bytes(b"")
    result = restore("upscale", clip, tmp_path / "bad.mkv", "-o", tmp_path / "out", "--weights", x2)
    assert result.exit_code == 6
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--format", "png"), "--format png is for images"),
        (("-o", "out.png"), "a video cannot become .png"),
        (("-o", "-"), "a video cannot go to stdout"),
    ],
    ids=["format", "image", "stdout"],
)
def test_an_output_that_no_video_can_have_is_exit_2(clip, options, said, monkeypatch):
    monkeypatch.chdir(clip.parent)
    result = restore("upscale", "clip.mp4", *options)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_video_on_stdin_is_refused_by_name(clip, x2):
    result = restore("upscale", "-", "--format", "png", "--weights", x2, input=clip.read_bytes())
    assert result.exit_code == 3
    assert result.stderr.splitlines() == [
        "restore: stdin: a video, not an image",
        "hint: a video is read from a file with its suffix, for example clip.mp4",
    ]


def test_quality_is_for_videos_too(clip, x2):
    sizes = []
    for quality in (10, 100):
        target = clip.with_name(f"{quality}.mp4")
        result = restore("upscale", clip, "-o", target, "--weights", x2, "--quality", quality)
        assert result.exit_code == 0, result.stderr
        sizes.append(target.stat().st_size)
    assert sizes[0] < sizes[1]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_leaves_nothing_and_is_exit_130(tmp_path, x2, interruptible):
    clip = make_clip(tmp_path / "clip.mp4", frames=400, size=(128, 192), sound=None)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "restore_cli", "upscale", clip, "-o", f"{out}/"]
    process = subprocess.Popen([*command, "--weights", x2], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(out.glob(".restore-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines() == ["restore: interrupted"]
    assert list(out.iterdir()) == []
