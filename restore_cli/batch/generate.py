"""Generation of planned grids of images, written with their provenance records."""

from __future__ import annotations

import time
from collections import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

from restore_cli import __version__
from restore_cli.batch.grids import Grid, GridPlan
from restore_cli.batch.jobs import Standard
from restore_cli.batch.ledger import recorded
from restore_cli.batch.pipeline import may_replace, pipe_out, refuse_existing, without_frames
from restore_cli.batch.plan import Existing
from restore_cli.batch.provenance import generated_record, to_text
from restore_cli.errors import OutputExists, RestoreError
from restore_cli.files import sha256_of
from restore_cli.imaging.contact_sheet import contact_sheet
from restore_cli.imaging.formats import ENCODINGS
from restore_cli.imaging.image import Image, Metadata, Text
from restore_cli.imaging.io import encode, write
from restore_cli.inference.generator import Generator
from restore_cli.inference.replayed import ReplayChain
from restore_cli.inference.report import Report
from restore_cli.inference.samplers.request import GenerateRequest, Sampler
from restore_cli.inference.upscaler import Upscaler

OnStep = Callable[[int, int], None]  # steps done, steps in all


@dataclass(frozen=True)
class GeneratedFile:
    """Result of a grid; width and height are those of the file."""

    job: Grid
    status: Literal["ok", "skipped", "failed"]
    seconds: float = 0.0
    error: RestoreError | None = None
    report: Report | None = None
    width: int | None = None
    height: int | None = None
    sha256: str | None = None  # of the file, where checksums are wanted


def resolve_all(
    grids: Sequence[Grid], sampler: Sampler, request: GenerateRequest
) -> dict[str, GenerateRequest]:
    """Return the resolved request of each prompt. Raises UsageError, OutputError."""
    resolved = {
        prompt: sampler.resolve(replace(request, prompt=prompt))
        for grid in grids
        for prompt, _ in grid.images
    }
    for grid in grids:
        size = resolved[grid.images[0][0]].size
        if size is not None:
            grid.refuse_beyond(size)
    return resolved


def run_grids(
    planned: GridPlan,
    generator: Generator,
    request: GenerateRequest,
    *,
    enlarge: Upscaler | ReplayChain | None = None,
    quality: int | None = None,
    stdout: BinaryIO | None = None,
    on_step: OnStep | None = None,
) -> abc.Generator[GeneratedFile, None, None]:
    """Generate each grid of a plan, and write the results to its ledger, if it has one.

    request: for all images, but for its prompt. enlarge: runs on each image. stdout: for a grid
    with that target.
    Every request is resolved first, so that a wrong one is refused before any work.
    Raises UsageError, OutputError; a grid that fails later does not stop the others.
    """
    total = sum(len(grid.images) for grid in planned.grids)

    def on_image(index: int, done: int, steps: int) -> None:
        if on_step is not None:
            on_step(index * steps + done, total * steps)

    engine = partial(
        _generate_each,
        generator=generator,
        requests=resolve_all(planned.grids, generator.sampler, request),
        enlarge=enlarge,
        quality=quality,
        existing=planned.existing,
        stdout=stdout,
        on_image=on_image,
        checksums=planned.ledger is not None,
    )
    return recorded(planned.ledger, planned.numbered, engine)


def _generate_each(
    grids: Iterable[Grid],
    *,
    generator: Generator,
    requests: Mapping[str, GenerateRequest],
    enlarge: Upscaler | ReplayChain | None,
    quality: int | None,
    existing: Existing,
    stdout: BinaryIO | None,
    on_image: Callable[[int, int, int], None],
    checksums: bool,
) -> abc.Generator[GeneratedFile, None, None]:
    """Yield the result of each grid, which is written whole or not at all.

    on_image: gets the index of the image in work, its steps done, and its steps in all.
    """
    finished = 0
    for grid in grids:
        began = time.monotonic()
        try:
            refuse_existing(grid, existing)
            first = requests[grid.images[0][0]]
            images, enlarged = [], Report(())
            for index, (prompt, seed) in enumerate(grid.images, start=finished):
                pixels = generator.sample(
                    requests[prompt], seed, on_progress=partial(on_image, index)
                )
                if enlarge is not None:
                    larger = enlarge(Image(pixels))
                    pixels, enlarged = larger.image.pixels, larger.report
                images.append(pixels)
            record = generated_record(grid, first, generator, quality, enlarged=enlarged.steps)
            image = Image(
                contact_sheet(images, grid.columns),
                metadata=Metadata(record=to_text(record), texts=_texts(grid)),
            )
            if isinstance(grid.target, Standard):
                assert stdout is not None  # the plan asks for it
                pipe_out(encode(image, format="png"), stdout)
            else:
                overwrite = may_replace(grid, existing)
                write(image, grid.target, quality=quality, overwrite=overwrite)
        except RestoreError as error:
            seconds = time.monotonic() - began
            if existing == "skip" and isinstance(error, OutputExists):
                yield GeneratedFile(grid, "skipped", seconds)
            else:
                yield GeneratedFile(grid, "failed", seconds, without_frames(error))
        else:
            seconds = time.monotonic() - began
            report = Report((*generator.report(first, seconds).steps, *enlarged.steps))
            sha256 = sha256_of(grid.target) if checksums and isinstance(grid.target, Path) else None
            yield GeneratedFile(
                grid, "ok", seconds, None, report, image.width, image.height, sha256
            )
        finished += len(grid.images)


def _texts(grid: Grid) -> tuple[Text, ...]:
    """Return texts for other programs, where the format has any."""
    if ENCODINGS[grid.format].keywords is not None:
        return ()
    return Text("Software", f"restore {__version__}"), Text("Description", grid.source)
