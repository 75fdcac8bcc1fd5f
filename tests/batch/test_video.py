"""Restoration of videos: the input of the network, and the overlap of the three threads."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.batch.jobs import Job
from restore_cli.batch.run import run
from restore_cli.batch.video import WAITING, LumaFrames, RgbFrames, frame_converter, restore_video
from restore_cli.checkpoints.load import Checkpoint
from restore_cli.errors import BrokenOutput, OutputError, UnreadableVideo
from restore_cli.imaging.video.reader import Clip
from restore_cli.imaging.video.writer import ClipWriter
from restore_cli.imaging.video.yuv import Layout, from_rgb, to_rgb
from restore_cli.inference.options import ImageSize, RunOptions
from restore_cli.inference.report import Report, Restored, StepReport
from restore_cli.inference.restorer import Restorer, load_restorer
from restore_cli.inference.upscaler import Target, Upscaler
from tests.imaging.clips import frames_of, make_clip, see


class Same:
    """A restorer that returns each image unchanged, and counts."""

    device = torch.device("cpu")
    report = Report((StepReport("dpenet", "same", "ab" * 32, None, "fp32", 48, 64, 0.1),))

    def __init__(self, before=lambda number: None):
        self.done = 0
        self.before = before  # is called with the number of the frame

    def size_after(self, height, width):
        return height, width

    def __call__(self, image, *, on_progress=None):
        self.before(self.done)
        self.done += 1
        return Restored(image, self.report)


def network(arch, **config):
    spec = registry.configured(registry.MODELS[arch], config)
    checkpoint = Checkpoint(arch, Path("none"), "", spec, registry.build(arch, **config).eval())
    return Restorer(checkpoint, RunOptions(precision="fp32", device="cpu"))


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert condition()


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "clip.mp4", frames=8)


def restored(clip, restorer, **options):
    target = clip.with_name("out.mp4")
    return restore_video(clip, target, restorer, format="mp4", **options), target


def test_all_frames_come_out_in_order(clip):
    movie, target = restored(clip, Same())
    assert (movie.width, movie.height, movie.frames) == (64, 48, 8)
    before, after = see(clip), see(target)
    assert after.times == before.times
    assert after.sound == before.sound
    for old, new in zip(before.luma, after.luma, strict=True):
        assert np.abs(old.astype(int) - new).mean() < 3


def test_espcn_gets_luma_alone(clip):
    espcn = network("espcn", scale=2)
    assert isinstance(frame_converter(espcn), LumaFrames)
    movie, target = restored(clip, espcn)
    assert (movie.width, movie.height) == (128, 96)
    assert see(target).size == (96, 128)


def test_an_upscaler_of_espcn_gets_luma_alone():
    options, weights = RunOptions(precision="fp32", device="cpu"), {2: "espcn.x2"}
    upscaler = Upscaler(weights, options, Target(size=ImageSize(31, 21)))
    assert isinstance(frame_converter(upscaler), LumaFrames)
    luma, report = upscaler.run_luma(torch.rand(1, 12, 16))
    assert luma.shape == (1, 21, 31)
    assert (report.height, report.width) == (21, 31)
    repeated = Upscaler(weights, options, Target(scale=4, repeat=True))
    assert repeated.run_luma(torch.rand(1, 3, 5))[0].shape == (1, 12, 20)


@pytest.mark.parametrize(
    ("arch", "config"), [("dpenet", {}), ("espcn", {"in_channels": 3})], ids=["rgb", "ycbcr"]
)
def test_others_get_colours(arch, config):
    assert isinstance(frame_converter(network(arch, **config)), RgbFrames)


def test_both_converters_make_the_same_image():
    """ESPCN works on luma in either; the rest is rounding, and what 4:2:0 cannot hold."""
    espcn = load_restorer("upscale", RunOptions(weights="espcn.x2", precision="fp32", device="cpu"))
    rows, columns = torch.linspace(0.2, 0.8, 32)[:, None], torch.linspace(0.2, 0.8, 48)
    rgb = torch.stack([rows + 0 * columns, columns + 0 * rows, (rows + columns) / 2])
    planes = from_rgb(rgb, Layout(matrix="bt601"))
    images = []
    for converter in (LumaFrames(espcn), RgbFrames(espcn)):
        prepared = converter.prepare(planes)
        images.append(to_rgb(converter.finish(planes, prepared, converter.restore(prepared)[0])))
    assert_close(*images, atol=5 / 255, rtol=0)


def test_unchanged_frames_stay_bit_for_bit(clip):
    converter = RgbFrames(Same())
    for frame in frames_of(clip):
        prepared = converter.prepare(frame.planes)
        planes = converter.finish(frame.planes, prepared, converter.restore(prepared)[0])
        assert torch.equal(planes.luma, frame.planes.luma)
        assert torch.equal(planes.chroma, frame.planes.chroma)


@pytest.fixture
def read(monkeypatch):
    """A list that grows by each frame that is read."""
    read, frames = [], Clip.frames

    def counted(clip):
        for frame in frames(clip):
            read.append(frame)
            yield frame

    monkeypatch.setattr(Clip, "frames", counted)
    return read


@pytest.fixture
def written(monkeypatch):
    """A list that grows by each frame that is written."""
    written, write = [], ClipWriter.write

    def counted(writer, frame):
        write(writer, frame)
        written.append(frame)

    monkeypatch.setattr(ClipWriter, "write", counted)
    return written


def test_frames_are_read_while_the_network_works(clip, read):
    restored(clip, Same(lambda number: number or wait_until(lambda: len(read) == 1 + WAITING)))


def test_frames_are_written_while_the_network_works(clip, written):
    restored(clip, Same(lambda number: number and wait_until(lambda: written)))
    assert len(written) == 8


def test_no_more_frames_are_held_than_needed(tmp_path, read, written):
    held = []
    clip = make_clip(tmp_path / "clip.mp4", frames=30)
    restored(clip, Same(lambda number: held.append(len(read) - len(written))))
    assert max(held) <= 2 * WAITING + 3


def test_progress_tells_frames(clip):
    seen = []
    restored(clip, Same(), on_frame=lambda *progress: seen.append(progress))
    assert [done for done, _ in seen] == list(range(1, 9))
    assert seen[-1][1] >= 8


def test_a_network_that_fails_leaves_nothing(clip):
    def fail(number):
        if number == 3:
            raise BrokenOutput("produced NaN")

    threads = threading.active_count()
    with pytest.raises(BrokenOutput):
        restored(clip, Same(fail))
    assert [path.name for path in clip.parent.iterdir()] == ["clip.mp4"]
    assert threading.active_count() == threads


def test_ctrl_c_leaves_nothing(clip):
    def interrupt(number):
        if number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restored(clip, Same(interrupt))
    assert [path.name for path in clip.parent.iterdir()] == ["clip.mp4"]


def test_a_writer_that_fails_ends_the_work(clip, monkeypatch):
    def fail(self, frame):
        raise UnreadableVideo("stands for any error")

    monkeypatch.setattr(ClipWriter, "write", fail)
    network = Same()
    with pytest.raises(UnreadableVideo):
        restored(clip, network)
    assert network.done <= 2 + WAITING


def test_stills_and_videos_go_through_one_run(clip, tmp_path):
    from PIL import Image as Pillow

    still = tmp_path / "still.png"
    Pillow.new("RGB", (7, 5), (9, 9, 9)).save(still)
    (tmp_path / "bad.mp4").write_bytes(b"")
    jobs = [
        Job(still, tmp_path / "out" / "1.png", "png"),
        Job(clip, tmp_path / "out" / "2.mp4", "mp4"),
        Job(tmp_path / "bad.mp4", tmp_path / "out" / "3.mp4", "mp4"),
        Job(still, tmp_path / "out" / "4.png", "png"),
    ]
    progress = []
    results = {
        result.job.target.name: result
        for result in run(jobs, Same(), on_tile=lambda *told: progress.append(told))
    }
    assert {name: result.status for name, result in results.items()} == {
        "1.png": "ok",
        "2.mp4": "ok",
        "3.mp4": "failed",
        "4.png": "ok",
    }
    film = results["2.mp4"]
    assert (film.frames, film.width, film.height, film.report.weights) == (8, 64, 48, "same")
    assert (1, 8, 8) in progress
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "1.png",
        "2.mp4",
        "4.png",
    ]


def test_a_video_beyond_its_encoder_is_refused_before_the_first_frame(clip, tmp_path):
    class Giant(Same):
        def size_after(self, height, width):
            return 64, 16_386

    giant = Giant()
    with pytest.raises(OutputError, match="16386 x 64 pixels, but libx264 supports at most 16,384"):
        restore_video(clip, tmp_path / "out.mp4", giant, format="mp4")
    assert giant.done == 0
    assert not (tmp_path / "out.mp4").exists()
