"""Headers tell size and kind as the decoders do, before any pixel is decoded."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from restore_cli.errors import ImageTooLarge, UnreadableImage
from restore_cli.imaging.headers import inspect, read_header
from restore_cli.imaging.io import decode
from tests.imaging.images import noise, pillow_file, png_chunk, png_file

GREY = Pillow.fromarray(noise(19, 37, 1)[..., 0])
COLOUR = Pillow.fromarray(noise(19, 37, 3))
FILES = {
    "png": png_file(noise(19, 37, 3)),
    "jpeg": pillow_file(COLOUR, "JPEG"),
    "progressive jpeg": pillow_file(
        COLOUR, "JPEG", progressive=True, exif=b"Exif\0\0" + bytes(900)
    ),
    "webp": pillow_file(COLOUR, "WEBP"),
    "lossless webp": pillow_file(COLOUR, "WEBP", lossless=True),
    "extended webp": pillow_file(COLOUR, "WEBP", xmp=b"<x/>"),
    "tiff": pillow_file(COLOUR, "TIFF", compression="tiff_lzw"),
    "jpeg in tiff": pillow_file(COLOUR, "TIFF", compression="jpeg"),
    "bmp": pillow_file(COLOUR, "BMP"),
    "gif": pillow_file(GREY, "GIF"),
    "avif": pillow_file(COLOUR, "AVIF"),
    "jpeg xl": imagecodecs.jpegxl_encode(noise(19, 37, 3), lossless=True),
    "jpeg xl in boxes": imagecodecs.jpegxl_encode(noise(19, 37, 3, 16), lossless=True),
    "pgm": pillow_file(GREY, "PPM"),
    "pbm": b"P1\n# a comment\n37 19\n" + b"1 " * (37 * 19),
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_the_header_has_the_size_of_the_decoded_image(data):
    header, image = inspect(data, name="it"), decode(data, name="it")
    assert (header.height, header.width) == (image.height, image.width) == (19, 37)
    assert header.smallest_file <= len(data)


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_the_header_of_a_file_is_that_of_its_bytes(data, tmp_path):
    (tmp_path / "file").write_bytes(data)
    assert read_header(tmp_path / "file") == inspect(data, name="it")


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
@pytest.mark.parametrize("length", range(0, 40, 3))
def test_a_header_that_is_cut_is_left_to_the_decoder(data, length):
    assert inspect(data[:length], name="it") in (None, inspect(data, name="it"))


def png_of(height, width):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(4000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def jpeg_of(height, width):
    data = bytearray(FILES["jpeg"])
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def test_a_webp_too_short_for_its_size_is_refused_unread():
    data = bytearray(FILES["webp"])
    data[26:30] = struct.pack("<HH", 16383, 16383)
    with pytest.raises(UnreadableImage, match="cannot hold 16383 x 16383 pixels"):
        inspect(bytes(data), name="it")


def test_an_even_webp_needs_few_bytes():
    data = pillow_file(Pillow.new("RGB", (5000, 4000)), "WEBP", quality=1, method=0)
    header = inspect(data, name="it")
    assert len(data) / 20 < header.smallest_file < len(data)


def gif_of(height, width):
    return FILES["gif"][:6] + struct.pack("<HH", width, height) + FILES["gif"][10:]


def bmp_of(height, width):
    return FILES["bmp"][:18] + struct.pack("<ii", width, -height) + FILES["bmp"][26:]


def tiff_of(height, width):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((8, 8, 3), np.uint8), compression="zlib", metadata=None)
    data = bytearray(buffer.getvalue())
    for tag, value in ((256, width), (257, height)):
        at = data.index(struct.pack("<H", tag) + struct.pack("<HI", 4, 1))
        data[at + 8 : at + 12] = struct.pack("<I", value)
    return bytes(data)


each_claim = pytest.mark.parametrize(
    "claiming",
    [png_of, jpeg_of, gif_of, bmp_of, tiff_of, lambda h, w: b"P6 %d %d 255\n" % (w, h)],
    ids=["png", "jpeg", "gif", "bmp", "tiff", "ppm"],
)


@each_claim
def test_a_small_file_that_claims_400_megapixels_is_refused_before_it_is_decoded(
    claiming, tmp_path
):
    path = tmp_path / "claim"
    path.write_bytes(claiming(20_000, 20_000))
    with pytest.raises(UnreadableImage, match="cannot hold 20000 x 20000 pixels"):
        read_header(path)


@each_claim
def test_a_giant_is_refused_by_its_header(claiming):
    with pytest.raises(ImageTooLarge, match="the limit is 500,000,000"):
        inspect(claiming(30_000, 30_000), name="it")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "TIFF"])
def test_the_smallest_file_of_a_large_plain_image_is_not_refused(format):
    options = {"TIFF": {"compression": "tiff_lzw"}, "JPEG": {"progressive": True, "quality": 1}}
    plain = Pillow.new("L", (5000, 5000))
    header = inspect(pillow_file(plain, format, **options.get(format, {})), name="it")
    assert (header.height, header.width) == (5000, 5000)


@pytest.mark.parametrize("kind", ["empty", "missing", "folder"])
def test_what_has_no_header_is_left_to_the_decoder(kind, tmp_path):
    path = tmp_path / kind
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    assert read_header(path) is None
