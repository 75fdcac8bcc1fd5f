"""Images and image files for tests, some as other programs write them."""

import io
import struct
import zlib

import numpy as np
import torch
from PIL import Image as Pillow
from PIL import ImageCms, TiffImagePlugin

from restore_cli.imaging.image import Image
from restore_cli.imaging.io import decode

XMP = (
    b'<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Artist="J\xc3\xb8rgen"/></rdf:RDF>'
    b'</x:xmpmeta><?xpacket end="w"?>'
)
# Adam7: first row, first column, step between rows, step between columns.
PASSES = [
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
]


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_file(levels, *chunks, interlaced=False):
    """Return levels (H, W, C) as a PNG without filters; chunks: (kind, body) before the pixels."""
    height, width, channels = levels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, levels.itemsize * 8, kind, 0, 0, interlaced)
    parts = [levels[a::c, b::d] for a, b, c, d in PASSES] if interlaced else [levels]
    big_endian = [part.astype(part.dtype.newbyteorder(">")) for part in parts if part.size]
    rows = b"".join(b"\0" + row.tobytes() for part in big_endian for row in part)
    chunks = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def pillow_file(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(height, width, channels, depth=8):
    """Return random levels (H, W, C); the first are black, white and 1."""
    levels = np.random.default_rng(0).integers(0, 2**depth, (height, width, channels))
    levels.flat[: min(3, levels.size)] = [0, 2**depth - 1, 1][: levels.size]
    return levels.astype(np.uint8 if depth == 8 else np.uint16)


def image_of(levels, **fields):
    """Return levels (H, W, C) as an image."""
    depth = levels.itemsize * 8
    values = torch.from_numpy(levels.astype(np.float32) / (2**depth - 1)).permute(2, 0, 1)
    colours = values.shape[0] - (values.shape[0] in (2, 4))
    return Image(
        values[:colours], values[colours:] if len(values) > colours else None, depth, **fields
    )


def levels_of(data):
    """Decode the levels of a file, (H, W, C) with alpha."""
    image = decode(data, name="it")
    bands = [image.pixels] if image.alpha is None else [image.pixels, image.alpha]
    largest = 2**image.bit_depth - 1
    return np.concatenate([band.numpy() for band in bands]).transpose(1, 2, 0) * largest


def camera_exif(orientation=1):
    """Return EXIF of a camera, with maker notes, GPS and size."""
    exif = Pillow.Exif()
    exif[0x010F] = "Make"
    exif[0x0110] = "X-1"
    exif[0x0112] = orientation
    exif[0x8769] = {
        0x9003: "2024:05:06 07:08:09",
        0x829A: TiffImagePlugin.IFDRational(1, 250),
        0x927C: b"the maker's own \0\1\2",
        0xA002: 13,
        0xA003: 7,
    }
    exif[0x8825] = {1: "N", 2: (48.0, 8.0, 0.5)}
    return exif.tobytes()


def icc_profile(space=b"RGB "):
    """Return the sRGB profile, or the same labelled for another colour space."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:16] + space + profile[20:]
