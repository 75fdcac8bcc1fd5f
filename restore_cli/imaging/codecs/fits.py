"""FITS by astropy (extra `science`): one grey plane of integers or floats, with its header.

Values are treated as stored, before BSCALE and BZERO, which stay as they are.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from restore_cli.errors import UnreadableImage
from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.codecs.pillow import without_warnings
from restore_cli.imaging.curves import AsinhCurve
from restore_cli.imaging.headers import refuse_giant
from restore_cli.imaging.image import Metadata, Native
from restore_cli.imaging.quantize import Array, Decoded, Encodable, stored

UPWARDS = 4  # the first row is the lowest: EXIF orientation of an image that is upside down
BITS = (8, 16, 32, -32, -64)  # BITPIX; below 0: floating point
# Distortion of the coordinates by polynomials of pixels (SIP), which no factor corrects.
DISTORTION = re.compile(r"(?:A|B|AP|BP)_(?:ORDER|DMAX|\d_\d)$")
CHECKSUMS = ("CHECKSUM", "DATASUM")
VISIBLE = 0.5  # alpha below which a value is blank


@dataclass(frozen=True)
class FitsHeader:
    """Parts of the source that a result takes over."""

    primary: str | None  # header before that of the image, if the image is in an extension
    image: str
    dtype: np.dtype[Any]
    blank: int | None  # stored value of integers that stands for none
    size: tuple[int, int]


def decode(data: bytes, storage: Storage = MEMORY) -> Decoded:
    """Decode the first image. Raises UnreadableImage, ImageTooLarge, and what astropy raises."""
    values, header, dropped = _read(data[:])  # a mapped file becomes bytes
    valid = np.isfinite(values) if header.blank is None else values != header.blank
    if not valid.any():
        raise UnreadableImage("a FITS image without a value", hint="name another file")
    curve = AsinhCurve.of(values[valid])
    with np.errstate(invalid="ignore"):  # some kinds of NaN
        samples = values.astype(np.float64)[..., None]
    if not valid.all():
        samples = np.where(valid[..., None], samples, curve.low)
        samples = np.concatenate([samples, valid[..., None]], axis=-1)
    return Decoded(
        stored(samples, storage),
        65_535,
        orientation=UPWARDS,
        metadata=Metadata(native=Native("fits", curve, header)),
        dropped=dropped,
    )


def _read(data: bytes) -> tuple[Array, FitsHeader, tuple[str, ...]]:
    """Return the values (H, W) of the first image, its header, and the contents not read."""
    from astropy.io import fits

    opened = partial(fits.open, memmap=False, lazy_load_hdus=False)
    with (
        without_warnings(),
        opened(io.BytesIO(data), do_not_scale_image_data=True) as file,
        opened(io.BytesIO(data)) as scaled,
    ):
        images = [
            place
            for place, hdu in enumerate(file)
            if hdu.is_image and hdu.header.get("NAXIS", 0) >= 2
        ]
        last = file[-1].fileinfo()
        if not images and last["datLoc"] + last["datSpan"] < len(data):
            raise ValueError("its header is cut off")
        if not images:
            raise UnreadableImage("a FITS file without an image", hint="name a file with one")
        hdu = file[images[0]]
        height, width = _plane(hdu.shape)
        refuse_giant(height, width)
        if hdu.header["BITPIX"] not in BITS:
            raise UnreadableImage(
                f"a FITS image of {hdu.header['BITPIX']} bits", hint="convert it to 32 bits"
            )
        packed = isinstance(hdu, fits.CompImageHDU)
        if packed:  # its scale is known to the reader only
            hdu = scaled[images[0]]
        values = np.asarray(hdu.data).reshape(height, width)
        header = FitsHeader(
            None if images[0] == 0 else file[0].header.tostring(),
            hdu.header.tostring(),
            values.dtype.newbyteorder("="),
            hdu.header.get("BLANK") if values.dtype.kind in "iu" else None,
            (height, width),
        )
        others = sum(bool(hdu.shape) for place, hdu in enumerate(file) if place != images[0])
    droppable = {"the other images and tables": others > 0, "its compression": packed}
    return values, header, tuple(name for name, is_there in droppable.items() if is_there)


def _plane(shape: tuple[int, ...]) -> tuple[int, int]:
    if any(length != 1 for length in shape[:-2]):
        planes = " x ".join(map(str, shape[:-2]))
        raise UnreadableImage(
            f"a FITS cube of {planes} planes", hint="save each plane as a file of its own"
        )
    return shape[-2], shape[-1]


def encode(source: Encodable, file: BinaryIO) -> None:
    """Encode values of the kind of the source, with its header."""
    from astropy.io import fits

    native = source.image.metadata.native
    assert native is not None  # `refuse_unstated_colours` has seen to it
    header: FitsHeader = native.header
    samples = source.values(native.curve)[::-1]
    values = samples[..., 0]
    if header.dtype.kind in "iu":
        values = np.rint(values)
    if samples.shape[2] > 1:
        blank = np.nan if header.blank is None else header.blank
        values = np.where(samples[..., 1] < VISIBLE, blank, values)
    with without_warnings():
        cards = fits.Header.fromstring(header.image)
        has_sums = any(name in cards for name in CHECKSUMS)
        _scale(cards, values.shape, header.size)
        hdus = fits.HDUList([_hdu(fits, header, cards, values.astype(header.dtype))])
        if header.primary is not None:
            hdus.insert(0, fits.PrimaryHDU(header=fits.Header.fromstring(header.primary)))
        packed = io.BytesIO()  # astropy closes a file of its own
        hdus.writeto(packed, output_verify="silentfix+ignore", checksum=has_sums)
    file.write(packed.getbuffer())


def _hdu(fits: Any, header: FitsHeader, cards: Any, values: Array) -> Any:
    """Return the image; what states its scale is set last, since astropy applies it."""
    kind = fits.PrimaryHDU if header.primary is None else fits.ImageHDU
    hdu = kind(values, do_not_scale_image_data=True)
    for card in cards.cards:
        if card.keyword in hdu.header and card.keyword not in ("", "COMMENT", "HISTORY"):
            continue
        hdu.header.append(card, end=True)
    return hdu


def _scale(cards: Any, size: tuple[int, int], before: tuple[int, int]) -> None:
    """Scale the coordinates of the sky to another size, in place."""
    for name in CHECKSUMS:
        cards.remove(name, ignore_missing=True)
    if size == before:
        return
    for axis, factor in ((1, size[1] / before[1]), (2, size[0] / before[0])):
        if f"CRPIX{axis}" in cards:
            cards[f"CRPIX{axis}"] = (cards[f"CRPIX{axis}"] - 0.5) * factor + 0.5
        steps = [f"CD{row}_{axis}" for row in (1, 2) if f"CD{row}_{axis}" in cards]
        for name in steps or [name for name in (f"CDELT{axis}",) if name in cards]:
            cards[name] /= factor
        if f"CTYPE{axis}" in cards:
            cards[f"CTYPE{axis}"] = str(cards[f"CTYPE{axis}"]).removesuffix("-SIP")
    for name in [name for name in cards if DISTORTION.match(name)]:
        del cards[name]
