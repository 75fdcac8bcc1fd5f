"""Stills on disk: PNG, JPEG, WebP and TIFF both ways; BMP, GIF and PPM as sources only.

What a picture brings along (alpha, 16 bit, ICC profile, EXIF, XMP, resolution) leaves with it, as
far as the format of the target can hold it. JPEG holds no alpha: it is laid on white. JPEG and
WebP hold 8 bit.
"""

from __future__ import annotations

import io
import os
import struct
import tempfile
import warnings
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, ImageCms, ImageOps, UnidentifiedImageError
from PIL import Image as Pillow
from torch import Tensor

from restore_cli.errors import (
    ImageTooLarge,
    OutputError,
    OutputExists,
    UnreadableImage,
    UsageError,
)
from restore_cli.imaging.image import Image, Metadata

Format = Literal["png", "jpeg", "webp", "tiff"]
Array = NDArray[Any]

SUFFIXES: dict[str, Format] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
}
READABLE_SUFFIXES = frozenset([*SUFFIXES, ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"])
READABLE_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
LARGEST = 500_000_000  # pixels; 6 GB as float32 RGB
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_16_MODES = {1: "mono", 3: "rgb", 4: "rgba"}  # channels -> kornia_rs


def format_of(path: Path) -> Format:
    """The format that a suffix asks for. Raises UsageError."""
    try:
        return SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise UsageError(
            f"{path.name}: cannot write {path.suffix or 'a file without suffix'}",
            hint=f"one of: {', '.join(SUFFIXES)}",
        ) from None


def read(source: Path) -> Image:
    """The picture in a file, upright. Raises UnreadableImage, ImageTooLarge."""
    try:
        data = source.read_bytes()
    except OSError as error:
        raise UnreadableImage(
            f"{source}: {error.strerror or error}", hint="check the path and its permissions"
        ) from error
    return decode(data, name=str(source))


def decode(data: bytes, *, name: str) -> Image:
    """The picture in `data`; its contents count, not the suffix of `name`.

    Raises UnreadableImage, ImageTooLarge.
    """
    if not data:
        raise UnreadableImage(f"{name}: the file is empty")
    try:
        with warnings.catch_warnings():
            # The limit is our own, below; a damaged tag is no reason to refuse a picture.
            warnings.simplefilter("ignore")
            with Pillow.open(io.BytesIO(data), formats=READABLE_FORMATS) as opened:
                if opened.width * opened.height > LARGEST:
                    raise ImageTooLarge(
                        f"{name}: {opened.width} x {opened.height} pixels, "
                        f"at most {LARGEST:,} are read",
                        hint="cut it into parts",
                    )
                return _from_pillow(opened, data, name)
    except UnidentifiedImageError as error:
        raise UnreadableImage(
            f"{name}: not an image that can be read",
            hint="PNG, JPEG, WebP, TIFF, BMP, GIF and PPM can",
        ) from error
    except Pillow.DecompressionBombError as error:
        raise ImageTooLarge(f"{name}: {error}", hint="cut it into parts") from error
    except (OSError, SyntaxError, ValueError, struct.error, EOFError, zlib.error) as error:
        raise UnreadableImage(
            f"{name}: damaged or truncated ({error})", hint="get the file again"
        ) from error


def _from_pillow(opened: Pillow.Image, data: bytes, name: str) -> Image:
    if opened.mode in ("F", "I") and opened.format != "PNG":
        raise UnreadableImage(
            f"{name}: {opened.mode} pixels (32 bit)", hint="convert it to 8 or 16 bit first"
        )
    exif = opened.getexif()
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    metadata = _metadata(opened, exif)
    deep = _sixteen_bit(opened, data)
    if deep is not None:
        return _image(_upright(deep, orientation), 16, metadata)
    opened.load()
    upright = ImageOps.exif_transpose(opened)
    if upright.mode == "CMYK":
        upright, metadata = _cmyk_to_rgb(upright, metadata)
    transparent = upright.has_transparency_data
    grey = upright.mode in ("1", "L", "LA", "La")
    mode = ("LA" if transparent else "L") if grey else ("RGBA" if transparent else "RGB")
    return _image(np.asarray(upright.convert(mode)), 8, metadata)


def _metadata(opened: Pillow.Image, exif: Pillow.Exif) -> Metadata:
    info = opened.info
    if ExifTags.Base.Orientation in exif:
        exif[ExifTags.Base.Orientation] = 1
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    dpi = info.get("dpi")
    # TIFF keeps the tags of its own layout in the same place: they describe the old file.
    carried = exif.tobytes() if len(exif) and opened.format != "TIFF" else None
    return Metadata(
        icc=info.get("icc_profile") or None,
        exif=carried,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi else None,
    )


def _sixteen_bit(opened: Pillow.Image, data: bytes) -> Array | None:
    """(H, W, C) uint16 where the file holds 16 bit in a layout that can be read as such."""
    if opened.format == "PNG" and data[24] == 16:
        from kornia_rs.io import decode_image_png_u16

        channels = {0: 1, 2: 3, 6: 4}.get(data[25])
        if channels is None:  # grey with alpha: the decoder has no such layout
            raise UnreadableImage(
                "16-bit grey PNG with alpha cannot be read without loss",
                hint="convert it to 16-bit RGBA first",
            )
        size = (opened.height, opened.width)
        return np.asarray(decode_image_png_u16(data, size, PNG_16_MODES[channels]))
    if opened.format == "TIFF":
        import tifffile

        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            if page.dtype != np.uint16 or page.photometric.name not in ("MINISBLACK", "RGB"):
                return None
            pixels: Array = page.asarray()
        if pixels.ndim == 2:
            return pixels[..., None]
        if page.planarconfig.name == "SEPARATE":
            pixels = np.moveaxis(pixels, 0, -1)
        return np.ascontiguousarray(pixels)
    if opened.mode.startswith("I;16"):
        return np.asarray(opened)[..., None].astype(np.uint16)
    return None


def _upright(pixels: Array, orientation: int) -> Array:
    """The eight EXIF orientations for (H, W, C)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _cmyk_to_rgb(picture: Pillow.Image, metadata: Metadata) -> tuple[Pillow.Image, Metadata]:
    """To sRGB through the embedded profile if there is one; the result carries no profile."""
    without_profile = Metadata(None, metadata.exif, metadata.xmp, metadata.dpi)
    if metadata.icc is None:
        return picture.convert("RGB"), without_profile
    converted = ImageCms.profileToProfile(
        picture, io.BytesIO(metadata.icc), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    return converted or picture.convert("RGB"), without_profile


def _image(pixels: Array, bit_depth: int, metadata: Metadata) -> Image:
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    largest = 255 if bit_depth == 8 else 65535
    tensor = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1).div_(largest)
    colours = tensor.shape[0] - (tensor.shape[0] in (2, 4))
    alpha = tensor[colours:] if tensor.shape[0] > colours else None
    return Image(tensor[:colours], alpha, bit_depth, metadata)


def _quantised(tensor: Tensor, bit_depth: int) -> Array:
    """(H, W, C) integers, rounded to the nearest level."""
    largest = 255 if bit_depth == 8 else 65535
    levels = (tensor.clamp(0, 1) * largest + 0.5).floor().permute(1, 2, 0).contiguous()
    array: Array = levels.numpy().astype(np.uint8 if bit_depth == 8 else np.uint16)
    return array


def encode(image: Image, *, format: Format, quality: int | None = None) -> bytes:
    """The picture as a file. quality: 1-100 for JPEG (95) and WebP (lossless if not given)."""
    deep = image.bit_depth == 16 and format in ("png", "tiff")
    pixels, alpha = image.pixels, image.alpha
    if alpha is not None and format == "jpeg":
        pixels, alpha = pixels * alpha + (1 - alpha), None
    if alpha is not None and deep and pixels.shape[0] == 1:
        pixels = pixels.expand(3, -1, -1)  # no 16-bit layout of grey with alpha is written
    whole = pixels if alpha is None else torch.cat([pixels, alpha])
    array = _quantised(whole, 16 if deep else 8)
    if deep:
        return (_encode_png_16 if format == "png" else _encode_tiff_16)(array, image.metadata)
    return _encode_pillow(array, image.metadata, format, quality)


def _encode_pillow(array: Array, metadata: Metadata, format: Format, quality: int | None) -> bytes:
    from PIL.PngImagePlugin import PngInfo

    options: dict[str, Any] = {"icc_profile": metadata.icc}
    if metadata.exif is not None:
        options["exif"] = metadata.exif
    if metadata.dpi is not None:
        options["dpi"] = metadata.dpi
    if format == "jpeg":
        options |= {"quality": quality or 95, "subsampling": 0}
    elif format == "webp":
        options |= {"quality": quality} if quality else {"lossless": True, "exact": True}
    elif format == "tiff":
        options["compression"] = "tiff_adobe_deflate"
    if metadata.xmp is not None and format == "png":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", metadata.xmp.decode(errors="replace"))
    elif metadata.xmp is not None and format in ("jpeg", "webp"):
        options["xmp"] = metadata.xmp
    elif metadata.xmp is not None:
        options["tiffinfo"] = {700: metadata.xmp}
    buffer = io.BytesIO()
    squeezed = array[..., 0] if array.shape[-1] == 1 else array
    Pillow.fromarray(squeezed).save(buffer, format=format, **options)
    return buffer.getvalue()


def _encode_tiff_16(array: Array, metadata: Metadata) -> bytes:
    import tifffile

    tags: list[tuple[int, str, int, bytes, bool]] = []
    if metadata.icc:
        tags.append((34675, "B", len(metadata.icc), metadata.icc, True))
    if metadata.xmp:
        tags.append((700, "B", len(metadata.xmp), metadata.xmp, True))
    channels = array.shape[-1]
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        array[..., 0] if channels == 1 else array,
        photometric="minisblack" if channels == 1 else "rgb",
        extrasamples=["unassalpha"] if channels == 4 else None,
        compression="zlib",
        predictor=True,
        resolution=metadata.dpi,
        resolutionunit="INCH" if metadata.dpi else None,
        extratags=tags,
        metadata=None,
    )
    return buffer.getvalue()


def _encode_png_16(array: Array, metadata: Metadata) -> bytes:
    """By kornia_rs, which writes to a path only; the metadata chunks are put in afterwards."""
    from kornia_rs.io import write_image_png_u16

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "pixels.png")
        write_image_png_u16(path, np.ascontiguousarray(array), PNG_16_MODES[array.shape[-1]])
        with open(path, "rb") as file:
            data = file.read()
    after_header = len(PNG_SIGNATURE) + 25
    return data[:after_header] + _png_chunks(metadata) + data[after_header:]


def _png_chunks(metadata: Metadata) -> bytes:
    chunks = b""
    if metadata.icc:
        chunks += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
    if metadata.dpi:
        per_metre = (round(value / 0.0254) for value in metadata.dpi)
        chunks += _chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1))
    if metadata.exif:
        chunks += _chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0"))
    if metadata.xmp:
        chunks += _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp)
    return chunks


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write(
    image: Image, target: Path, *, quality: int | None = None, overwrite: bool = False
) -> None:
    """Write the picture whole or not at all; the suffix says how. Missing folders are made.

    Raises UsageError, OutputExists, OutputError.
    """
    data = encode(image, format=format_of(target), quality=quality)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".restore-", suffix=".part")
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            part.chmod(0o666 & ~_umask())
            if target.exists() and not overwrite:
                raise OutputExists(f"{target} exists", hint="add --overwrite or --skip-existing")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{target}: {error.strerror or error}", hint="choose another place with -o"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
