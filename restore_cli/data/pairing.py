"""Pairs of images in two folders, by their names."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from restore_cli.errors import NothingToDo, UnreadableImage, UsageError
from restore_cli.imaging.folders import images_by_name
from restore_cli.tasks import TASKS

Pair = tuple[Path, Path]  # restored, reference

ENDINGS = {*(task.participle for task in TASKS.values()), "restored"}  # of names of outputs


@dataclass(frozen=True)
class Pairing:
    pairs: list[Pair]
    unpaired: list[Path]


def pair_up(restored: Path, reference: Path) -> Pairing:
    """Pair two files, or the images of two folders and their subfolders.

    Raises UnreadableImage, UsageError, NothingToDo, InputError.
    """
    for path in (restored, reference):
        if not os.path.exists(path):
            raise UnreadableImage(f"{path}: no such file or folder")
    if restored.is_dir() != reference.is_dir():
        raise UsageError(
            f"only one of {restored} and {reference} is a folder",
            hint="give two images or two folders",
        )
    if not restored.is_dir():
        return Pairing([(restored, reference)], [])
    return match(images_by_name(restored), images_by_name(reference))


def match(restored: dict[str, Path], reference: dict[str, Path]) -> Pairing:
    """Pair equal names, and `x_derained` with `x` where only one restored image matches `x`."""
    wanted = {name: name if name in reference else plain_name(name) for name in restored}
    claims = Counter(wanted.values())
    partner = {
        name: other
        for name, other in wanted.items()
        if other in reference and (name == other or claims[other] == 1)
    }
    if not partner:
        raise NothingToDo(
            "no image of the first folder has a reference in the second",
            hint="pairs have the same name, apart from the suffix",
        )
    pairs = [(restored[name], reference[partner[name]]) for name in sorted(partner)]
    left = [restored[name] for name in restored.keys() - partner.keys()]
    left += [reference[name] for name in reference.keys() - set(partner.values())]
    return Pairing(pairs, sorted(left))


def plain_name(name: str) -> str:
    """Return a name without the ending of restored images, such as _derained."""
    stem, _, ending = name.rpartition("_")
    return stem if ending in ENDINGS else name
