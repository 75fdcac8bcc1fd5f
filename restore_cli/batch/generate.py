"""Images of nothing but a prompt and a seed, into files that tell how they were made."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import torch

from restore_cli import __version__
from restore_cli.batch.grids import Grid
from restore_cli.batch.plan import Standard
from restore_cli.batch.run import pipe_out
from restore_cli.imaging.contact_sheet import contact_sheet
from restore_cli.imaging.image import Image, Metadata
from restore_cli.imaging.io import encode, write
from restore_cli.inference.generator import GenerateRequest, ImageGenerator, settings_of

OnStep = Callable[[int, int], None]  # steps done, of all


@dataclass(frozen=True)
class GeneratedFile:
    """What became of a sheet."""

    sheet: Grid
    seconds: float
    width: int
    height: int


def generate_grids(
    sheets: Sequence[Grid],
    generator: ImageGenerator,
    asked: GenerateRequest,
    *,
    quality: int | None = None,
    overwrite: bool = False,
    stdout: BinaryIO | None = None,
    on_step: OnStep | None = None,
) -> Iterator[GeneratedFile]:
    """Make each sheet and write it whole or not at all; a Made as soon as each is finished.

    asked: as for all of them, but the prompt. Raises RestoreError at the first that fails.
    """
    total = sum(len(sheet.images) for sheet in sheets)
    before = 0
    requests = {
        prompt: generator.settle(replace(asked, prompt=prompt))
        for sheet in sheets
        for prompt, _ in sheet.images
    }  # all of them, so that a wrong one is refused before any work
    for sheet in sheets:
        began = time.monotonic()
        images = []
        for prompt, seed in sheet.images:

            def tell(done: int, steps: int, before: int = before) -> None:
                if on_step:
                    on_step(before * steps + done, total * steps)

            images.append(generator(requests[prompt], seed, on_progress=tell))
            before += 1
        image = Image(
            images[0] if len(images) == 1 else contact_sheet(images, sheet.columns),
            metadata=Metadata(texts=_texts(sheet, generator, requests)),
        )
        if isinstance(sheet.target, Standard):
            assert stdout is not None  # whoever plans for stdout hands it over
            pipe_out(encode(image, format="png"), stdout)
        else:
            write(image, sheet.target, quality=quality, overwrite=overwrite)
        yield GeneratedFile(sheet, time.monotonic() - began, image.width, image.height)


def _texts(
    sheet: Grid, generator: ImageGenerator, requests: Mapping[str, Any]
) -> tuple[tuple[str, str], ...]:
    """How the images were made, for whoever finds the file; nothing that differs next time."""
    request = requests[sheet.images[0][0]]
    height, width = request.size
    record = {
        "prompts": [prompt for prompt, _ in sheet.images],
        "seeds": [seed for _, seed in sheet.images],
        "model": generator.model,
        "weights": generator.weights,
        "weights_sha256": generator.sha256,
        "vae_sha256": generator.vae_sha256,
        "width": width,
        "height": height,
        "device": generator.device.type,
        "precision": generator.precision,
        "settings": settings_of(request),
        "torch": torch.__version__,
    }
    return (
        ("Software", f"restore {__version__}"),
        ("Description", sheet.source),
        ("restore", json.dumps(record)),
    )
