"""AVIF, as Pillow and libavif write and read it."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from restore_cli.errors import ImageTooLarge, OutputError, UnreadableImage
from restore_cli.imaging.codecs.boxes import boxes, properties
from restore_cli.imaging.headers import inspect
from restore_cli.imaging.image import Image
from restore_cli.imaging.io import decode, encode
from tests.imaging.images import camera_exif, icc_profile, image_of, levels_of, noise, pillow_file

RAMP = np.linspace(0, 255, 19 * 37 * 3).reshape(19, 37, 3).astype(np.uint8)


def avif(levels=RAMP, **options):
    return pillow_file(
        Pillow.fromarray(levels), "AVIF", quality=100, subsampling="4:4:4", **options
    )


@pytest.mark.parametrize("depth", [10, 12])
def test_all_bits_are_read(depth):
    levels = np.linspace(0, 2**depth - 1, 48 * 64 * 3).reshape(48, 64, 3).astype(np.uint16)
    found = decode(imagecodecs.avif_encode(levels, level=100, bitspersample=depth), name="it")
    assert found.bit_depth == 16
    assert np.array_equal(np.rint(found.pixels.permute(1, 2, 0).numpy() * (2**depth - 1)), levels)


@pytest.mark.parametrize("channels", [1, 3, 4])  # grey with alpha becomes RGB
def test_levels_survive_writing_nearly(channels):
    levels = np.linspace(0, 255, 40 * 40 * channels).reshape(40, 40, channels).astype(np.uint8)
    data = encode(image_of(levels), format="avif", quality=100)
    assert np.abs(levels_of(data) - levels).max() <= 3  # RGB becomes YCbCr


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotation_and_mirroring_are_applied_once(orientation):
    upright = np.zeros((32, 64, 3), np.uint8)
    upright[:16, :32] = 255
    data = avif(upright, exif=camera_exif(orientation))
    found = decode(data, name="it")
    expected = Pillow.fromarray(upright)
    jpeg = io.BytesIO()
    expected.save(jpeg, "JPEG", quality=100, exif=camera_exif(orientation))
    assert (found.pixels - decode(jpeg.getvalue(), name="it").pixels).abs().max() < 0.1
    again = decode(encode(found, format="avif"), name="it")
    assert again.pixels.shape == found.pixels.shape


def test_colours_stated_by_codes_are_those_of_a_png_with_cicp():
    levels = noise(48, 64, 3, 16) >> 6
    pytest.importorskip("imagecodecs", "2025.11.11")  # takes primaries
    data = imagecodecs.avif_encode(levels, bitspersample=10, primaries=9, transfer=16)
    found = decode(data, name="it")
    assert found.metadata.chunks == ((b"cICP", bytes((9, 16, 0, 1))),)
    with pytest.raises(OutputError, match="PQ"):
        encode(found, format="avif")
    assert decode(encode(found, format="png"), name="it").metadata.chunks == found.metadata.chunks


def test_an_icc_profile_replaces_the_codes():
    profile = icc_profile()  # it states the second in which it was made
    found = decode(avif(icc_profile=profile), name="it").metadata
    assert found.icc == profile and found.chunks == ()


def test_every_other_frame_is_named(caplog):
    frames = [Pillow.fromarray(RAMP), Pillow.fromarray(255 - RAMP)]
    decode(pillow_file(frames[0], "AVIF", save_all=True, append_images=frames[1:]), name="it")
    assert caplog.messages == ["it: read without the other frames"]


def with_size(data, height, width):
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


def test_a_giant_is_refused_by_its_header():
    with pytest.raises(ImageTooLarge, match="200000 x 100000"):
        decode(with_size(avif(), 100_000, 200_000), name="it")


@pytest.mark.parametrize("length", [20, 100, 250, -10])
def test_a_file_that_is_cut_is_refused(length):
    with pytest.raises(UnreadableImage, match=r"^it: "):
        decode(avif()[:length], name="it")


def test_the_header_states_the_size():
    header = inspect(avif(), name="it")
    assert (header.height, header.width) == (19, 37)


@pytest.mark.parametrize(
    "data", [b"", b"\0\0\0\0meta", b"\0\0\0\1meta\xff", b"\0\0\0\7free", bytes(99)]
)
def test_boxes_that_are_damaged_end_the_list(data):
    assert len([*boxes(data)]) <= 1
    assert properties(data) is None


def test_what_it_holds_comes_back(caplog):
    sent = Image(torch.full((3, 16, 16), 0.5), torch.full((1, 16, 16), 0.25), bit_depth=16)
    found = decode(encode(sent, format="avif"), name="it")
    assert (found.alpha - 0.25).abs().max() < 0.01
    assert caplog.messages == ["the image: written without its bits beyond 8"]
