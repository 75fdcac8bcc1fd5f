"""Radiance HDR: imagecodecs codes the pixels, the header is read and written here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO

import imagecodecs
import numpy as np

from restore_cli.errors import UnreadableImage
from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.codecs.radiance_header import Radiance, read_radiance
from restore_cli.imaging.curves import LightCurve
from restore_cli.imaging.headers import refuse_giant
from restore_cli.imaging.image import Metadata, Native
from restore_cli.imaging.quantize import Decoded, Encodable, light_of_file, stored

CANONICAL = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n"
RUNS = b"\x02\x02"  # first bytes of a row in runs
UNHELD = re.compile(r"(?:FORMAT|PIXASPECT|VIEW)=|#\?")  # VIEW: of the size of the source


@dataclass(frozen=True)
class RadianceHeader:
    """Lines of the header that stay true of a result: exposure, primaries, software, comments."""

    lines: tuple[str, ...]


def decode(data: bytes, storage: Storage = MEMORY) -> Decoded:
    """Decode an image in RGBE. Raises UnreadableImage, ImageTooLarge, ValueError, RgbeError."""
    header = read_radiance(data)
    refuse_giant(header.height, header.width)
    if header.is_xyz:
        raise UnreadableImage(
            "a Radiance HDR image in CIE XYZ", hint="convert it to RGB: ra_xyze -r"
        )
    body = data[header.start :]
    rows, columns = header.stored_size
    if not body.startswith(RUNS) and len(body) < rows * columns * 4:
        raise UnreadableImage(
            "a Radiance HDR image in the old code of runs, or truncated",
            hint="save it again, for example by pfilt -1",
        )
    light = imagecodecs.rgbe_decode(CANONICAL % (rows, columns) + body)
    kept = tuple(line for line in header.lines if not UNHELD.match(line))
    native = Native("hdr", LightCurve.of(light), RadianceHeader(kept))
    return Decoded(
        stored(light, storage),
        65_535,
        orientation=header.orientation,
        metadata=Metadata(native=native),
        dropped=_dropped(header),
    )


def _dropped(header: Radiance) -> tuple[str, ...]:
    names = {"VIEW=": "its view", "PIXASPECT=": "its pixel aspect"}
    return tuple(
        name for word, name in names.items() if any(line.startswith(word) for line in header.lines)
    )


def encode(source: Encodable, file: BinaryIO) -> None:
    """Encode in RGBE, with the lines of the header of a Radiance source."""
    light = light_of_file(source)
    if light.shape[2] == 1:
        light = np.repeat(light, 3, axis=2)
    highest = light.max(axis=2, keepdims=True)
    # Half a step of the common exponent: the encoder cuts off, which would darken.
    light = light + np.where(highest > 0, np.ldexp(0.5, np.frexp(highest)[1] - 8), 0)
    room = light.shape[0] * (8 + 5 * light.shape[1]) + 256  # runs may be longer than no runs
    packed = imagecodecs.rgbe_encode(np.ascontiguousarray(light, np.float32), out=room)
    native = source.image.metadata.native
    lines = native.header.lines if native and isinstance(native.header, RadianceHeader) else ()
    text = "\n".join(("#?RADIANCE", *lines, "FORMAT=32-bit_rle_rgbe"))
    file.write(text.encode("latin-1") + b"\n\n" + bytes(packed).split(b"\n\n", 1)[1])
