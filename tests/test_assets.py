"""Folders of the package, and environment variables."""

import os
from pathlib import Path

import pytest

from restore_cli import assets


def test_a_checkout_has_its_weights_and_samples_beside_the_package():
    assert (assets.weights_dir() / "manifest.json").is_file()
    assert assets.samples_dir().parent == assets.weights_dir().parent


def test_a_wheel_has_its_weights_inside_the_package(tmp_path, monkeypatch):
    (tmp_path / "restore_cli" / "bundled").mkdir(parents=True)
    monkeypatch.setattr(assets, "files", lambda package: tmp_path / package)
    assert assets.weights_dir() == tmp_path / "restore_cli" / "bundled" / "weights"


def test_restore_cache_chooses_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "mine"))
    assert assets.cache_dir() == tmp_path / "mine"


def test_restore_cache_knows_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("RESTORE_CACHE", "~/mine")
    assert assets.cache_dir() == tmp_path / "mine"


@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_without_restore_cache_the_platform_chooses(value, monkeypatch):
    monkeypatch.delenv("RESTORE_CACHE", raising=False)
    if value is not None:
        monkeypatch.setenv("RESTORE_CACHE", value)
    assert assets.cache_dir().is_absolute()
    assert "restore" in assets.cache_dir().parts


def test_asking_for_the_cache_makes_no_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "mine"))
    assets.cache_dir()
    assert list(Path(tmp_path).iterdir()) == []


@pytest.mark.parametrize(
    ("value", "offline"), [("1", True), ("yes", True), ("0", False), ("", False)]
)
def test_restore_offline_forbids_the_network(value, offline, monkeypatch):
    monkeypatch.setenv("RESTORE_OFFLINE", value)
    assert assets.environment().offline is offline


@pytest.mark.parametrize(("chosen", "policy"), [(None, "passive"), ("active", "active")])
def test_threads_sleep_while_they_wait_unless_the_user_wants_otherwise(chosen, policy, monkeypatch):
    given = {} if chosen is None else {"OMP_WAIT_POLICY": chosen}
    monkeypatch.setattr(os, "environ", given)
    assets.let_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == policy
