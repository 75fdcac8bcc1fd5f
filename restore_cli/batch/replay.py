"""Generated images made again, from the text that `jobs.make` puts into a PNG."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from restore_cli.batch.generate import GeneratedFile, generate_grids
from restore_cli.batch.grids import Grid, columns_of
from restore_cli.checkpoints.classes import ClassWeights
from restore_cli.errors import InputError, WeightsMismatch
from restore_cli.imaging.codecs.png import text_in
from restore_cli.inference.generator import (
    DTYPES,
    GenerateRequest,
    GeneratorOptions,
    ImageGenerator,
    Precision,
    load_class_generator,
)

KEYWORD = "restore"


@dataclass(frozen=True)
class Generated:
    """How the images of a file were made."""

    prompts: tuple[str, ...]  # of each image, as the seeds
    seeds: tuple[int, ...]
    model: str
    weights: str
    weights_sha256: str | None  # None: a Stable Diffusion, which is many files
    width: int  # of one image
    height: int
    device: str
    precision: str
    settings: Mapping[str, Any]
    torch: str
    vae_sha256: str | None = None  # None: there was no VAE apart from the weights


def generated_in(data: bytes) -> Generated | None:
    """The record in the bytes of a file. Raises InputError where it is damaged."""
    text = text_in(data, KEYWORD)
    if text is None:
        return None
    try:
        row = json.loads(text)
        record = Generated(prompts=tuple(row.pop("prompts")), seeds=tuple(row.pop("seeds")), **row)
        if not _is_whole(record):
            raise ValueError("some of its values are not what they should be")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"its record cannot be understood: {error}",
            hint="replay it with the version of restore that made it",
        ) from error
    return record


def _is_whole(record: Generated) -> bool:
    words = (*record.prompts, record.model, record.weights, record.device, record.torch)
    numbers = (*record.seeds, record.width, record.height)
    return (
        len(record.prompts) == len(record.seeds) > 0
        and all(isinstance(word, str) for word in words)
        and all(isinstance(number, int) for number in numbers)
        and isinstance(record.settings, dict)
        and record.precision in DTYPES
    )


def replay_generated(
    record: Generated,
    chosen: ClassWeights,
    target: Path,
    *,
    device: str | None = None,
    vae: Path | None = None,
    overwrite: bool = False,
    on_step: Callable[[int, int], None] | None = None,
) -> GeneratedFile:
    """The same images in `target`. device: None for that of then; vae: the folder of one.

    Raises RestoreError.
    """
    precision = cast("Precision", record.precision)
    options = GeneratorOptions(vae=vae, device=device or record.device, precision=precision)
    generator = load_class_generator(chosen, options)
    if record.vae_sha256 != generator.vae_sha256:
        raise WeightsMismatch(
            f"the VAE in {vae} has sha256 {str(generator.vae_sha256)[:12]}, but "
            f"{str(record.vae_sha256)[:12]} was used",
            hint="name the folder of the one of that time: --vae FOLDER",
        )
    as_then = replace(generator, weights=record.weights, settle=_settling(generator, record))
    prompts, seeds = list(dict.fromkeys(record.prompts)), list(dict.fromkeys(record.seeds))
    images = tuple(zip(record.prompts, record.seeds, strict=True))
    sheet = Grid(images, columns_of(prompts, seeds), target)
    (made,) = generate_grids(
        [sheet], as_then, GenerateRequest(record.prompts[0]), overwrite=overwrite, on_step=on_step
    )
    return made


def _settling(generator: ImageGenerator, record: Generated) -> Callable[[GenerateRequest], Any]:
    """Of a prompt the request of then, whatever the defaults are now."""

    def settle(asked: GenerateRequest) -> Any:
        try:
            return replace(
                generator.settle(GenerateRequest(asked.prompt)),
                size=(record.height, record.width),
                **record.settings,
            )
        except TypeError as error:
            raise InputError(
                f"its record has a setting that this version does not know: {error}",
                hint="replay it with the version of restore that made it",
            ) from error

    return settle
