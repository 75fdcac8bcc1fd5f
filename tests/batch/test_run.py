"""Jobs run in order, read ahead and written behind, each failure kept to itself."""

import errno
import io
import threading
import time
import weakref
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image as Pillow
from PIL import PngImagePlugin

from restore_cli.batch import pipeline as module
from restore_cli.batch.jobs import Job, Standard
from restore_cli.batch.pipeline import WAITING, BatchOptions
from restore_cli.batch.run import run
from restore_cli.errors import BrokenOutput
from restore_cli.imaging.transfer import CPU
from restore_cli.inference import together
from restore_cli.inference.report import Report, Restored, StepReport
from restore_cli.worker import Worker


class Inverting:
    """A quick stand-in for a Restorer that remembers what was done, and can be told to fail."""

    device = CPU
    report = Report((StepReport("none", "inverting", "ab" * 32, 64, "fp32", 5, 7, 0.1),))

    def __init__(self, before=lambda number: None):
        self.done = 0
        self.before = before  # is called with the number of the image

    def size_after(self, height, width):
        return height, width

    def __call__(self, image, *, on_progress=None):
        self.before(self.done)
        self.done += 1
        if on_progress is not None:
            on_progress(1, 2)
            on_progress(2, 2)
        return Restored(image.with_pixels(1 - image.pixels), self.report)


@pytest.fixture
def jobs(tmp_path):
    """Jobs for `count` small images of different greys."""

    def make(count):
        made = []
        for number in range(count):
            source = tmp_path / f"{number}.png"
            Pillow.new("RGB", (7, 5), (number, number, number)).save(source)
            made.append(Job(source, tmp_path / "out" / source.name, "png"))
        return made

    return make


def first_level(path):
    with Pillow.open(path) as image:
        return image.getpixel((0, 0))[0]


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert condition()


def test_each_source_becomes_its_target(jobs):
    planned = jobs(5)
    results = list(run(planned, Inverting()))
    assert [result.job for result in results] == planned
    assert [first_level(job.target) for job in planned] == [255, 254, 253, 252, 251]


def test_a_result_says_how_it_came_to_be(jobs):
    (result,) = run(jobs(1), Inverting())
    assert (result.status, result.error, result.report) == ("ok", None, Inverting.report)
    assert (result.width, result.height) == (7, 5)
    assert result.seconds > 0


def test_a_bad_source_fails_alone(jobs):
    planned = jobs(4)
    planned[1].source.write_bytes(b"no image")
    results = {result.job: result for result in run(planned, Inverting())}
    assert [results[job].status for job in planned] == ["ok", "failed", "ok", "ok"]
    assert results[planned[1]].error.kind == "UnreadableImage"
    assert not planned[1].target.exists()


def test_one_warning_names_what_was_not_read_and_what_cannot_be_written(tmp_path, caplog):
    source = tmp_path / "sticker.png"
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", "Two frames")
    first, second = (Pillow.new("RGBA", (7, 5), (level, 0, 0, level)) for level in (90, 91))
    first.save(source, save_all=True, append_images=[second], pnginfo=texts)
    (result,) = run([Job(source, tmp_path / "sticker.jpg", "jpeg")], Inverting())
    assert result.status == "ok"
    assert caplog.messages == [
        f"{source}: read without the other frames; written without "
        "its transparency (composited on white), its texts (Title)"
    ]


def test_hdr_colours_that_the_target_cannot_state_are_refused_before_the_work(jobs):
    (job,) = jobs(1)
    data = job.source.read_bytes()
    body = b"cICP" + bytes([9, 16, 0, 1])
    chunk = b"\0\0\0\4" + body + zlib.crc32(body).to_bytes(4, "big")
    job.source.write_bytes(data[:33] + chunk + data[33:])
    restorer = Inverting()
    (result,) = run([Job(job.source, job.target.with_suffix(".jpg"), "jpeg")], restorer)
    assert result.error.kind == "OutputError"
    assert restorer.done == 0


def test_a_image_that_breaks_the_network_fails_alone(jobs):
    def break_first(number):
        if number == 0:
            restorer.done += 1
            raise BrokenOutput("produced NaN")

    restorer = Inverting(break_first)
    statuses = {result.job.source.name: result.status for result in run(jobs(3), restorer)}
    assert statuses == {"0.png": "failed", "1.png": "ok", "2.png": "ok"}


def test_a_target_that_cannot_be_written_fails_alone(jobs):
    planned = jobs(3)
    planned[1].target.mkdir(parents=True)
    results = {
        result.job: result.status for result in run(planned, Inverting(), BatchOptions("overwrite"))
    }
    assert [results[job] for job in planned] == ["ok", "failed", "ok"]
    assert sorted(path.name for path in planned[0].target.parent.iterdir()) == [
        "0.png",
        "1.png",
        "2.png",
    ]


def test_a_target_that_appeared_meanwhile_is_not_replaced(jobs):
    planned = jobs(1)
    planned[0].target.parent.mkdir()
    planned[0].target.write_bytes(b"precious")
    (result,) = run(planned, Inverting())
    assert result.error.kind == "OutputExists"
    assert planned[0].target.read_bytes() == b"precious"


@pytest.mark.parametrize("late", [False, True], ids=["before the work", "during the work"])
def test_with_skip_a_target_of_another_run_is_skipped(late, jobs):
    planned = jobs(3)
    target = planned[1].target
    target.parent.mkdir()

    def another_run_writes(number):
        if number == late:
            target.write_bytes(b"precious")

    restorer = Inverting(another_run_writes)
    if not late:
        target.write_bytes(b"precious")
    results = {result.job: result.status for result in run(planned, restorer, BatchOptions("skip"))}
    assert [results[job] for job in planned] == ["ok", "skipped", "ok"]
    assert target.read_bytes() == b"precious"
    assert restorer.done == 2 + late


def test_a_bug_ends_the_run(jobs):
    def bug(number):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(run(jobs(3), Inverting(bug)))


def test_images_are_read_while_the_network_works(jobs, monkeypatch):
    read = []

    def reading(path, **options):
        read.append(path)
        return actual(path, **options)

    actual = module.contents
    monkeypatch.setattr(module, "contents", reading)
    restorer = Inverting(lambda number: number or wait_until(lambda: len(read) == 1 + WAITING))
    assert len(list(run(jobs(6), restorer))) == 6


def test_no_more_images_are_held_than_needed(jobs, monkeypatch):
    ahead = []
    started = []
    actual = module.contents

    def reading(path, **options):
        started.append(path)
        return actual(path, **options)

    monkeypatch.setattr(module, "contents", reading)
    restorer = Inverting(lambda number: ahead.append(len(started) - number))
    list(run(jobs(9), restorer))
    assert max(ahead) <= WAITING + 1


def test_small_images_of_one_size_are_restored_together(jobs, monkeypatch):
    """On a GPU; here the same code runs on a CPU."""
    monkeypatch.setattr(module, "batch_size", lambda device, height, width: 4)
    monkeypatch.setattr(module, "_codec_threads", lambda device: 4)
    monkeypatch.setattr(module._Coming, "is_read", lambda coming: coming.loaded is not None)
    planned = jobs(8)
    Pillow.new("RGB", (9, 5)).save(planned[5].source)  # of another size
    planned[2].source.write_bytes(b"no image")
    groups, actual = [], together.together
    monkeypatch.setattr(
        together, "together", lambda calls: groups.append(len(calls)) or actual(calls)
    )
    seen = []
    results = list(run(planned, Inverting(), on_tile=lambda *place: seen.append(place)))
    assert groups == [2, 2, 2]  # 0 and 1, 3 and 4, 6 and 7
    status = {result.job: result.status for result in results}
    assert [status[job] for job in planned] == ["ok"] * 2 + ["failed"] + ["ok"] * 5
    assert {index for index, *_ in seen} == {0, 1, 3, 4, 5, 6, 7}
    for number in (0, 1, 3, 4, 6, 7):
        assert first_level(planned[number].target) == 255 - number


def test_images_are_written_while_the_network_works(jobs):
    planned = jobs(3)
    restorer = Inverting(lambda number: number and wait_until(planned[0].target.exists))
    assert len(list(run(planned, restorer))) == 3


def test_closing_leaves_whole_files_and_no_threads(jobs):
    planned = jobs(20)
    before = threading.active_count()
    results = run(planned, Inverting())
    next(results)
    results.close()
    assert threading.active_count() == before
    written = list(planned[0].target.parent.iterdir())
    assert 0 < len(written) < 20
    assert {path.suffix for path in written} == {".png"}
    assert [first_level(path) for path in written] == [255 - int(path.stem) for path in written]


def test_progress_tells_the_image_and_its_tiles(jobs):
    seen = []
    list(run(jobs(2), Inverting(), on_tile=lambda *progress: seen.append(progress)))
    assert seen == [(0, 1, 2), (0, 2, 2), (1, 1, 2), (1, 2, 2)]


def test_a_pipe_leads_through(tmp_path):
    source, out = io.BytesIO(), io.BytesIO()
    Pillow.new("L", (3, 2), 10).save(source, "png")
    job = Job(Standard.INPUT, Standard.OUTPUT, "png")
    (result,) = run([job], Inverting(), BatchOptions(stdin=source.getvalue(), stdout=out))
    assert result.status == "ok"
    with Pillow.open(out) as image:
        assert image.getpixel((0, 0)) == 245


def test_a_broken_image_on_stdin_is_called_so():
    job = Job(Standard.INPUT, Standard.OUTPUT, "png")
    (result,) = run([job], Inverting(), BatchOptions(stdout=io.BytesIO()))
    assert result.error.message == "stdin: the file is empty"


class FullPipe(io.BytesIO):
    def flush(self):
        raise OSError(errno.ENOSPC, "No space left on device")


class GonePipe(io.BytesIO):
    def flush(self):
        raise BrokenPipeError


def test_a_full_disk_behind_the_pipe_is_a_failure(jobs):
    job = Job(jobs(1)[0].source, Standard.OUTPUT, "png")
    (result,) = run([job], Inverting(), BatchOptions(stdout=FullPipe()))
    assert (result.error.kind, result.error.exit_code) == ("OutputError", 3)


def test_a_reader_that_has_gone_ends_the_run(jobs):
    job = Job(jobs(1)[0].source, Standard.OUTPUT, "png")
    with pytest.raises(BrokenPipeError):
        list(run([job], Inverting(), BatchOptions(stdout=GonePipe())))


def test_nothing_to_do_gives_nothing():
    assert list(run([], Inverting())) == []


def test_a_long_name_fails_when_it_is_written(jobs):
    job = Job(jobs(1)[0].source, Path("a" * 300 + ".png"), "png")
    (result,) = run([job], Inverting())
    assert result.error.kind == "OutputError"


def no_memory(*arguments, **options):
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


@pytest.mark.parametrize("stage", ["contents", "decode_unreported", "encode"])
def test_memory_that_runs_out_in_any_thread_fails_that_image_alone(stage, jobs, monkeypatch):
    actual = getattr(module, stage)
    planned = jobs(4)
    giant = planned[1]
    fails = {
        "contents": lambda path, name: path == giant.source,
        "decode_unreported": lambda data, name, **_: name == str(giant.source),
        "encode": lambda image, **options: image.source == giant.source,
    }[stage]

    def limited(*arguments, **options):
        return (no_memory if fails(*arguments, **options) else actual)(*arguments, **options)

    monkeypatch.setattr(module, stage, limited)
    results = list(run(planned, Inverting()))
    assert [result.job for result in results] == [*planned[:1], *planned[2:], giant]
    assert [result.status for result in results] == ["ok", "ok", "ok", "failed"]
    assert results[-1].error.kind == "OutOfMemory"


def test_an_image_that_runs_out_of_memory_beside_others_is_done_alone(jobs):
    restorer = Inverting(lambda number: None if restorer.done in (0, 2, 3) else crowded())

    def crowded():
        restorer.done += 1
        no_memory()

    results = list(run(jobs(3), restorer))
    assert [result.status for result in results] == ["ok"] * 3
    assert results[-1].job.source.name == "1.png"


def test_an_error_keeps_no_image_in_memory(jobs):
    seen = []

    def fail(number):
        raise BrokenOutput("produced NaN")

    class Watched(Inverting):
        def __call__(self, image, *, on_progress=None):
            seen.append(weakref.ref(image.pixels))
            return super().__call__(image, on_progress=on_progress)

    results = list(run(jobs(2), Watched(fail)))
    assert [result.status for result in results] == ["failed", "failed"]
    assert [reference() for reference in seen] == [None, None]


def test_beside_a_gpu_several_threads_decode_and_encode_in_order(jobs, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr(Inverting, "device", torch.device("cuda"))
    monkeypatch.setattr("restore_cli.imaging.transfer.can_upload", lambda levels, device: False)
    started = []
    monkeypatch.setattr(
        module, "Worker", lambda threads: started.append(threads) or Worker(threads)
    )
    results = list(run(jobs(9), Inverting()))
    assert started == [4, 4]
    assert [result.job.source.name for result in results] == [f"{n}.png" for n in range(9)]
    assert {result.status for result in results} == {"ok"}
