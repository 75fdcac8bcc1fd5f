"""Atomic writing: a file is complete or absent, and nothing is replaced without permission."""

import hashlib
import os
import stat

import pytest

from restore_cli.errors import OutputError, OutputExists
from restore_cli.files import atomic_path, sha256_of, write_atomically


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
    assert named == [False]
    assert target.exists()


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
