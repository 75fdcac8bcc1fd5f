"""The need of an image is known from its header, before any work."""

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from restore_cli.batch import giants, plan
from restore_cli.batch.needs import LARGE, need_of
from restore_cli.batch.plan import Enlargement
from restore_cli.errors import OutOfMemory, OutputError
from restore_cli.imaging.headers import read_header
from restore_cli.memory import Room
from tests.imaging.images import noise, png_file

MANY = 1 << 40  # bytes


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def with_room(monkeypatch):
    """with_room(memory, addresses, disk): the bytes that a plan finds free."""

    def limit(memory=MANY, addresses=None, disk=MANY):
        monkeypatch.setattr(plan, "room", lambda: Room(memory, addresses))
        monkeypatch.setattr("restore_cli.batch.needs.free_space", lambda folder: disk)

    return limit


def sparse(name, side):
    """A TIFF with holes, which takes no disk."""
    tifffile.memmap(name, shape=(side, side, 3), dtype=np.uint8, photometric="rgb")


def jpeg(name, side, *, progressive=False):
    """A JPEG whose header states a size; its pixels are never read."""
    Pillow.new("RGB", (64, 64)).save(name, progressive=progressive)
    data = bytearray(Path(name).read_bytes())
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", side, side)
    Path(name).write_bytes(bytes(data) + bytes(side * side // 1000))


def planned(*sources, task="derain", **options):
    return plan.plan(sources, "out/", task=task, model="any", **options)


def refusal(*sources, **options):
    (item,) = planned(*sources, **options).unreadable
    return item.error


def test_of_an_image_in_memory_source_and_result_are_held_as_floats(here, with_room):
    jpeg("a.jpg", 3000)
    with_room(memory=3000 * 3000 * 3 * 4 * (1 + 4) - 1)
    error = refusal("a.jpg", format="png", scale=Enlargement(2))
    assert isinstance(error, OutOfMemory)
    assert error.message.startswith("a.jpg: 3000 x 3000 pixels take at least 540 MB of memory")
    with_room(memory=3000 * 3000 * 3 * 4 * (1 + 4))
    assert not planned("a.jpg", format="png", scale=Enlargement(2)).unreadable


def test_the_other_images_go_on(here, with_room):
    jpeg("a.jpg", 4000)
    Pillow.new("RGB", (60, 40)).save("b.jpg")
    with_room(memory=100_000_000)
    found = planned("a.jpg", "b.jpg")
    assert [job.source.name for job in found.jobs] == ["b.jpg"]
    assert [item.source for item in found.unreadable] == ["a.jpg"]


@pytest.mark.parametrize("format", ["png", "tiff"])
def test_of_a_giant_that_is_read_and_written_by_rows_no_memory_grows(here, with_room, format):
    sparse("a.tif", 20_000)
    with_room(memory=0)
    assert not planned("a.tif", format=format, scale=Enlargement(2)).unreadable


@pytest.mark.parametrize(
    ("format", "each"), [("jpeg", 4), ("avif", 16), ("jxl", 16)], ids=["jpeg", "avif", "jxl"]
)
def test_an_encoder_that_holds_a_giant_is_refused_with_another_format(
    here, with_room, format, each
):
    sparse("a.tif", 10_000)
    with_room(memory=10_000**2 * each - 1)
    error = refusal("a.tif", format=format)
    assert isinstance(error, OutOfMemory)
    assert "--format png" in error.hint


@pytest.mark.parametrize(("progressive", "is_refused"), [(False, False), (True, True)])
def test_a_decoder_that_holds_a_giant_is_refused(here, with_room, progressive, is_refused):
    jpeg("a.jpg", 10_000, progressive=progressive)
    with_room(memory=10_000**2 * 2 - 1)
    assert bool(planned("a.jpg", format="png").unreadable) == is_refused


def test_mapped_files_count_for_the_address_space_alone(here, with_room):
    sparse("a.tif", 10_000)
    size = 10_000**2 * 3
    file = Path("a.tif").stat().st_size
    with_room(memory=0, addresses=size + file - 1)
    error = refusal("a.tif", format="png")
    assert "600 MB of address space" in error.message and "ulimit -v" in error.hint
    with_room(memory=0, addresses=size + file)
    assert not planned("a.tif", format="png").unreadable


def test_a_process_without_address_space_is_not_the_fault_of_an_image(here, with_room):
    jpeg("a.jpg", 10)
    with_room(memory=1 << 30, addresses=0)
    assert not planned("a.jpg", format="png").unreadable


@pytest.mark.parametrize(("task", "kept"), [("derain", 0), ("denoise", 12)])
def test_a_disk_without_room_for_a_giant_is_refused_in_the_plan(here, with_room, task, kept):
    sparse("a.tif", 10_000)
    sparse("b.tif", 100)
    most = 10_000**2 * (3 + kept + 3)
    with_room(disk=most - 1)
    found = planned("a.tif", "b.tif", task=task, format="png")
    (item,) = found.unreadable
    assert isinstance(item.error, OutputError)
    assert "takes up to" in item.error.message and len(found.jobs) == 1
    with_room(disk=most)
    assert planned("a.tif", task=task, format="png").large["a.tif"].disk == most


def test_what_goes_to_stdout_is_held_in_memory(here):
    sparse("a.tif", 10_000)
    header = read_header(Path("a.tif"))
    need = need_of(header, 9, "png", (10_000, 10_000), task="derain", piped=True)
    assert (need.disk, need.memory) == (0, 10_000**2 * 2 * 3 * 4)


def test_the_plan_says_what_a_giant_takes(here, with_room):
    sparse("a.tif", 10_000)
    with_room()
    (need,) = planned("a.tif", format="png").large.values()
    assert str(need) == "up to 600 MB of disk and about 1.3 GB of memory"


@pytest.mark.parametrize("side", [100, 10_000])
def test_the_header_of_a_planned_file_is_read_once(here, with_room, side, monkeypatch):
    sparse("a.tif", side)
    with_room()
    (job,) = planned("a.tif", format="png").jobs
    monkeypatch.setattr(giants, "read_header", None)

    class SameSize:
        def size_after(self, height, width):
            return height, width

        def stored_bytes(self, height, width):
            return 0

    need = giants.disk_need(job.source, "png", SameSize(), job.size)
    assert need == (None if 2 * side**2 <= LARGE else side**2 * 6)


@pytest.mark.parametrize(
    ("name", "colours", "held"),
    [("rows", 3, 0), ("interlaced", 3, 3), ("grey", 1, 0)],
)
def test_the_header_tells_whether_a_png_is_decoded_by_rows(name, colours, held, here):
    levels = noise(9, 7, 1 if name == "grey" else 3)
    Path("a.png").write_bytes(png_file(levels, interlaced=name == "interlaced"))
    header = read_header(Path("a.png"))
    assert (header.colours, header.decoder_bytes) == (colours, held)
