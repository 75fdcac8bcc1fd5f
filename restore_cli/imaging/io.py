"""Reading and writing of still images; `formats` lists the formats.

Alpha, 16 bits, ICC profile, EXIF, XMP, captions, texts and resolution of an image are written with
it, as far as the format of the target can hold them.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, BinaryIO

from PIL import UnidentifiedImageError

from restore_cli.errors import (
    ImageTooLarge,
    InputError,
    OutputCollision,
    UnreadableImage,
)
from restore_cli.files import local_copy, write_atomically
from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.codecs.animated import Animation
from restore_cli.imaging.codecs.metadata import outgoing_metadata, refuse_unstated_colours
from restore_cli.imaging.formats import (
    ENCODINGS,
    STILLS,
    Compress,
    Format,
    format_of,
    refuse_beyond,
    still_of,
)
from restore_cli.imaging.headers import MOST_PIXELS, inspect, is_regular, still_in
from restore_cli.imaging.image import Image, Metadata
from restore_cli.imaging.kinds import HEAD, RAW, other_kind
from restore_cli.imaging.quantize import Decoded, Encodable, banded_image, to_image
from restore_cli.imaging.video.containers import is_video
from restore_cli.memory import enough_memory, is_out_of_memory
from restore_cli.storage import Location

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

OTHERS = "restore_cli.imaging.codecs.pillow:decode"  # of files without a signature in `STILLS`
CHUNK = 1 << 20  # bytes that are read from a pipe at a time
LARGEST_FILE = MOST_PIXELS * 8 + (1 << 28)  # bytes: uncompressed 16-bit RGBA, and metadata


def read(source: Location) -> Image:
    """Read an image file; the image is upright. Raises as `contents` and `decode`."""
    return replace(decode(contents(source), name=str(source)), source=source)


def contents(source: Location, *, name: str | None = None) -> bytes:
    """Return the bytes of an image file; `name` is for messages, by default that of the file.

    Raises UnreadableImage, ImageTooLarge, OutOfMemory, and as `storage.download`.
    """
    name = name or str(source)
    try:
        with local_copy(source, limit=LARGEST_FILE) as path:
            if not is_regular(path):
                raise not_regular(path)
            size = path.stat().st_size
            if size > LARGEST_FILE:
                raise ImageTooLarge(
                    f"{name}: {size:,} bytes; the limit is {LARGEST_FILE:,}",
                    hint="split the image into parts",
                )
            with enough_memory(name):
                return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(
            f"{name}: {error.strerror or error}", hint="check the path and its permissions"
        ) from error


def not_regular(source: Path) -> UnreadableImage:
    """Return the refusal of a folder, and of a pipe or a device, of which reading may never end."""
    if source.is_dir():
        return UnreadableImage(f"{source}: a folder, not a file", hint="name a file of it")
    return UnreadableImage(
        f"{source}: a pipe or a device, not a file", hint="pipe an image in as -, with --format png"
    )


def piped(stream: BinaryIO) -> bytes:
    """Return the image in a stream, or its beginning if it is none. Raises ImageTooLarge."""
    parts = [stream.read(HEAD)]
    if still_of(parts[0]) is None and other_kind(parts[0]) is not RAW:
        return parts[0]
    size = len(parts[0])
    while part := stream.read(CHUNK):
        parts.append(part)
        size += len(part)
        if size > LARGEST_FILE:
            raise ImageTooLarge(
                f"stdin: more than {LARGEST_FILE:,} bytes", hint="split the image into parts"
            )
    return b"".join(parts)


def decode(data: bytes, *, name: str) -> Image:
    """Decode an image by its contents; `name` is for messages. A warning names anything dropped.

    Raises UnreadableImage, ImageTooLarge, OutOfMemory.
    """
    image = decode_unreported(data, name=name)
    _report(name, image.dropped, [])
    return replace(image, dropped=()).as_tensors()


def decode_unreported(
    data: bytes, *, name: str, storage: Storage = MEMORY, device: torch.device | None = None
) -> Image:
    """Decode an image as `decode` does, but to arrays, and leave the warning to `encode`.

    device: of an image in memory, where it is CUDA and has room.
    storage: of the levels; other than in memory, they are converted when rows are read.
    Raises UnreadableImage, ImageTooLarge, OutOfMemory.
    """
    with enough_memory(name):
        decoded = _decoded(data, name, storage)
        return to_image(decoded, device) if storage is MEMORY else banded_image(decoded, storage)


def _decoded(data: bytes, name: str, storage: Storage) -> Decoded:
    if not data:
        raise UnreadableImage(f"{name}: the file is empty")
    inspect(data, name=name)
    try:
        with _quiet_decoders():
            return _decoder_for(data, name)(data, storage)
    except InputError as error:
        raise type(error)(f"{name}: {error.message}", hint=error.hint) from error
    except UnidentifiedImageError as error:
        still = still_of(data[:HEAD])
        if is_video(data) and not (still and still.brands):
            raise UnreadableImage(
                f"{name}: a video, not an image",
                hint="a video is read from a file with its suffix, for example clip.mp4",
            ) from error
        if still is not None:
            raise UnreadableImage(
                f"{name}: damaged, or a kind of {still.name} that is not supported",
                hint="get the file again, or convert it to grey or RGB of 8 or 16 bits",
            ) from error
        *names, last = [still.name for still in STILLS]
        raise UnreadableImage(
            f"{name}: not an image in a known format", hint=f"known: {', '.join(names)} and {last}"
        ) from error
    except Exception as error:  # decoders raise almost any exception on damaged files
        if is_out_of_memory(error):
            raise
        reason = "".join(letter if letter.isprintable() else " " for letter in str(error)[:200])
        raise UnreadableImage(
            f"{name}: damaged or truncated ({reason})", hint="get the file again"
        ) from error


def _report(name: str, dropped: Sequence[str], lost: Sequence[str]) -> None:
    """Warn of contents that were not read, and of those that cannot be written."""
    parts = {"read without": dropped, "written without": lost}
    message = "; ".join(
        f"{verb} {', '.join(dict.fromkeys(names))}" for verb, names in parts.items() if names
    )
    if message:
        logger.warning("%s: %s", name, message)


@contextmanager
def _quiet_decoders() -> Iterator[None]:
    """Keep log messages of the decoders off stderr unless the user has configured logging."""
    handler = logging.NullHandler()
    loggers = [logging.getLogger(name) for name in ("PIL", "tifffile", "imagecodecs", "pydicom")]
    for decoder in loggers:
        decoder.addHandler(handler)
    try:
        yield
    finally:
        for decoder in loggers:
            decoder.removeHandler(handler)


def _decoder_for(data: bytes, name: str) -> Callable[[bytes, Storage], Decoded]:
    still = still_in(data, name)
    decoder: Callable[[bytes, Storage], Decoded] = resolve_name(still.decode if still else OTHERS)
    return decoder


def refuse_colours(image: Image, format: Format) -> None:
    """Refuse a format in which the colours of the image would be other ones. Raises OutputError."""
    refuse_unstated_colours(image, ENCODINGS[format])


def encode(
    image: Image,
    *,
    format: Format,
    quality: int | None = None,
    compress: Compress = "normal",
    name: str | None = None,
    animation: Animation | None = None,
) -> bytes:
    """Return the contents of an image file. A warning names anything dropped.

    animation: frames that follow the image, in a format that holds animations.
    quality: 1 to 100; by default 95 for JPEG and lossless for WebP. compress: see docs/formats.md.
    name: for the warning; default: the source of the image.
    Raises OutputError, OutOfMemory.
    """
    file = io.BytesIO()
    encode_bands(
        image,
        (image,),
        file,
        format=format,
        quality=quality,
        compress=compress,
        name=name,
        animation=animation,
    )
    return file.getvalue()


def encode_bands(
    image: Image,
    bands: Iterable[Image],
    file: BinaryIO,
    *,
    format: Format,
    quality: int | None = None,
    compress: Compress = "normal",
    name: str | None = None,
    storage: Storage = MEMORY,
    record: Callable[[], str | None] | None = None,
    animation: Animation | None = None,
) -> None:
    """Encode an image into a file while its bands come, from top to bottom; see `encode`.

    image: of their size together, with the metadata. storage: of the levels, where the format
    wants all at once. record: the record of the image, once the last band has come.
    """
    encoding = ENCODINGS[format]
    refuse_beyond(format, image.height, image.width)
    early: Image = image
    late: Callable[[], bytes | None] | None = None
    if record is not None:
        early = replace(image, metadata=replace(image.metadata, xmp=None))

        def late() -> bytes | None:
            described = Metadata(xmp=image.metadata.xmp, record=record())
            return outgoing_metadata(replace(image, metadata=described), encoding)[0].xmp

    metadata, lost = outgoing_metadata(early, encoding)
    if not encoding.alpha and _is_transparent(image):
        lost.insert(0, "its transparency (composited on white)")
    if encoding.values == "levels":
        bands = (replace(band, metadata=image.metadata).displayed() for band in bands)
    depth = 8 if animation else encoding.depth
    if image.bit_depth > depth:
        lost.append(f"its bits beyond {depth}")
    encoder: Callable[[Encodable, BinaryIO], None] = resolve_name(encoding.encode)
    encodable = Encodable(
        image,
        bands,
        depth=min(image.bit_depth, depth),
        on_white=not encoding.alpha,
        metadata=metadata,
        quality=quality,
        effort=encoding.effort(compress),
        storage=storage,
        late_xmp=late,
        more_frames=animation.frames if animation else (),
        milliseconds=animation.milliseconds if animation else (),
        plays=animation.plays if animation else 0,
    )
    with enough_memory():
        encoder(encodable, file)
    _report(name or str(image.source or "the image"), image.dropped, lost)


def _is_transparent(image: Image) -> bool:
    """Return True if alpha makes a difference, or may, where the pixels are still to come."""
    alpha = image.alpha
    return alpha is not None and (getattr(alpha, "is_meta", False) or bool((alpha < 1).any()))


def write(
    image: Image,
    target: Location,
    *,
    quality: int | None = None,
    overwrite: bool = False,
    animation: Animation | None = None,
) -> None:
    """Write an image in the format of the suffix, completely or not at all; create folders.

    The file that the image was read from is never replaced.
    Raises UsageError, OutputExists, OutputCollision, OutputError, OutOfMemory.
    """
    name = str(image.source or target)
    data = encode(image, format=format_of(target), quality=quality, name=name, animation=animation)
    refuse_source(image.source, target)
    write_atomically(target, data, overwrite=overwrite, hint="choose another place with -o")


def refuse_source(source: Location | None, target: Location) -> None:
    """Refuse a target that is the source under another name. Raises OutputCollision."""
    if isinstance(source, Path) and isinstance(target, Path):
        exist = os.path.exists(source) and os.path.exists(target)
        is_same = exist and os.path.samefile(source, target)
    else:
        is_same = source == target
    if is_same:
        raise OutputCollision(f"{target} is the source", hint="choose another place with -o")
