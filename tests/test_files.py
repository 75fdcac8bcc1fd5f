"""Atomic writing: a file is complete or absent, and nothing is replaced without permission."""

import hashlib
import os
import stat
import subprocess
import sys

import pytest

from restore_cli.errors import OutputError, OutputExists
from restore_cli.files import (
    atomic_path,
    free_space,
    remove_open_parts,
    sha256_of,
    write_atomically,
)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "data", [b"new", lambda part: part.write_bytes(b"new")], ids=["bytes", "function"]
)
def test_only_the_target_remains_with_the_permissions_of_the_umask(data, tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "new" / "a", data)
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "a").read_bytes() == b"new"
    assert names_in(tmp_path / "new") == ["a"]
    assert stat.S_IMODE((tmp_path / "new" / "a").stat().st_mode) == 0o640


def test_an_existing_file_is_replaced_only_with_overwrite(tmp_path):
    target = tmp_path / "a"
    target.write_bytes(b"precious")
    with pytest.raises(OutputExists, match=f"^already exists: {target}$"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"precious"
    write_atomically(target, b"new", overwrite=True)
    assert target.read_bytes() == b"new"
    assert names_in(tmp_path) == ["a"]


def unsupported(*paths):
    raise PermissionError("this file system has no links")


@pytest.mark.parametrize("link", [os.link, unsupported], ids=["links", "no links"])
def test_a_file_that_appears_while_writing_is_not_replaced(link, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", link)
    target = tmp_path / "a"

    def write_late(part):
        part.write_bytes(b"new")
        target.write_bytes(b"precious")

    with pytest.raises(OutputExists):
        write_atomically(target, write_late)
    assert target.read_bytes() == b"precious"
    assert names_in(tmp_path) == ["a"]


def test_a_file_system_without_links_is_written_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", unsupported)
    write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names_in(tmp_path) == ["a"]


def test_a_dangling_link_counts_as_existing(tmp_path):
    target = tmp_path / "a"
    target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputExists):
        write_atomically(target, b"new")
    assert target.is_symlink()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OutputError])
def test_a_failure_in_the_middle_leaves_the_folder_as_it_was(error, tmp_path):
    target = tmp_path / "a"
    target.write_bytes(b"precious")

    def fail(part):
        part.write_bytes(b"half of")
        assert part.parent == tmp_path and part.name.startswith(".restore-")
        raise error("in the middle")

    with pytest.raises(error):
        write_atomically(target, fail, overwrite=True)
    assert target.read_bytes() == b"precious"
    assert names_in(tmp_path) == ["a"]


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_a_full_disk_is_reported_and_leaves_nothing(step, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(step, full)
    with pytest.raises(OutputError, match="a: cannot be written: No space left") as caught:
        write_atomically(tmp_path / "a", b"new", overwrite=True, hint="make room")
    assert caught.value.hint == "make room"
    assert names_in(tmp_path) == []


def test_contents_are_on_disk_before_the_name_is(tmp_path, monkeypatch):
    target = tmp_path / "a"
    named = []
    monkeypatch.setattr(os, "fsync", lambda file: named.append(target.exists()))
    write_atomically(target, b"new")
    assert named == [False, True]  # the file, then the folder that names it


def test_a_read_only_folder_is_named(tmp_path, monkeypatch):
    def forbidden(path, data):
        raise PermissionError(13, "Permission denied")  # chmod does not stop root

    monkeypatch.setattr("pathlib.Path.write_bytes", forbidden)
    with pytest.raises(OutputError, match=f"a: no permission to write to {tmp_path}$"):
        write_atomically(tmp_path / "a", b"new")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match=f"a: no permission to write to {tmp_path}$"):
            write_atomically(tmp_path / "a", b"new")
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "a", b"new")


def test_an_error_of_the_body_is_not_taken_for_one_of_the_target(tmp_path):
    with pytest.raises(BrokenPipeError), atomic_path(tmp_path / "a"):
        raise BrokenPipeError
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("size", [0, 3_000_001])
def test_a_checksum_covers_the_whole_file(size, tmp_path):
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    (tmp_path / "a").write_bytes(data)
    assert sha256_of(tmp_path / "a") == sha256_of(data) == hashlib.sha256(data).hexdigest()


KILLED = """
import os, signal, sys
from pathlib import Path
from restore_cli.files import atomic_path
with atomic_path(Path(sys.argv[1])) as part:
    part.write_bytes(b"half")
    print(part.name, flush=True)
    if sys.argv[2:] == ["die"]:
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def start_writing(target, *arguments):
    """Start a process that writes a file, and return it once its part is there."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, target, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline().strip()


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL and locks")
def test_parts_of_killed_processes_are_swept_and_no_other_file(tmp_path):
    foreign = [".restore-notes.part", ".restore-1-ab.part", "a.part", ".restore-x.png.1234.part"]
    for name in foreign:
        (tmp_path / name).write_bytes(b"precious")
    running, part = start_writing(tmp_path / "running")
    killed, left = start_writing(tmp_path / "killed", "die")
    killed.communicate()
    assert {left, part} <= {*names_in(tmp_path)}
    write_atomically(tmp_path / "new", b"new")
    assert names_in(tmp_path) == sorted([*foreign, "new", part])
    running.communicate()
    assert names_in(tmp_path) == sorted([*foreign, "new", "running"])


def test_a_part_that_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    swept = []

    def sweep_first(path, *arguments):
        file = actual(path, *arguments)
        if not swept and str(path).endswith(".part"):
            os.unlink(path)
            swept.append(path)
        return file

    actual = os.open
    monkeypatch.setattr(os, "open", sweep_first)
    write_atomically(tmp_path / "a", b"new")
    assert swept and names_in(tmp_path) == ["a"]


def test_a_file_system_without_locks_is_written_and_not_swept(tmp_path, monkeypatch):
    def unsupported(*arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("restore_cli.files.fcntl.flock", unsupported)
    left = f".restore-1-{'a' * 16}.part"
    (tmp_path / left).write_bytes(b"of another machine")
    write_atomically(tmp_path / "a", b"new")
    assert names_in(tmp_path) == [left, "a"]


def test_a_process_that_ends_at_once_removes_its_parts(tmp_path):
    with atomic_path(tmp_path / "a") as part:
        assert part.exists()
        remove_open_parts()
        assert names_in(tmp_path) == []
        part.write_bytes(b"for the end of the block")


def test_a_disk_that_does_not_tell_its_space_is_not_full(tmp_path, monkeypatch):
    assert free_space(tmp_path) > 0
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"total": 0}))
    assert free_space(tmp_path) is None
