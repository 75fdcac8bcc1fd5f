"""A ledger tells what is done, and a plan with one leaves that out."""

import os
import sqlite3
import zlib
from functools import partial
from itertools import chain
from pathlib import Path

import pytest
from PIL import Image

from restore_cli.batch.ledger import Ledger
from restore_cli.batch.plan import plan
from restore_cli.batch.run import run, run_plan
from restore_cli.batch.sources import Shard
from restore_cli.errors import InputError, OutputExists, UnreadableImage, UsageError
from restore_cli.files import sha256_of
from restore_cli.imaging.transfer import CPU
from restore_cli.inference.report import Report, Restored, StepReport

posix_only = pytest.mark.skipif(os.name != "posix", reason="POSIX file names")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c"):
        draw(f"in/{name}.png")
    return tmp_path


def draw(name, size=(7, 5)):
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    Image.effect_noise(size, 50).convert("RGB").save(path, "PNG")


class Inverting:
    """A restorer without a network."""

    device = CPU

    def __call__(self, image, *, on_progress=None):
        size = (image.height, image.width)
        step = StepReport("toy", "toy.default", "f" * 64, None, "fp32", *size, seconds=0.0)
        return Restored(image.with_pixels(1 - image.pixels), Report((step,)))

    def size_after(self, height, width):
        return height, width


engine = partial(run, restorer=Inverting())


def ledger(name="run.sqlite", *, weights=("f" * 64,), **options):
    return Ledger(Path(name), weights=weights, **options)


def planned(book, *sources, existing="error", shard=None):
    return plan(
        sources or ("in",),
        "out",
        task="derain",
        model="",
        existing=existing,
        shard=shard,
        ledger=book,
        recursive=True,
    )


def restored(book, *sources, **options):
    """Names of the sources that are worked on."""
    return [r.job.source.name for r in run_plan(planned(book, *sources, **options), engine)]


def statuses(book):
    return {Path(item.source).name: item.status for item in book.items()}


def test_a_second_run_does_nothing(here):
    assert restored(ledger()) == ["a.png", "b.png", "c.png"]
    again = planned(ledger())
    assert (len(again.jobs), len(again.skipped)) == (0, 3)


def test_a_row_has_the_hashes_and_the_time(here):
    restored(ledger())
    item = next(ledger().items())
    assert item.source == str(here / "in/a.png")
    assert item.target == str(here / "out/a.png")
    assert item.output_sha256 == sha256_of(here / "out/a.png")
    assert (item.status, item.attempts, item.weights) == ("ok", 1, "toy.default")
    assert item.seconds >= 0


def test_a_changed_source_is_done_again(here):
    restored(ledger())
    draw("in/b.png", size=(9, 9))
    assert restored(ledger()) == ["b.png"]
    with Image.open("out/b.png") as image:
        assert image.size == (9, 9)


def test_a_touched_source_is_done_again_by_its_time_but_not_by_its_contents(here):
    restored(ledger(fingerprint="sha256"))
    os.utime("in/b.png", (0, 0))
    assert [job.source.name for job in planned(ledger()).jobs] == ["b.png"]
    assert len(planned(ledger(fingerprint="sha256")).jobs) == 0


def test_other_contents_of_the_same_size_and_time_are_found_by_the_hash(here):
    Path("in/b.png").write_bytes(Path("in/a.png").read_bytes())
    os.utime("in/b.png", (0, 0))
    restored(ledger(fingerprint="sha256"))
    data = bytearray(Path("in/b.png").read_bytes())
    data[-1] ^= 1
    Path("in/b.png").write_bytes(data)
    os.utime("in/b.png", (0, 0))
    assert [job.source.name for job in planned(ledger(fingerprint="sha256")).jobs] == ["b.png"]


@pytest.mark.parametrize(
    "change", [{"options": "other"}, {"weights": ("e" * 64,)}], ids=["options", "weights"]
)
def test_other_options_or_weights_do_everything_again(here, change):
    restored(ledger())
    assert len(planned(ledger(**change)).jobs) == 3


def test_a_lost_output_is_made_again(here):
    restored(ledger())
    Path("out/c.png").unlink()
    assert restored(ledger()) == ["c.png"]


def test_a_failure_is_told_again_and_repeated_only_when_asked(here):
    Path("in/b.png").write_text("no image")
    restored(ledger())
    assert statuses(ledger()) == {"a.png": "ok", "b.png": "failed", "c.png": "ok"}
    (failure,) = planned(ledger()).unreadable
    assert isinstance(failure.error, UnreadableImage)
    assert restored(ledger(retry_failed=True)) == ["b.png"]
    assert [item.attempts for item in ledger().items()] == [1, 2, 1]


def test_a_file_of_another_kind_fails_alone(here):
    Path("in/b.png").write_bytes(b"%PDF-1.4" + bytes(100))
    restored(ledger())
    assert statuses(ledger()) == {"a.png": "ok", "b.png": "failed", "c.png": "ok"}


def test_what_was_in_work_is_done_again_over_its_own_output(here):
    first = planned(book := ledger())
    jobs = book.start_each(first.jobs.numbered())
    next(jobs)
    Path("out").mkdir()
    Path("out/a.png").write_bytes(b"complete, but without a row")
    assert restored(ledger()) == ["a.png", "b.png", "c.png"]


def test_a_file_that_is_not_of_the_ledger_is_not_replaced(here):
    draw("out/b.png")
    with pytest.raises(OutputExists, match=r"out.b\.png"):
        planned(ledger())
    assert restored(ledger(), existing="skip") == ["a.png", "c.png"]


def test_a_file_that_appears_after_the_plan_is_not_replaced(here):
    ready = planned(book := ledger())
    draw("out/b.png")
    before = Path("out/b.png").read_bytes()
    assert {r.job.source.name: r.status for r in run_plan(ready, engine)}["b.png"] == "failed"
    assert Path("out/b.png").read_bytes() == before
    assert statuses(book)["b.png"] == "failed"


def test_a_dry_run_creates_no_file(here):
    assert len(planned(ledger(dry_run=True)).jobs) == 3
    assert not Path("run.sqlite").exists()


@posix_only
def test_file_names_that_are_no_text_are_kept(here):
    name = os.fsdecode(b"in/\xff.png")
    draw(name)
    restored(ledger())
    assert os.fsdecode(b"\xff.png") in statuses(ledger())
    assert len(planned(ledger()).jobs) == 0


def test_capitals_in_names_are_kept(here):
    draw("in/Ü.PNG")
    restored(ledger())
    assert str(here / "out" / "Ü.PNG") in {item.target for item in ledger().items()}


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0"], ids=["text", "cut"])
def test_another_file_is_no_ledger(here, content):
    Path("run.sqlite").write_bytes(content * 100)
    with pytest.raises(InputError, match="not a ledger"):
        ledger()


def test_a_database_of_another_program_is_no_ledger(here):
    other = sqlite3.connect("run.sqlite")
    other.execute("CREATE TABLE something (x)")
    other.close()
    with pytest.raises(InputError, match="not a ledger"):
        ledger()


def test_pipes_have_no_ledger(here):
    with pytest.raises(UsageError, match="contradict"):
        plan(["in/a.png"], "-", task="derain", model="", ledger=ledger())


def test_shards_share_all_sources(here):
    for number in range(40):
        draw(f"in/deep/{number}.png", size=(1, 1))
    parts = [restored(ledger(f"{i}.sqlite"), shard=Shard(i, 3)) for i in (1, 2, 3)]
    assert all(parts)
    assert sorted(chain.from_iterable(parts)) == sorted(
        path.name for path in Path("in").rglob("*.png")
    )


def test_the_shard_of_a_source_depends_on_its_relative_path_alone(here):
    """The formula is part of the interface: machines with other versions share the work."""
    jobs = planned(ledger(), shard=Shard(1, 2)).jobs
    expected = [name for name in ("a.png", "b.png", "c.png") if zlib.crc32(name.encode()) % 2 == 0]
    assert [job.source.name for job in jobs] == expected


def test_a_collision_is_refused_in_every_shard(here):
    draw("in/a.bmp")
    for number in (1, 2):
        with pytest.raises(Exception, match="would both become"):
            planned(ledger(), shard=Shard(number, 2))


def test_merged_ledgers_know_what_all_shards_did(here):
    for number in (1, 2):
        restored(ledger(f"{number}.sqlite"), shard=Shard(number, 2))
    book = ledger("all.sqlite")
    for number in (1, 2):
        book.merge(Path(f"{number}.sqlite"))
    assert len(planned(book).skipped) == 3


def test_the_newer_row_stays_when_ledgers_are_merged(here):
    Path("in/b.png").write_text("no image")
    restored(ledger("old.sqlite"))
    draw("in/b.png")
    restored(ledger("new.sqlite"), existing="overwrite")
    for first, second in (("old", "new"), ("new", "old")):
        book = ledger(f"{first}-{second}.sqlite")
        book.merge(Path(f"{first}.sqlite"))
        book.merge(Path(f"{second}.sqlite"))
        assert statuses(book)["b.png"] == "ok"


def test_a_ledger_that_is_not_there_is_not_merged(here):
    with pytest.raises(InputError, match="no such ledger"):
        ledger().merge(Path("none.sqlite"))


def test_watching_takes_what_is_complete_and_waits_for_the_rest(here):
    book = ledger(watching=True)
    assert len(planned(book).jobs) == 0
    draw("in/d.png")
    draw("in/a.png", size=(9, 9))
    assert [job.source.name for job in planned(book).jobs] == ["b.png", "c.png"]
    assert [job.source.name for job in planned(book).jobs] == ["a.png", "b.png", "c.png", "d.png"]


def test_watching_goes_on_from_the_ledger(here):
    restored(ledger())
    book = ledger(watching=True)
    planned(book)
    draw("in/d.png")
    planned(book)
    assert [job.source.name for job in planned(book).jobs] == ["d.png"]


def test_watching_an_empty_folder_is_no_error(here):
    Path("empty").mkdir()
    assert len(planned(ledger(watching=True), "empty")) == 0


@posix_only
def test_watching_names_once_what_cannot_be_read(here, monkeypatch, caplog):
    monkeypatch.setattr("restore_cli.batch.run.WATCHING", 0)
    results = run_plan(planned(ledger(watching=True)), engine)
    os.symlink("nowhere", "in/link.png")
    assert next(results).status == "ok"
    results.close()
    assert caplog.messages == ["in/link.png: broken link"]


def test_watching_leaves_a_collision_to_the_one_file(here):
    book = ledger(watching=True)
    draw("in/a.bmp")
    draw("out/b.png")
    planned(book)
    found = planned(book)
    assert [job.source.name for job in found.jobs] == ["c.png"]
    assert [Path(item.source).name for item in found.unreadable] == ["a.bmp", "a.png", "b.png"]
