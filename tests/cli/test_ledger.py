"""`restore ledger`, and the options of restoring commands that need a ledger."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from PIL import Image

from restore_cli.batch.ledger import Ledger
from tests.cli.invoke import restore, rows
from tests.test_startup import HEAVY, loaded_by

derain = partial(restore, "derain")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.effect_noise((12, 9), 50).convert("RGB").save(folder / name)
    return folder


@pytest.fixture
def ran(photos, tmp_path, random_weights):
    """Arguments of a run with a ledger that has ended, with one failure."""
    (photos / "c.png").write_text("no image")
    book, out = tmp_path / "run.sqlite", tmp_path / "out"
    arguments = (photos, "-o", out, "--ledger", book, "--weights", random_weights)
    assert derain(*arguments).exit_code == 6
    return arguments


def test_a_second_run_skips_what_is_done_and_loads_nothing(ran):
    arguments = [*map(str, ran), "--json"]
    code = (
        "from restore_cli.cli.main import app\n"
        f"try:\n    app(['derain', *{arguments!r}])\n"
        "except SystemExit as end:\n    assert end.code == 6"
    )
    assert not HEAVY & loaded_by(code)


def test_a_second_run_reports_what_was_skipped_and_what_failed_before(ran):
    result = derain(*ran, "--json")
    assert [row["status"] for row in rows(result)] == ["skipped", "skipped", "failed"]
    assert "2 skipped, 1 failed" in result.stderr
    assert result.exit_code == 6


def test_failures_are_repeated_when_asked(ran, photos):
    Image.effect_noise((12, 9), 50).convert("RGB").save(photos / "c.png")
    os.utime(photos / "c.png", (0, 0))
    assert derain(*ran, "--retry-failed").exit_code == 0


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--seed", 1], 2),
        (["--no-record"], 2),
        (["--strength", 0.5], 2),
        (["--quiet", "--device", "cpu", "--skip-existing"], 0),
    ],
    ids=["seed", "record", "strength", "no effect"],
)
def test_only_options_that_change_results_do_everything_again(ran, photos, options, count):
    (photos / "c.png").unlink()
    result = derain(*ran, *options, "--dry-run")
    assert len(result.stdout.splitlines()) == count


def test_other_weights_under_the_same_name_do_everything_again(ran, photos, random_weights):
    from restore_cli import registry
    from restore_cli.checkpoints.save import save

    (photos / "c.png").unlink()
    random_weights.unlink()
    save(registry.build("dpenet"), random_weights, arch="dpenet", config={}, record={})
    assert len(derain(*ran, "--dry-run").stdout.splitlines()) == 2


def test_show_counts_the_items_and_names_the_failures(ran, tmp_path):
    result = restore("ledger", "show", tmp_path / "run.sqlite")
    assert result.stdout == "failed 1\nok 2\n"
    assert "not an image" in result.stderr
    (counts,) = rows(restore("ledger", "show", tmp_path / "run.sqlite", "--json"))
    assert counts == {"ok": 2, "failed": 1, "started": 0}


def test_export_writes_all_items_as_json_and_csv(ran, tmp_path):
    items = rows(restore("ledger", "export", tmp_path / "run.sqlite"))
    text = restore("ledger", "export", tmp_path / "run.sqlite", "--format", "csv").stdout
    table = list(csv.DictReader(io.StringIO(text)))
    assert [item["status"] for item in items] == ["ok", "ok", "failed"]
    assert [row["target"] for row in table] == [item["target"] for item in items]


def test_merge_adds_the_items_of_shards(photos, tmp_path, random_weights):
    for part in (1, 2):
        book = tmp_path / f"{part}.sqlite"
        options = ("--ledger", book, "--shard", f"{part}/2", "--weights", random_weights)
        assert derain(photos, "-o", tmp_path / "out", *options).exit_code == 0
    books = [tmp_path / f"{name}.sqlite" for name in ("all", 1, 2)]
    assert restore("ledger", "merge", *books).exit_code == 0
    assert restore("ledger", "show", books[0]).stdout == "ok 2\n"


@pytest.mark.parametrize("command", ["show", "export"])
def test_a_missing_ledger_is_an_error_and_not_created(tmp_path, command):
    result = restore("ledger", command, tmp_path / "none.sqlite")
    assert (result.exit_code, "no such ledger" in result.stderr) == (3, True)
    assert list(tmp_path.glob("none*")) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--retry-failed"], "needs a ledger"),
        (["--watch"], "needs a ledger"),
        (["--fingerprint", "sha256"], "--fingerprint needs a ledger"),
        (["--fingerprint", "mtime"], "--fingerprint needs a ledger"),
        (["--watch", "--dry-run", "--ledger", "x.sqlite"], "contradict"),
        (["--watch", "--report", "x.html", "--ledger", "x.sqlite"], "contradict"),
        (["--shard", "0/4"], "from 1 to N"),
        (["--shard", "5/4"], "from 1 to N"),
        (["--shard", "1"], "from 1 to N"),
    ],
)
def test_options_that_contradict_each_other_are_refused(photos, options, said):
    result = derain(photos, *options)
    assert (result.exit_code, said in result.stderr) == (2, True)


def test_a_fingerprint_of_the_settings_needs_no_ledger(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("RESTORE_DERAIN_FINGERPRINT", "sha256")
    assert derain(photos, "-o", tmp_path / "out", "--dry-run").exit_code == 0


def test_an_empty_shard_is_no_error(photos, tmp_path):
    (photos / "b.png").unlink()
    codes = {derain(photos, "--dry-run", "--shard", f"{i}/9").exit_code for i in range(1, 10)}
    assert codes == {0}


def test_adapting_has_no_ledger(photos, tmp_path):
    result = restore("denoise", photos, "--adapt", "--ledger", tmp_path / "x.sqlite")
    assert (result.exit_code, "contradict" in result.stderr) == (2, True)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_watching_restores_what_arrives_and_ends_by_a_signal(
    photos, tmp_path, random_weights, interruptible
):
    out, book = tmp_path / "out", tmp_path / "run.sqlite"
    command = [sys.executable, "-m", "restore_cli", "derain", photos, "-o", out, "--watch"]
    command += ["--ledger", book, "--weights", random_weights]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert {process.stdout.readline() for _ in range(2)} == {
            f"{out / name}\n" for name in ("a.png", "b.png")
        }
        hidden = photos / ".c.png"
        Image.effect_noise((12, 9), 50).convert("RGB").save(hidden)
        hidden.rename(photos / "c.png")
        assert process.stdout.readline() == f"{out / 'c.png'}\n"
        time.sleep(0.1)  # the row is written after the line
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
        assert process.wait() == 143
    assert "Traceback" not in said
    assert {item.status for item in Ledger(book).items()} == {"ok"}
    assert not list(tmp_path.glob("*-wal"))
