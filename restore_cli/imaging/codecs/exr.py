"""OpenEXR by the library of its authors (extra `exr`): scene-linear light in half or float."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from restore_cli.errors import MissingExtra
from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.codecs.exr_header import HALF, Part, check_chunks, read_parts
from restore_cli.imaging.codecs.icc import profile_of_primaries
from restore_cli.imaging.codecs.metadata import incoming_metadata
from restore_cli.imaging.curves import LightCurve
from restore_cli.imaging.headers import refuse_giant
from restore_cli.imaging.image import Metadata, Native
from restore_cli.imaging.quantize import Array, Decoded, Encodable, light_of_file, stored

LARGEST_HALF = 65504.0
# Attributes that state the layout of the source, show it small, or are about other channels.
STALE = ("channels", "lineOrder", "tiles", "type", "chunkCount", "version", "preview", "idManifest")
PACKET = "xmp"  # our attribute
DENSITY, ASPECT = "xDensity", "pixelAspectRatio"


@dataclass(frozen=True)
class ExrHeader:
    """Parts of the source that a result takes over."""

    attributes: dict[str, Any]
    colours: tuple[str, ...]  # names of channels
    is_half: bool
    size: tuple[int, int]


def decode(data: bytes, storage: Storage = MEMORY) -> Decoded:
    """Decode the first part. Raises UnreadableImage, ImageTooLarge, ValueError, OSError, ..."""
    import OpenEXR

    data = data[:]  # a mapped file becomes bytes
    parts = read_parts(data)
    part = parts[0]
    for each in parts:
        refuse_giant(each.height, each.width)
    colours = part.colours()
    check_chunks(data)
    with OpenEXR.File(io.BytesIO(data), header_only=True, separate_channels=True) as file:
        attributes = dict(file.header())
    names = [channel.name for channel in part.channels]
    alpha = ("A",) if "A" in names and "A" not in colours else ()
    values = np.stack([*_samples(OpenEXR, data, part, (*colours, *alpha))], axis=-1)
    dropped = _settle(values, colours=len(colours))
    if alpha:
        _divide_by_alpha(values)
    others = [name for name in names if name not in (*colours, *alpha)]
    droppable = {
        "the other parts": len(parts) > 1,
        f"its channels {', '.join(others[:9])}": bool(others),
        "its reduced levels": part.has_levels,
    }
    packet = attributes.pop(PACKET, None)
    icc = None
    if "chromaticities" in attributes and len(colours) == 3:
        icc = profile_of_primaries(_white_first(attributes["chromaticities"]))
    header = ExrHeader(
        {name: value for name, value in attributes.items() if name not in STALE},
        colours,
        all(c.type == HALF for c in part.channels if c.name in colours),
        (part.height, part.width),
    )
    density = attributes.get(DENSITY)
    aspect = attributes.get(ASPECT, 1.0)
    metadata, _, stale = incoming_metadata(
        Metadata(
            icc=icc,
            xmp=packet.encode() if isinstance(packet, str) else None,
            dpi=(density, density * aspect) if density else None,
            native=Native("exr", LightCurve.of(values[..., : len(colours)]), header),
        ),
        orientation=1,
    )
    return Decoded(
        stored(values, storage),
        65_535,
        metadata=metadata,
        dropped=(*(name for name, is_there in droppable.items() if is_there), *dropped, *stale),
    )


def _white_first(chromaticities: tuple[float, ...]) -> tuple[float, ...]:
    return *chromaticities[6:], *chromaticities[:6]


def _samples(library: Any, data: bytes, part: Part, names: tuple[str, ...]) -> list[Array]:
    """Read channels as float32; `File` would write about damage to stdout, and go on."""
    import Imath

    file = library.InputFile(io.BytesIO(data))
    try:
        float32 = Imath.PixelType(Imath.PixelType.FLOAT)
        return [
            np.frombuffer(each, np.float32).reshape(part.height, part.width)
            for each in file.channels([*names], float32)
        ]
    finally:
        file.close()


def _settle(values: Array, *, colours: int) -> list[str]:
    """Replace samples that are no light, in place, and name them."""
    light, found = values[..., :colours], []
    if colours < values.shape[2]:
        np.clip(np.nan_to_num(values[..., colours:], copy=False), 0, 1, out=values[..., colours:])
    finite = np.isfinite(light)
    if not finite.all():
        highest = light.max(where=finite, initial=0)
        np.nan_to_num(light, copy=False, nan=0, posinf=highest, neginf=0)
        found.append("NaN (set to 0) and infinity (set to the highest value)")
    if (light < 0).any():
        np.maximum(light, 0, out=light)
        found.append("negative values (set to 0)")
    return found


def _divide_by_alpha(values: Array) -> None:
    """Undo the multiplication by alpha, in place; light where alpha is 0 stays."""
    alpha = values[..., -1:]
    np.divide(values[..., :-1], alpha, out=values[..., :-1], where=alpha > 0)


def encode(source: Encodable, file: BinaryIO) -> None:
    """Encode with the attributes, sample type and compression of an OpenEXR source."""
    try:
        import OpenEXR
    except ImportError as error:
        raise MissingExtra("writing OpenEXR", hint="pip install 'restore-cli[exr]'") from error

    image = source.image
    native = image.metadata.native
    values = light_of_file(source)
    colours = len(image.pixels)
    if values.shape[2] > colours:
        alpha = values[..., colours:]
        np.multiply(values[..., :colours], alpha, out=values[..., :colours], where=alpha > 0)
    attributes: dict[str, Any] = {"compression": OpenEXR.ZIP_COMPRESSION}
    names: tuple[str, ...] = ("R", "G", "B") if colours == 3 else ("Y",)
    is_half = image.bit_depth == 8
    if native is not None and isinstance(native.header, ExrHeader):
        header = native.header
        is_half = header.is_half
        names = header.colours if len(header.colours) == colours else names
        attributes = _scaled(header, image.height, image.width)
    elif source.metadata.dpi:
        attributes |= {DENSITY: source.metadata.dpi[0]}
    if packet := source.complete_metadata.xmp:
        attributes[PACKET] = packet.decode("utf-8", "replace")
    if is_half:
        values = np.minimum(values, LARGEST_HALF).astype(np.float16)
    channels = {
        name: OpenEXR.Channel(np.ascontiguousarray(values[..., place]))
        for place, name in enumerate((*names, "A")[: values.shape[2]])
    }
    attributes["type"] = OpenEXR.scanlineimage
    with OpenEXR.File(attributes, channels) as written:
        written.write(file)


def _scaled(header: ExrHeader, height: int, width: int) -> dict[str, Any]:
    """Return the attributes for a result of another size: its windows grow with it."""
    attributes = dict(header.attributes)
    scale = np.array([width / header.size[1], height / header.size[0]])
    for window in ("dataWindow", "displayWindow"):
        first, last = (np.asarray(corner) for corner in attributes[window])
        low = np.rint(first * scale).astype(np.int32)
        size = np.rint((last - first + 1) * scale).astype(np.int32)
        if window == "dataWindow":
            size = np.array([width, height], np.int32)
        attributes[window] = (low, low + size - 1)
    return attributes
