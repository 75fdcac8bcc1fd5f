"""Folders of weights, samples and downloaded files; environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from platformdirs import user_cache_path, user_config_path


@dataclass(frozen=True)
class Environment:
    """Settings from environment variables; they apply to every command."""

    cache: Path | None  # RESTORE_CACHE: folder of downloaded and imported files
    offline: bool  # RESTORE_OFFLINE: any value but "" and "0" disables the network
    settings: Path | None  # RESTORE_CONFIG: the only file of settings that is read
    dumb_terminal: bool  # TERM=dumb: no cursor movement


def environment() -> Environment:
    """Read the environment variables; no other module does."""
    cache, settings = os.environ.get("RESTORE_CACHE"), os.environ.get("RESTORE_CONFIG")
    return Environment(
        cache=Path(os.path.expanduser(cache)) if cache else None,
        offline=os.environ.get("RESTORE_OFFLINE", "") not in ("", "0"),
        settings=Path(os.path.expanduser(settings)) if settings else None,
        dumb_terminal=os.environ.get("TERM") == "dumb",
    )


def set_environment(values: Mapping[str, str]) -> None:
    """Set environment variables for a library that has no other settings."""
    os.environ.update(values)


def weights_dir() -> Path:
    """Return the folder of the bundled weight files and their manifest."""
    return _data_root() / "weights"


def samples_dir() -> Path:
    """Return the folder of the sample photographs."""
    return _data_root() / "samples"


def cache_dir() -> Path:
    """Return RESTORE_CACHE, else the platform's cache folder; it may not exist yet."""
    chosen = environment().cache
    return user_cache_path("restore", appauthor=False) if chosen is None else chosen


def user_settings() -> Path:
    """Return restore.toml in the platform's configuration folder; it may not exist."""
    return user_config_path("restore", appauthor=False) / "restore.toml"


def _data_root() -> Path:
    """Return `restore_cli/bundled` in a wheel, the folder above the package in a checkout."""
    package = Path(str(files("restore_cli")))
    bundled = package / "bundled"
    return bundled if bundled.is_dir() else package.parent
