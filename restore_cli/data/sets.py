"""Test sets in folders: public ones, and pairs of the user.

No set is bundled. A set is a folder of its name, with pairs of files of the same names in two
folders:

    input/ target/        the task has to be named
    noisy/ clean/         denoise          noisy25/ original/   the same
    low/ high/            enhance          rainy/ clean/        derain
    LR/ HR/               upscale; also x2/LR/ x2/HR/ and LR_x2/ HR/, likewise for 3 and 4

Names of low-resolution files may end in _LR and x2, those of high-resolution files in _HR. A
public set of clean images alone gets synthetic noise.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from restore_cli.data.noise import gaussian_noise
from restore_cli.data.public_sets import PublicSet
from restore_cli.errors import InputError, NothingToDo, UnreadableImage, UsageError
from restore_cli.imaging.folders import image_files
from restore_cli.imaging.io import read
from restore_cli.tasks import TASKS, TaskName

logger = logging.getLogger(__name__)

SCALES = (2, 3, 4)
# Folders of pairs, and their task; None: the folders do not say.
LAYOUTS: Sequence[tuple[str, str, TaskName | None]] = (
    ("input", "target", None),
    *((*folders, task.name) for task in TASKS.values() for folders in task.pair_folders),
)


@dataclass(frozen=True)
class Pair:
    """Degraded and clean image; degraded None: made from the clean one."""

    degraded: Path | None
    clean: Path
    part: str | None = None


@dataclass(frozen=True)
class PairSet:
    """Pairs of one task and scale."""

    name: str
    task: TaskName
    pairs: tuple[Pair, ...]
    scale: int = 1
    sigma: float | None = None  # see PublicSet

    @property
    def protocol(self) -> str:
        """Name of the protocol that papers use for the task (docs/evaluation.md)."""
        is_usual = self.scale == 1 or self.scale in SCALES
        return TASKS[self.task].protocol.format(scale=self.scale) if is_usual else "y"


def public_pairs(public: PublicSet, data: Path, part: str | None = None) -> list[PairSet]:
    """Return the pairs of a public set in data/NAME, or of a part of it, for each scale.

    Raises NothingToDo with the source of the set.
    """
    folder = data / public.name
    if not folder.is_dir():
        raise NothingToDo(
            f"{public.name} is not in {data}",
            hint=f"source: {public.source} (licence: {public.licence}); expected in {folder}: "
            f"{public.layout}",
        )
    if public.sigma is not None:
        clean = [Pair(None, path) for path in image_files(folder)]
        return [
            PairSet(
                f"{public.name}+noise{public.sigma:g}", public.task, tuple(clean), 1, public.sigma
            )
        ]
    name = public.name if part is None else f"{public.name}/{part}"
    found = []
    for _, scale, pairs in _pair_folders(folder / public.inside):
        labelled = _with_parts(pairs, public.parts)
        wanted = tuple(pair for pair in labelled if part in (None, pair.part))
        if wanted:
            found.append(PairSet(name, public.task, wanted, scale or 1))
    if not found:
        raise NothingToDo(
            f"{folder} has no pairs" + (f" of {part}" if part else ""),
            hint=f"expected: {public.layout}",
        )
    return found


def folder_pairs(folder: Path, task: TaskName | None = None) -> list[PairSet]:
    """Return the pairs in a folder of the user; task: needed where the folder names are general.

    Raises NothingToDo, UsageError, InputError.
    """
    found = []
    for stated_task, scale, pairs in _pair_folders(folder):
        factor = scale or _factor(pairs)
        actual = "upscale" if factor > 1 else task or stated_task
        if actual is None:
            raise UsageError(
                f"{folder}: the task of input/ and target/ is not known",
                hint="name it, for example --task derain",
            )
        found.append(PairSet(folder.name, actual, tuple(pairs), factor))
    if not found:
        layouts = ", ".join(f"{degraded}/ {clean}/" for degraded, clean, _ in LAYOUTS)
        raise NothingToDo(f"{folder} has no pairs", hint=f"expected one of: {layouts}")
    return found


def load_pair(pairs: PairSet, index: int) -> tuple[Tensor, Tensor]:
    """Read (degraded, clean), each (C, H, W) in [0, 1]. Raises InputError."""
    pair = pairs.pairs[index]
    truth = read(pair.clean)
    clean = truth.displayed().pixels
    if pair.degraded is not None:
        return read(pair.degraded).on_scale_of(truth).displayed().pixels, clean
    assert pairs.sigma is not None  # sets without degraded files get noise
    generator = torch.Generator().manual_seed(index)
    return gaussian_noise(clean, pairs.sigma / 255, generator), clean


def _pair_folders(folder: Path) -> Iterator[tuple[TaskName | None, int | None, list[Pair]]]:
    """Yield (task, scale, pairs) of each layout found; None: not known from the folder names."""
    for degraded, clean, task in LAYOUTS:
        if pairs := _paired(folder / degraded, folder / clean):
            yield task, None, pairs
    for scale in SCALES:
        for low, high in ((f"x{scale}/LR", f"x{scale}/HR"), (f"LR_x{scale}", "HR")):
            if pairs := _paired(folder / low, folder / high):
                yield "upscale", scale, pairs


def _paired(degraded: Path, clean: Path) -> list[Pair]:
    """Return files of the same plain name, sorted."""
    if not (degraded.is_dir() and clean.is_dir()):
        return []
    references = {_plain(path): path for path in image_files(clean)}
    pairs = []
    for path in image_files(degraded):
        if reference := references.get(_plain(path)):
            pairs.append(Pair(path, reference))
        else:
            logger.warning("%s has no counterpart in %s", path, clean)
    return pairs


def _plain(path: Path) -> str:
    return re.sub(r"_?(LR|HR|x[234])$", "", path.stem)


def _with_parts(pairs: Sequence[Pair], parts: Sequence[str]) -> Iterator[Pair]:
    for pair in pairs:
        part = re.split("[-_]", pair.clean.stem)[0]
        yield Pair(pair.degraded, pair.clean, part if part in parts else None)


def _factor(pairs: Sequence[Pair]) -> int:
    """Return the scale of the clean images, by the first readable pair. Raises InputError."""
    for pair in pairs:
        assert pair.degraded is not None  # pairs in folders have both
        try:
            degraded, clean = read(pair.degraded), read(pair.clean)
        except UnreadableImage:
            continue  # reported when it is measured
        factor = round(clean.width / degraded.width)
        if (clean.height, clean.width) != (factor * degraded.height, factor * degraded.width):
            raise InputError(
                f"{pair.degraded} is {degraded.width}x{degraded.height}, {pair.clean} "
                f"{clean.width}x{clean.height}",
                hint="the clean image must be as large, or larger by a whole factor",
            )
        return factor
    raise NothingToDo(f"none of the {len(pairs)} pairs around {pairs[0].clean} can be read")
