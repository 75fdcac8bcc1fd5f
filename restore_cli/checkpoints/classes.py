"""The classes that the weights of a generator know, read without loading them."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from restore_cli.checkpoints import manifest
from restore_cli.checkpoints.load import is_path
from restore_cli.checkpoints.read import read_about
from restore_cli.errors import UsageError, WeightsMissing
from restore_cli.registry import GENERATORS

LIST_THEM = "all of them: restore generate --list-classes"
NEAREST = 3  # names that are offered


@dataclass(frozen=True)
class ClassWeights:
    """Weights of a generator, and the names of its classes in the order of their numbers."""

    weights: str  # a name, or the path of a file
    arch: str | None  # None: a file in an official layout, which has to be loaded to know
    classes: tuple[str, ...]  # () where the file does not tell


def class_weights(name_or_path: str) -> ClassWeights:
    """What is known of some weights without reading their tensors. Raises WeightsError."""
    if is_path(name_or_path):
        about = read_about(Path(os.path.expanduser(name_or_path)))
        arch = about.arch if about else None
    else:
        entry = manifest.find(name_or_path)
        where, path = manifest.locate(entry)
        if where in ("fetchable", "missing"):
            raise WeightsMissing(
                f"{name_or_path} is not on this machine",
                hint=f"run: restore weights fetch {name_or_path}",
            )
        about, arch = read_about(path), entry.arch
    names = about.record.get("classes", ()) if about else ()
    return ClassWeights(name_or_path, arch, tuple(map(str, names)))


def installed() -> list[ClassWeights]:
    """The generators' own weights as far as they are on this machine, the default one first."""
    known = {name for name, entry in manifest.entries().items() if _is_here(entry)}
    return [
        class_weights(spec.default_weights)
        for spec in GENERATORS.values()
        if spec.default_weights in known
    ]


def _is_here(entry: manifest.WeightsEntry) -> bool:
    return manifest.locate(entry)[0] in ("bundled", "cached")


def choose(prompts: Sequence[str], candidates: Iterable[ClassWeights]) -> ClassWeights:
    """The first that knows the classes of all prompts.

    Raises UsageError with the nearest names where none does.
    """
    candidates = list(candidates)
    for candidate in candidates:
        if all(number_of(prompt, candidate.classes) is not None for prompt in prompts):
            return candidate
    names = {spelt(name): name for candidate in candidates for name in candidate.classes}
    for prompt in prompts:
        if all(number_of(prompt, candidate.classes) is None for candidate in candidates):
            raise UsageError(f"no class is called {prompt!r}", hint=_nearest(prompt, names))
    raise UsageError(f"no weights know all of {', '.join(prompts)}", hint="make them one by one")


def number_of(prompt: str, classes: Sequence[str]) -> int | None:
    """The number of the class that `prompt` names, or gives itself; None if there is none.

    Where the names are not known any number may be one: the network is asked later.
    """
    plain = [spelt(name) for name in classes]
    if spelt(prompt) in plain:
        return plain.index(spelt(prompt))
    if re.fullmatch(r"\d{1,6}", prompt) and (not classes or int(prompt) < len(classes)):
        return int(prompt)
    return None


def spelt(name: str) -> str:
    """Equal for names that a reader takes for one: Grand Piano, grand_piano."""
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())


def _nearest(prompt: str, names: Mapping[str, str]) -> str:
    if not names:
        return "these weights name no classes: give a number"
    close = difflib.get_close_matches(spelt(prompt), names, NEAREST, cutoff=0.5)
    if not close:
        return LIST_THEM
    return f"the nearest: {', '.join(names[name] for name in close)}; {LIST_THEM}"
