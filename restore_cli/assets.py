"""Folders of weights, samples and downloaded files; environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from platformdirs import user_cache_path, user_config_path

from restore_cli.errors import UsageError


@dataclass(frozen=True)
class Environment:
    """Settings from environment variables; they apply to every command."""

    cache: Path | None  # RESTORE_CACHE: folder of downloaded and imported files
    offline: bool  # RESTORE_OFFLINE: any value but "" and "0" disables the network
    settings: Path | None  # RESTORE_CONFIG: the only file of settings that is read
    dumb_terminal: bool  # TERM=dumb: no cursor movement


def environment() -> Environment:
    """Read the settings; no other module reads environment variables."""
    cache, settings = os.environ.get("RESTORE_CACHE"), os.environ.get("RESTORE_CONFIG")
    return Environment(
        cache=Path(os.path.expanduser(cache)) if cache else None,
        offline=os.environ.get("RESTORE_OFFLINE", "") not in ("", "0"),
        settings=Path(os.path.expanduser(settings)) if settings else None,
        dumb_terminal=os.environ.get("TERM") == "dumb",
    )


def let_threads_sleep() -> None:
    """Let threads of OpenMP sleep while they wait, unless the user has said otherwise.

    For the process of a command, before it loads torch: docs/performance.md, Threads.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def set_environment(values: Mapping[str, str]) -> None:
    """Set environment variables for a library that has no other settings."""
    os.environ.update(values)


@dataclass(frozen=True)
class Launch:
    """Place of this process among those that torchrun or `accelerate launch` has started."""

    rank: int
    count: int
    local_rank: int  # on this machine


def launch() -> Launch | None:
    """Return the place of this process; None where it is the only one. Raises UsageError."""
    count = os.environ.get("WORLD_SIZE", "1")
    if count == "1":
        return None
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise UsageError(
            f"WORLD_SIZE is {count}, but {', '.join(missing)} is not set",
            hint="start several processes by torchrun",
        )
    return Launch(*(int(os.environ[name]) for name in names[:3]))


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
