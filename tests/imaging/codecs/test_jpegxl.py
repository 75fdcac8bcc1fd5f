"""JPEG XL, as imagecodecs (libjxl) writes and reads it."""

import struct

import imagecodecs
import numpy as np
import pytest
import torch

from restore_cli.errors import ImageTooLarge, OutputError, UnreadableImage
from restore_cli.imaging.codecs import jxl_header
from restore_cli.imaging.codecs.boxes import boxes
from restore_cli.imaging.image import Image, Metadata
from restore_cli.imaging.io import decode, encode
from tests.imaging.images import XMP, camera_exif, image_of, levels_of, noise


def box(kind, body):
    return struct.pack(">I", 8 + len(body)) + kind + body


FIRST = box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl \0\0\0\0jxl ")


def bits_of(*fields):
    """Pack (number, bits), the lowest bit first."""
    number, at = 0, 0
    for value, bits in fields:
        number |= value << at
        at += bits
    return number.to_bytes((at + 7) // 8 + 8, "little")


def stated(*colours, float_bits=0):
    """Return the beginning of a codestream of 8 x 16 pixels with these fields of its colours."""
    depth = [(1, 1), (0, 2), (7, 4)] if float_bits else [(0, 1), (0, 2)]
    fields = [(1, 1), (0, 5), (7, 3), (0, 1), (0, 1), *depth, (1, 1), (0, 2), (1, 1), *colours]
    return jxl_header.BARE + bits_of(*fields)


RGB_D65 = ((0, 1), (0, 1), (0, 2), (1, 2))
COLOURS = {
    "sRGB": ([(1, 1)], ()),
    "Display P3": ([*RGB_D65, (2, 2), (9, 4), (0, 1), (2, 2), (11, 4)], (12, 13, 0, 1)),
    "PQ": ([*RGB_D65, (2, 2), (7, 4), (0, 1), (2, 2), (14, 4)], (9, 16, 0, 1)),
    "HLG": ([*RGB_D65, (2, 2), (7, 4), (0, 1), (3, 2), (0, 6)], (9, 18, 0, 1)),
}


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", [8, 16])
def test_levels_are_kept_without_a_quality(depth, channels):
    levels = noise(13, 29, channels, depth)
    data = encode(image_of(levels), format="jxl")
    assert np.array_equal(np.rint(levels_of(data)), levels)
    assert np.array_equal(imagecodecs.jpegxl_decode(data).reshape(levels.shape), levels)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("quality", [None, 95])
def test_the_colours_that_are_stated_are_those_of_the_levels(quality, depth):
    ramp = torch.linspace(0, 1, 64).expand(3, 32, 64)
    data = encode(Image(ramp, bit_depth=depth), format="jxl", quality=quality)
    assert jxl_header.read_header(jxl_header.codestream(data)).colours == ()  # sRGB
    found = decode(data, name="it")
    assert (found.pixels - ramp).abs().max() < 0.02  # as one level of 8 bits seen by libjxl


@pytest.mark.parametrize("depth", [10, 12])
def test_the_depth_comes_from_the_header(depth):
    levels = noise(9, 11, 3, 16) >> (16 - depth)
    data = imagecodecs.jpegxl_encode(levels, lossless=True, bitspersample=depth)
    found = decode(data, name="it")
    assert found.bit_depth == 16
    assert np.array_equal(np.rint(found.pixels.permute(1, 2, 0).numpy() * (2**depth - 1)), levels)


@pytest.mark.parametrize("size", [(8, 8), (256, 256), (19, 37), (600, 3), (2000, 1000), (72, 128)])
def test_the_header_states_the_size(size):
    data = imagecodecs.jpegxl_encode(np.zeros((*size, 3), np.uint8), effort=1)
    header = jxl_header.read_header(jxl_header.codestream(data))
    assert (header.height, header.width) == size


@pytest.mark.parametrize(("fields", "codes"), COLOURS.values(), ids=COLOURS)
def test_colours_in_the_header_are_those_of_a_png_with_cicp(fields, codes):
    header = jxl_header.read_header(stated(*fields))
    assert header.colours == (((b"cICP", bytes(codes)),) if codes else ())
    assert (header.height, header.width) == (8, 16)


def test_an_icc_profile_in_the_header_is_noticed():
    assert jxl_header.read_header(stated((0, 1), (1, 1))).has_icc


def test_a_giant_is_refused_by_its_header():
    side = (1 << 30) - 1
    fields = [(0, 1), (3, 2), (side, 30), (1, 3), (1, 1)]
    with pytest.raises(ImageTooLarge, match="1073741824 x 1073741824"):
        decode(jxl_header.BARE + bits_of(*fields), name="it")


def test_levels_of_light_are_refused():
    with pytest.raises(UnreadableImage, match="it: a JPEG XL with 32-bit levels of light"):
        decode(stated((1, 1), float_bits=32), name="it")


@pytest.mark.parametrize("offset", [b"\0\0\0\0", b"\0\0\0\x06Exif\0\0", b""])
def test_exif_is_read_with_and_without_its_offset(offset):
    exif = camera_exif(orientation=6)[6:]
    pixels = imagecodecs.jpegxl_encode(noise(7, 13, 3), lossless=True)
    data = FIRST + box(b"jxlc", pixels) + box(b"Exif", offset + exif)
    found = decode(data, name="it")
    assert b"X-1" in found.metadata.exif
    assert (found.height, found.width) == (7, 13)  # only the codestream states an orientation


def test_compressed_boxes_and_a_codestream_in_parts_are_read():
    pixels = imagecodecs.jpegxl_encode(noise(7, 13, 3), lossless=True)
    parts = [box(b"jxlp", b"\0\0\0\0" + pixels[:6])]
    parts += [box(b"brob", b"xml " + imagecodecs.brotli_encode(XMP))]
    parts += [box(b"jxlp", b"\x80\0\0\1" + pixels[6:])]
    found = decode(FIRST + b"".join(parts), name="it")
    assert found.metadata.xmp == XMP
    assert found.pixels.shape == (3, 7, 13)


def test_a_bomb_in_a_compressed_box_is_left_out():
    pixels = imagecodecs.jpegxl_encode(noise(7, 13, 3), lossless=True)
    bomb = box(b"brob", b"xml " + imagecodecs.brotli_encode(bytes(1 << 25)))
    assert decode(FIRST + bomb + box(b"jxlc", pixels), name="it").metadata.xmp is None


def test_every_other_frame_is_named(caplog):
    frames = np.stack([noise(16, 16, 3), 255 - noise(16, 16, 3)])
    decode(imagecodecs.jpegxl_encode(frames, lossless=True), name="it")
    assert caplog.messages == ["it: read without the other frames"]


@pytest.mark.parametrize("length", [2, 12, 40, 60, 200])
def test_a_file_that_is_cut_is_refused(length):
    data = encode(Image(torch.rand(3, 40, 40)), format="jxl")
    with pytest.raises(UnreadableImage, match=r"^it: "):
        decode(data[:length], name="it")


def test_hdr_colours_are_refused():
    sent = Image(torch.rand(3, 8, 8), metadata=Metadata(chunks=((b"cICP", bytes((9, 16, 0, 1))),)))
    with pytest.raises(OutputError, match="HDR"):
        encode(sent, format="jxl")


def test_a_written_file_begins_as_the_standard_says():
    data = encode(Image(torch.rand(3, 8, 8), bit_depth=16), format="jxl")
    assert [kind for kind, _ in boxes(data)] == [b"JXL ", b"ftyp", b"jxll", b"jxlc"]
