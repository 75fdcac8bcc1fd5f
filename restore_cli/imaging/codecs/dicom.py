"""DICOM by pydicom (extra `science`): one grey frame, with its dataset."""

from __future__ import annotations

import copy
import hashlib
import io
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from restore_cli import __version__
from restore_cli.errors import ImageTooLarge, UnreadableImage
from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.codecs.pillow import without_warnings
from restore_cli.imaging.curves import RangeCurve
from restore_cli.imaging.headers import refuse_giant
from restore_cli.imaging.image import Metadata, Native
from restore_cli.imaging.kinds import HEAD
from restore_cli.imaging.quantize import Array, Decoded, Encodable, stored

INVERTED = "MONOCHROME1"
GREYS = (INVERTED, "MONOCHROME2")
BITS = (8, 16, 32)
EXPORT = "export the images to restore as PNG or TIFF"
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
OVERLAYS = range(0x6000, 0x6020, 2)  # groups of bitmaps over the image
RLE, DEFLATED = "1.2.840.10008.1.2.5", b"1.2.840.10008.1.2.1.99"  # transfer syntaxes
RUNS = 64  # bytes that one byte in runs can hold
META = 144  # offset of the elements about the file, behind their length
LONGEST = 1 << 28  # bytes of a deflated dataset
LONGEST_TEXT = 1024  # characters
VISIBLE = 0.5  # alpha below which a pixel is padding


@dataclass(frozen=True)
class DicomHeader:
    """Parts of the source that a result takes over."""

    dataset: Any  # without its pixels
    dtype: np.dtype[Any]
    padding: int | None  # value of pixels that belong to no image
    size: tuple[int, int]


def decode(data: bytes, storage: Storage = MEMORY) -> Decoded:
    """Decode a grey image. Raises UnreadableImage, ImageTooLarge, and what pydicom raises."""
    import pydicom

    data = data[:]  # a mapped file becomes bytes
    _refuse_bomb(data)
    with without_warnings():
        dataset = pydicom.dcmread(io.BytesIO(data))
        _refuse_unusual(dataset)
        refuse_giant(dataset.Rows, dataset.Columns)
        stated = dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8
        if stated > RUNS * len(data) and dataset.file_meta.TransferSyntaxUID == RLE:
            raise ValueError("its pixels are cut off")
        try:
            values = dataset.pixel_array
        except (NotImplementedError, RuntimeError) as error:
            syntax = dataset.file_meta.TransferSyntaxUID
            if not syntax.is_compressed:
                raise
            raise UnreadableImage(
                f"a DICOM file compressed by {syntax.name}, which pydicom cannot decode here",
                hint="pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg",
            ) from error
        if values.ndim != 2:
            raise UnreadableImage(f"a DICOM file of {len(values)} frames", hint=EXPORT)
        padding = dataset.get("PixelPaddingValue")
        inverted = dataset.PhotometricInterpretation == INVERTED
        overlays = any((group, 0x3000) in dataset for group in OVERLAYS)
        del dataset.PixelData
    valid = np.ones(values.shape, bool) if padding is None else values != padding
    inside = values[valid] if valid.any() else values
    low, high = float(inside.min()), float(inside.max())
    header = DicomHeader(dataset, values.dtype, padding, values.shape)
    samples = values[..., None]
    if not valid.all():
        samples = np.concatenate([samples.astype(np.float64), valid[..., None]], axis=-1)
    curve = RangeCurve(high, low) if inverted else RangeCurve(low, high)
    return Decoded(
        stored(samples, storage),
        65_535,
        metadata=Metadata(native=Native("dicom", curve, header)),
        dropped=("its overlays",) if overlays else (),
    )


def _refuse_bomb(data: bytes) -> None:
    """Refuse a long deflated dataset: pydicom inflates it all. Raises ImageTooLarge."""
    if DEFLATED not in data[:HEAD]:
        return
    start = META + int.from_bytes(data[META - 4 : META], "little")
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    if len(inflating.decompress(data[start:], LONGEST)) == LONGEST:
        raise ImageTooLarge(
            f"a deflated DICOM file of more than {LONGEST:,} bytes", hint="save it uncompressed"
        )


def _refuse_unusual(dataset: Any) -> None:
    if "PixelData" not in dataset:
        raise UnreadableImage("a DICOM file without an image", hint="name a file with one")
    frames = int(dataset.get("NumberOfFrames") or 1)
    colours = dataset.get("PhotometricInterpretation", "")
    if frames > 1:
        found = f"of {frames} frames"
    elif dataset.get("SamplesPerPixel", 1) != 1 or colours not in GREYS:
        found = f"in colours ({colours})"
    elif dataset.BitsAllocated not in BITS:
        found = f"of {dataset.BitsAllocated} bits"
    else:
        return
    raise UnreadableImage(f"a DICOM file {found}", hint=EXPORT)


def encode(source: Encodable, file: BinaryIO) -> None:
    """Encode values of the kind of the source, uncompressed, as a derived image of its series."""
    from pydicom.uid import ExplicitVRLittleEndian

    native = source.image.metadata.native
    assert native is not None  # `refuse_unstated_colours` has seen to it
    header: DicomHeader = native.header
    samples = source.values(native.curve)
    values = np.rint(samples[..., 0])
    if samples.shape[2] > 1 and header.padding is not None:
        values = np.where(samples[..., 1] < VISIBLE, header.padding, values)
    with without_warnings():
        dataset = copy.deepcopy(header.dataset)
        if dataset.file_meta.TransferSyntaxUID.is_compressed:
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        syntax = dataset.file_meta.TransferSyntaxUID
        values = values.astype(header.dtype.newbyteorder("<" if syntax.is_little_endian else ">"))
        pixels = values.tobytes()
        _describe_pixels(dataset, values, header.size)
        _state_derivation(dataset, pixels)
        dataset.preamble = bytes(128)  # a TIFF header there would be that of the source
        dataset.PixelData = pixels + bytes(len(pixels) % 2)
        is_wide = dataset.BitsAllocated > 8 or syntax.is_implicit_VR
        dataset["PixelData"].VR = "OW" if is_wide else "OB"
        packed = io.BytesIO()
        dataset.save_as(packed, enforce_file_format=True)
    file.write(packed.getbuffer())


def _describe_pixels(dataset: Any, values: Array, size_before: tuple[int, int]) -> None:
    """State size, spacing and range of the pixels, and remove overlays and icons of the source."""
    dataset.Rows, dataset.Columns = values.shape
    factors = [after / before for after, before in zip(values.shape, size_before, strict=True)]
    for name in SPACINGS:
        if name in dataset and values.shape != size_before:
            spacing = zip(dataset[name].value, factors, strict=True)
            setattr(dataset, name, [f"{float(step) / factor:.10g}" for step, factor in spacing])
    for name, value in (
        ("SmallestImagePixelValue", values.min()),
        ("LargestImagePixelValue", values.max()),
    ):
        if name in dataset:
            dataset[name].value = int(value)
    for group in OVERLAYS:
        for element in [*dataset.group_dataset(group)]:
            del dataset[element.tag]
    if "IconImageSequence" in dataset:
        del dataset.IconImageSequence


def _state_derivation(dataset: Any, pixels: bytes) -> None:
    """State that the image is derived from its source, with an identifier of its own."""
    from pydicom.dataset import Dataset
    from pydicom.uid import generate_uid

    source = Dataset()
    source.ReferencedSOPClassUID = dataset.get("SOPClassUID", "")
    source.ReferencedSOPInstanceUID = dataset.get("SOPInstanceUID", "")
    dataset.SourceImageSequence = [*dataset.get("SourceImageSequence", []), source]
    dataset.ImageType = ["DERIVED", *([*dataset.get("ImageType", [])][1:] or ["SECONDARY"])]
    steps = (dataset.get("DerivationDescription"), f"restore_cli {__version__}")
    dataset.DerivationDescription = "; ".join(filter(None, steps))[-LONGEST_TEXT:]
    # The same result has the same identifier, another one never has.
    uid = str(dataset.get("SOPInstanceUID", ""))
    entropy = [uid, __version__, hashlib.sha256(pixels).hexdigest()]
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=entropy)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
