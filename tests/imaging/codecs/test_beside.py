"""Contents of files beside their pixels are kept or named, whatever their format."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from benchmarks.jpeg_damage import END, by_pillow, scene
from restore_cli.imaging.codecs.exif import EXIF, first_directory
from restore_cli.imaging.io import decode, encode
from tests.imaging.images import icc_profile, image_of, noise, pillow_file, png_file

COLOUR = Pillow.fromarray(noise(19, 37, 3))
GREY = Pillow.fromarray(noise(19, 37, 1)[..., 0])
BROKEN = b"Exif\0\0MM\0*\0\0\xff\xff"
BOX = struct.pack(">I4s", 16, b"abcd") + b"contents"
FILES = {
    "png": png_file(noise(19, 37, 3)),
    "jpeg": pillow_file(COLOUR, "JPEG"),
    "webp": pillow_file(COLOUR, "WEBP"),
    "gif": pillow_file(GREY, "GIF"),
    "animated gif": pillow_file(
        GREY, "GIF", save_all=True, append_images=[GREY.point(lambda level: 255 - level)]
    ),
    "bmp": pillow_file(COLOUR, "BMP"),
    "bmp of palette": pillow_file(COLOUR.quantize(9), "BMP"),
    "ppm": pillow_file(COLOUR, "PPM"),
    "pbm": pillow_file(COLOUR.convert("1"), "PPM"),
    "deep pgm": b"P5\n2 2\n1000\n" + bytes(8),
}
IN_BOXES = {
    "avif": pillow_file(COLOUR, "AVIF"),
    "jpeg xl": imagecodecs.jpegxl_encode(noise(19, 37, 3, 16), lossless=True),
}
BEHIND = "it: read without the data behind its end"
OF_FRAMES = "it: read without the other frames"


@pytest.mark.parametrize("data", [*FILES.values(), *IN_BOXES.values()], ids=[*FILES, *IN_BOXES])
def test_data_behind_the_end_is_named(data, caplog):
    decode(data + BOX, name="it")
    assert [message for message in caplog.messages if "behind its end" in message]


@pytest.mark.parametrize("behind", [b"", bytes(5000)], ids=["nothing", "zeros"])
@pytest.mark.parametrize("data", [*FILES.values(), *IN_BOXES.values()], ids=[*FILES, *IN_BOXES])
def test_zeros_behind_the_end_are_no_data(data, behind, caplog):
    decode(data + behind, name="it")
    assert set(caplog.messages) <= {OF_FRAMES}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_exif_that_cannot_be_read_is_named(format, caplog):
    assert decode(pillow_file(COLOUR, format, exif=BROKEN), name="it").metadata.exif is None
    assert caplog.messages == ["it: read without its EXIF, which is damaged"]


def tiff_with(*tags, levels=None, **options):
    buffer = io.BytesIO()
    levels = noise(19, 37, 3) if levels is None else levels
    kind = "rgb" if levels.ndim == 3 else "minisblack"
    tifffile.imwrite(buffer, levels, photometric=kind, metadata=None, extratags=tags, **options)
    return buffer.getvalue()


def test_exif_of_a_tiff_that_cannot_be_read_is_named(caplog):
    other, tag = (struct.pack("<HHI", number, 4, 1) for number in (65000, EXIF))
    decode(tiff_with((65000, 4, 1, 1 << 30, True)).replace(other, tag), name="it")
    assert caplog.messages[-1] == "it: read without its EXIF, which is damaged"


WHITE = (318, 5, 2, (3127, 10000, 3290, 10000), True)
PRIMARIES = (319, 5, 6, (64, 100, 33, 100, 30, 100, 60, 100, 15, 100, 6, 100), True)


def transfer(depth):
    return (301, 3, 3 << depth, tuple(range(1 << depth)) * 3, True)


@pytest.mark.parametrize("format", ["tiff", "png", "jpeg", "webp", "avif", "jxl"])
def test_the_colours_that_a_tiff_states_are_kept(format, caplog):
    source = decode(tiff_with(WHITE, PRIMARIES, transfer(8)), name="it")
    stated = first_directory(source.metadata.exif)
    kept = decode(encode(source, format=format), name="it").metadata
    found = first_directory(kept.exif)
    assert [found.value(tag) for tag in (301, 318, 319)] == [
        stated.value(tag) for tag in (301, 318, 319)
    ]
    assert caplog.messages == []


def test_a_transfer_function_of_16_bits_is_named_where_8_are_written(caplog):
    image = decode(tiff_with(WHITE, transfer(16), levels=noise(19, 37, 3, 16)), name="it")
    kept = decode(encode(image, format="jpeg", name="it"), name="it").metadata
    assert caplog.messages == ["it: written without its transfer function, its bits beyond 8"]
    assert 318 in first_directory(kept.exif).entries


def test_a_georeference_is_named(caplog):
    keys = (34735, 3, 4, (1, 1, 0, 0), True)
    scale = (33550, 12, 3, (1.0, 1.0, 0.0), True)
    decode(tiff_with(keys, scale), name="it")
    assert caplog.messages == ["it: read without its georeference"]


def test_tags_of_vendors_are_named(caplog):
    decode(tiff_with((65000, 2, 5, "mine", True)), name="it")
    assert caplog.messages == ["it: read without its private tags"]


@pytest.mark.parametrize("name", ["ppm", "pbm", "deep pgm"])
def test_comments_of_a_pnm_are_kept(name):
    kind, _, rest = FILES[name].partition(b"\n")
    image = decode(kind + b"\n# made by hand\n#again\n" + rest, name="it")
    assert [text.text for text in image.metadata.texts] == ["made by hand", "again"]
    there = decode(encode(image, format="png"), name="it").metadata.texts
    assert [text[:2] for text in there] == [("Comment", "made by hand"), ("Comment", "again")]


def bmp_with_profile(profile, kind=b"DEBM"):
    """Return a BMP of version 5 with a profile behind its pixels."""
    plain = pillow_file(COLOUR, "BMP")
    pixels = plain[54:]
    head = struct.pack("<I", 124) + plain[18:54] + bytes(16) + kind + bytes(48)
    head += struct.pack("<IIII", 4, 124 + len(pixels), len(profile), 0)
    start = struct.pack("<IHHI", 138 + len(pixels) + len(profile), 0, 0, 138)
    return b"BM" + start + head + pixels + profile


def test_the_profile_of_a_bmp_is_kept(caplog):
    profile = icc_profile()
    image = decode(bmp_with_profile(profile), name="it")
    assert image.metadata.icc == profile
    np.testing.assert_array_equal(image.pixels, decode(FILES["bmp"], name="it").pixels)
    assert caplog.messages == []


def test_the_profile_of_a_bmp_in_another_file_is_named(caplog):
    decode(bmp_with_profile(b"C:\\colours.icm\0", b"KNIL"), name="it")
    assert caplog.messages == ["it: read without its ICC profile, which is in another file"]


def gif_with(*blocks):
    data = FILES["gif"]
    colours = 13 + (3 << (data[10] & 7) + 1)
    return data[:colours] + b"".join(blocks) + data[colours:]


def extension(label, *parts):
    return b"!" + bytes([label]) + b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def test_comments_of_a_gif_are_kept():
    data = gif_with(extension(0xFE, b"one", b" part"), extension(0xFE, b"two"))
    texts = decode(data, name="it").metadata.texts
    assert [text.text for text in texts] == ["one part", "two"]


@pytest.mark.parametrize(
    ("block", "name"),
    [
        (extension(0xFF, b"ICCRGBG1012", icc_profile()[:200]), "its ICC profile"),
        (extension(0xFF, b"MyProgram01", b"data"), "its application data"),
        (extension(0x01, bytes(12), b"words"), "its plain text"),
    ],
)
def test_extensions_of_a_gif_are_named(block, name, caplog):
    decode(gif_with(block), name="it")
    assert caplog.messages == [f"it: read without {name}"]


def test_the_film_behind_a_heif_image_is_named(caplog):
    film = struct.pack(">I4s", 24, b"mpvd") + bytes(16)
    decode(IN_BOXES["avif"] + film, name="it")
    assert caplog.messages == ["it: read without its video clip"]


SCANS = "it: read without its last scans, which are missing"


@pytest.mark.parametrize("scans", [1, 3, -1], ids=["first", "three", "all but the last"])
@pytest.mark.parametrize("kind", ["progressive", "grey progressive", "progressive restarts"])
@pytest.mark.parametrize("closed", [END, b""], ids=["closed", "open"])
def test_a_progressive_jpeg_that_was_cut_between_two_scans_is_noticed(kind, scans, closed, caplog):
    data = by_pillow(scene(75, 90, 3), kind)
    starts = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    cut = starts[scans]
    tables = data.rfind(b"\xff\xc4", 0, cut)  # those of the scan that is missing stand before it
    cut = tables if tables > starts[scans - 1 if scans > 0 else -2] else cut
    decode(data[:cut] + closed, name="it")
    assert [message for message in caplog.messages if SCANS.split("its")[1] in message]


@pytest.mark.parametrize("kind", ["progressive", "4:2:0", "grey progressive"])
def test_a_jpeg_with_all_its_scans_is_whole(kind, caplog):
    decode(by_pillow(scene(75, 90, 3), kind), name="it")
    assert caplog.messages == []


def test_a_jpeg_without_the_scan_of_a_component_is_noticed(caplog):
    colours = by_pillow(scene(64, 64, 3), "4:4:4")
    scan = colours.index(b"\xff\xda")
    alone = by_pillow(scene(64, 64, 3), "grey")
    first = alone[alone.index(b"\xff\xda") :]
    decode(colours[:scan] + first, name="it")
    assert [message for message in caplog.messages if "last scans" in message]


def test_the_words_of_an_image_without_losses_are_none(caplog):
    encode(image_of(noise(5, 7, 3)), format="png")
    assert caplog.messages == []
