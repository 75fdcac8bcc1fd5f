"""Generation of planned grids of images, written with their provenance records."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

from restore_cli import __version__
from restore_cli.batch.grids import Grid
from restore_cli.batch.jobs import Standard
from restore_cli.batch.plan import Existing
from restore_cli.batch.provenance import generated_record, to_text
from restore_cli.batch.run import pipe_out
from restore_cli.batch.targets import is_taken
from restore_cli.errors import OutputExists
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
    """A grid that was written or skipped; width and height are those of the file."""

    grid: Grid
    status: Literal["ok", "skipped"]
    seconds: float = 0.0
    report: Report | None = None
    width: int | None = None
    height: int | None = None


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


def generate_grids(
    grids: Sequence[Grid],
    generator: Generator,
    request: GenerateRequest,
    *,
    enlarge: Upscaler | ReplayChain | None = None,
    quality: int | None = None,
    existing: Existing = "error",
    stdout: BinaryIO | None = None,
    on_step: OnStep | None = None,
) -> Iterator[GeneratedFile]:
    """Generate each grid and write it whole or not at all.

    request: for all images, but for its prompt. enlarge: runs on each image. stdout: for a grid
    with that target.
    Every request is resolved first, so that a wrong one is refused before any work.
    existing: "skip" also skips the targets that appear in the meantime.
    Raises RestoreError at the first file that fails.
    """
    resolved = resolve_all(grids, generator.sampler, request)
    total = sum(len(grid.images) for grid in grids)
    finished = 0
    for grid in grids:
        if existing == "skip" and is_taken(grid.target):
            yield GeneratedFile(grid, "skipped")
            continue
        began = time.monotonic()
        images, enlarged = [], Report(())
        for prompt, seed in grid.images:

            def on_progress(done: int, steps: int, finished: int = finished) -> None:
                if on_step:
                    on_step(finished * steps + done, total * steps)

            pixels = generator.sample(resolved[prompt], seed, on_progress=on_progress)
            if enlarge is not None:
                larger = enlarge(Image(pixels))
                pixels, enlarged = larger.image.pixels, larger.report
            images.append(pixels)
            finished += 1
        first = resolved[grid.images[0][0]]
        record = generated_record(grid, first, generator, quality, enlarged=enlarged.steps)
        texts: tuple[Text, ...] = ()
        if ENCODINGS[grid.format].keywords is None:  # any
            texts = Text("Software", f"restore {__version__}"), Text("Description", grid.source)
        image = Image(
            contact_sheet(images, grid.columns),
            metadata=Metadata(record=to_text(record), texts=texts),
        )
        if isinstance(grid.target, Standard):
            assert stdout is not None  # the plan asks for it
            pipe_out(encode(image, format="png"), stdout)
        else:
            try:
                write(image, grid.target, quality=quality, overwrite=existing == "overwrite")
            except OutputExists:
                if existing != "skip":
                    raise
                yield GeneratedFile(grid, "skipped")
                continue
        seconds = time.monotonic() - began
        report = Report((*generator.report(first, seconds).steps, *enlarged.steps))
        yield GeneratedFile(grid, "ok", seconds, report, image.width, image.height)
