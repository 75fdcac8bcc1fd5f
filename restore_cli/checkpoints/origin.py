"""Who made some weights, in a word for tables."""

from __future__ import annotations

import os
from pathlib import Path

from restore_cli.checkpoints import importers, manifest
from restore_cli.checkpoints.load import COMMUNITY, is_ours, is_path
from restore_cli.checkpoints.read import read


def origin_of(name_or_path: str) -> str:
    """Return "restore", "restore train", "official layout" or "community".

    Official layout: a file under the names of the published code, so the weights of a paper or
    of a training with that code. Raises WeightsError.
    """
    if is_path(name_or_path):
        file = read(Path(os.path.expanduser(name_or_path)))
        if not is_ours(file):
            return "community"
        return "official layout" if file.about is None else "restore train"
    entry = manifest.find(name_or_path)
    if entry.importer == COMMUNITY:
        return "community"
    if entry.importer in importers.LAYOUTS:
        return "official layout"
    return "restore" if entry.name in manifest.bundled_entries() else "restore train"
