"""Where weights and samples lie, where fetched files are kept, and what the environment says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from platformdirs import user_cache_path


@dataclass(frozen=True)
class Environment:
    """What the user has set by environment variables; each has an effect even without options."""

    cache: Path | None  # RESTORE_CACHE: the folder for fetched and imported files
    offline: bool  # RESTORE_OFFLINE: anything but "" and "0" forbids the network
    dumb_terminal: bool  # TERM=dumb: what was written there cannot be drawn over


def environment() -> Environment:
    """The only place that reads environment variables."""
    cache = os.environ.get("RESTORE_CACHE")
    return Environment(
        cache=Path(os.path.expanduser(cache)) if cache else None,
        offline=os.environ.get("RESTORE_OFFLINE", "") not in ("", "0"),
        dumb_terminal=os.environ.get("TERM") == "dumb",
    )


def weights_dir() -> Path:
    """The folder of the bundled weight files and their manifest."""
    return _data_root() / "weights"


def samples_dir() -> Path:
    """The folder of the sample photographs."""
    return _data_root() / "samples"


def cache_dir() -> Path:
    """RESTORE_CACHE, else the platform's cache folder. It need not exist yet."""
    chosen = environment().cache
    return user_cache_path("restore", appauthor=False) if chosen is None else chosen


def _data_root() -> Path:
    """`restore_cli/bundled` in a wheel; the folder above the package in a checkout."""
    package = Path(str(files("restore_cli")))
    bundled = package / "bundled"
    return bundled if bundled.is_dir() else package.parent
