"""The classes of a generator's weights, read without loading the tensors."""

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
from restore_cli.errors import UsageError, WeightsCorrupt, WeightsMissing
from restore_cli.registry import GENERATORS, find

LIST_CLASSES = "restore generate --list-classes"
NEAREST = 3  # names to suggest


@dataclass(frozen=True)
class ClassWeights:
    """Weights of a generator and the names of its classes."""

    weights: str  # a name, or the path of a file
    arch: str | None  # None: a file in an official layout, unknown until it is loaded
    classes: tuple[str, ...]  # in the order of their numbers; () where the file names none


def class_weights(name_or_path: str) -> ClassWeights:
    """Read the classes of some weights without their tensors. Raises WeightsError."""
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
    names = about.record.get("classes", []) if about else []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise WeightsCorrupt(f"{name_or_path}: the names of its classes are not a list of texts")
    return ClassWeights(name_or_path, arch, tuple(names))


def candidates(model: str | None = None, weights: str | None = None) -> list[ClassWeights]:
    """Return the weights to choose from, the preferred first.

    Either those that are named, or the default weights of the generators on this machine.
    Raises UsageError, WeightsError.
    """
    if weights is not None:
        return [class_weights(weights)]
    if model is not None:
        return [class_weights(find(model).default_weights)]
    found = installed()
    if not found:
        raise WeightsMissing(
            "no weights of a generator are installed",
            hint="name some: --weights FILE, or --base FOLDER with a Stable Diffusion",
        )
    return found


def installed() -> list[ClassWeights]:
    """Return the default weights of the generators on this machine, the preferred first."""
    available = {name for name, entry in manifest.entries().items() if _is_installed(entry)}
    return [
        class_weights(spec.default_weights)
        for spec in GENERATORS.values()
        if spec.default_weights in available
    ]


def _is_installed(entry: manifest.WeightsEntry) -> bool:
    return manifest.locate(entry)[0] in ("bundled", "cached")


def choose(prompts: Sequence[str], among: Iterable[ClassWeights]) -> ClassWeights:
    """Return the first weights that know the classes of all prompts.

    Raises UsageError, with the nearest names, where none does.
    """
    among = list(among)
    for weights in among:
        if all(number_of(prompt, weights.classes) is not None for prompt in prompts):
            return weights
    names = {normalized(name): name for weights in among for name in weights.classes}
    for prompt in prompts:
        if all(number_of(prompt, weights.classes) is None for weights in among):
            raise UsageError(f"no class is called {prompt!r}", hint=_nearest(prompt, names))
    raise UsageError(
        f"no weights know all of {', '.join(prompts)}", hint="generate them one by one"
    )


def class_number(prompt: str, classes: Sequence[str], count: int) -> int:
    """Return the number of a class of a network with `count` classes. Raises UsageError."""
    number = number_of(prompt, classes)
    if number is None:
        names = {normalized(name): name for name in classes}
        raise UsageError(f"no class is called {prompt!r}", hint=_nearest(prompt, names))
    if number >= count:
        raise UsageError(f"there is no class {number}", hint=f"0 to {count - 1}")
    return number


def number_of(prompt: str, classes: Sequence[str]) -> int | None:
    """Return the number of the class that `prompt` names, or is; None if there is none.

    Without names of classes, any number may be a class.
    """
    plain = [normalized(name) for name in classes]
    if normalized(prompt) in plain:
        return plain.index(normalized(prompt))
    if re.fullmatch(r"\d{1,6}", prompt) and (not classes or int(prompt) < len(classes)):
        return int(prompt)
    return None


def normalized(name: str) -> str:
    """Return a spelling that is equal for "Grand Piano" and "grand_piano"."""
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())


def _nearest(prompt: str, names: Mapping[str, str]) -> str:
    if not names:
        return "these weights name no classes: give a number"
    close = difflib.get_close_matches(normalized(prompt), names, NEAREST, cutoff=0.5)
    if not close:
        return f"all classes: {LIST_CLASSES}"
    return f"the nearest: {', '.join(names[name] for name in close)}; all: {LIST_CLASSES}"
