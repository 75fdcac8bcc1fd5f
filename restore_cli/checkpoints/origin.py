"""Origin of weights, in a word for tables."""

from __future__ import annotations

import os
from pathlib import Path

from restore_cli.checkpoints import importers, manifest
from restore_cli.checkpoints.load import COMMUNITY, is_ours, is_path
from restore_cli.checkpoints.read import read

OWN = ("restore", "restore train")


def origin_of(name_or_path: str) -> str:
    """Return "restore", "restore train", "official layout", "community" or "imported".

    Official layout: under the names of the published code, so the weights of a paper or of a
    training with that code. Raises WeightsError.
    """
    if is_path(name_or_path):
        return _of_file(Path(os.path.expanduser(name_or_path)))
    entry = manifest.find(name_or_path)
    if entry.importer == COMMUNITY:
        return "community"
    if entry.importer in importers.LAYOUTS:
        return "official layout"
    if entry.name in manifest.bundled_entries():
        return "restore"
    return _of_file(manifest.locate(entry)[1])


def _of_file(path: Path) -> str:
    file = read(path)
    if not is_ours(file):
        return "community"
    if file.about is None or file.about.record.get("layout") == "official":
        return "official layout"
    return "restore train" if "steps" in file.about.record else "imported"
