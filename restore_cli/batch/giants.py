"""Images that are restored band by band, because they are large for the memory.

The source is decoded into a file without a name in the folder of the output, from which the
network takes bands; the encoder takes each band of the result as it comes. So the memory depends
on the width of an image, and no longer on its pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from restore_cli.batch import needs
from restore_cli.batch.needs import LARGE, refuse_little_disk
from restore_cli.errors import OutputError
from restore_cli.files import local_copy, scratch_folder, sha256_of, write_atomically
from restore_cli.imaging.canvas import Canvas
from restore_cli.imaging.formats import Compress, Format
from restore_cli.imaging.headers import Size, read_header
from restore_cli.imaging.io import (
    decode_unreported,
    encode_bands,
    refuse_colours,
    refuse_source,
)
from restore_cli.inference.options import OnProgress
from restore_cli.inference.report import Report, Restored, Stage
from restore_cli.storage import Location

logger = logging.getLogger(__name__)


def disk_need(
    source: Path, format: Format, restorer: Stage, size: Size | None = None
) -> int | None:
    """Return the bytes that a giant takes on disk at most, its result included.

    None for an image that is restored in memory, as most are, and for a file without a header.
    size: from its header, if that has been read. Raises InputError.
    """
    if size is None:
        header = read_header(source)
        if header is None:
            return None
        size = header.size
    height, width, _ = size
    result = restorer.size_after(height, width)
    if height * width + result[0] * result[1] <= LARGE:
        return None
    return needs.disk_need(*size, format, result, restorer.stored_bytes(height, width))


def restore_giant(
    source: Location,
    target: Location,
    need: int,
    restorer: Stage,
    *,
    format: Format,
    quality: int | None,
    compress: Compress,
    overwrite: bool,
    record: Callable[[Report, str], str] | None,
    on_progress: OnProgress | None,
) -> Restored:
    """Restore an image band by band; the Restored has no pixels.

    record: gives the record of the result, from its report and the SHA-256 of the source.
    Raises InputError, OutputError, DeviceError, FetchError.
    """
    refuse_source(source, target)
    with (
        _room_for(target, need) as folder,
        local_copy(source) as path,
        Canvas(folder) as canvas,
    ):
        logger.warning("%s: a large image, takes up to %.1f GB in %s", source, need / 1e9, folder)
        data = canvas.contents(path)
        image = decode_unreported(data, name=str(source), storage=canvas)
        refuse_colours(image, format)
        image = replace(image, source=source)
        restoring = restorer.stream(image, on_progress=on_progress, storage=canvas)

        def finished() -> str | None:
            return None if record is None else record(restoring.report(), sha256_of(path))

        def encode_into(part: Path) -> None:
            with part.open("wb") as file:
                encode_bands(
                    restoring.image,
                    restoring.completed(),
                    file,
                    format=format,
                    quality=quality,
                    compress=compress,
                    storage=canvas,
                    record=finished,
                )

        hint = "choose another place with -o"
        write_atomically(target, encode_into, overwrite=overwrite, hint=hint)
        return Restored(restoring.image, restoring.report())


@contextmanager
def _room_for(target: Location, need: int) -> Iterator[Path]:
    """Yield the folder of a target's temporary files, if it has room. Raises OutputError."""
    folder = scratch_folder(target)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        refuse_little_disk(target, folder, need)
        yield folder
    except OSError as error:
        raise OutputError(f"{target}: {error.strerror or error}") from error
