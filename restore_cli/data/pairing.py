"""Pairs of images in two folders, by their names."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass

from restore_cli.errors import NothingToDo, UnreadableImage, UsageError
from restore_cli.imaging.folders import images_by_name
from restore_cli.storage import Location, Url, entries, find
from restore_cli.tasks import TASKS

Pair = tuple[Location, Location]  # restored, reference

ENDINGS = {*(task.participle for task in TASKS.values()), "restored"}  # of names of outputs


@dataclass(frozen=True)
class Pairing:
    pairs: list[Pair]
    unpaired: list[Location]


def pair_up(restored: Location, reference: Location) -> Pairing:
    """Pair two files, or the images of two folders and their subfolders.

    Raises UnreadableImage, UsageError, NothingToDo, InputError, and as `storage.entries`.
    """
    are_folders = [_is_folder(restored), _is_folder(reference)]
    if are_folders[0] != are_folders[1]:
        raise UsageError(
            f"only one of {restored} and {reference} is a folder",
            hint="give two images or two folders",
        )
    if not are_folders[0]:
        return Pairing([(restored, reference)], [])
    return match(images_by_name(restored), images_by_name(reference))


def alone(restored: Location) -> list[Location]:
    """Return a file, or the images of a folder and its subfolders, to be measured by themselves.

    Raises UnreadableImage, NothingToDo, InputError, and as `storage.entries`.
    """
    if not _is_folder(restored):
        return [restored]
    found = [*images_by_name(restored).values()]
    if not found:
        raise NothingToDo(f"{restored} has no image")
    return found


def _is_folder(path: Location) -> bool:
    """Return whether a place is a folder, not a file. Raises UnreadableImage if it is nothing."""
    if isinstance(path, Url):
        is_file = bool(path.name) and find(path) is not None
        is_folder = not is_file and next(entries(path, recursive=True), None) is not None
    else:
        is_folder = os.path.isdir(path)
        is_file = os.path.exists(path) and not is_folder
    if not is_file and not is_folder:
        raise UnreadableImage(f"{path}: no such file or folder")
    return is_folder


def match(restored: dict[str, Location], reference: dict[str, Location]) -> Pairing:
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
    return Pairing(pairs, sorted(left, key=str))


def plain_name(name: str) -> str:
    """Return a name without the ending of restored images, such as _derained."""
    stem, _, ending = name.rpartition("_")
    return stem if ending in ENDINGS else name
