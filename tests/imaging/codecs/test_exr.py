"""OpenEXR: light, alpha, sample types, attributes and windows; what is not kept is named."""

import io
import struct
from dataclasses import replace
from fractions import Fraction

import numpy as np
import OpenEXR
import pytest
import torch

from restore_cli.errors import ImageTooLarge, UnreadableImage
from restore_cli.imaging.codecs import exr_header
from restore_cli.imaging.headers import inspect
from restore_cli.imaging.image import Image
from restore_cli.imaging.io import decode, encode
from tests.imaging.images import image_of, noise
from tests.imaging.scientific import exr_contents, exr_file, light

P3 = (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329)
COMPRESSIONS = [*OpenEXR.Compression.__members__][:-1]  # the last is their number


def enlarged(image, factor):
    """Return each pixel as a square of pixels."""

    def repeated(x):
        return x.repeat_interleave(factor, 1).repeat_interleave(factor, 2)

    alpha = None if image.alpha is None else repeated(image.alpha)
    return replace(image, pixels=repeated(image.pixels), alpha=alpha)


@pytest.mark.parametrize("half", [True, False], ids=["half", "float"])
@pytest.mark.parametrize("channels", [1, 3, 4], ids=["grey", "rgb", "rgba"])
def test_light_comes_back_in_its_sample_type(channels, half):
    values = light(channels=channels)
    if channels == 4:
        values[..., 3] /= 50
    names = "Y" if channels == 1 else "RGBA"
    data = exr_file(values, half=half, names=names)
    image = decode(data, name="a.exr")
    assert (image.bit_depth, len(image.pixels)) == (16, min(channels, 3))
    assert 0 <= image.pixels.min() <= image.pixels.max() <= 1
    _, before = exr_contents(data)
    _, after = exr_contents(encode(image, format="exr"))
    assert {name: each.dtype for name, each in after.items()} == {
        name: each.dtype for name, each in before.items()
    }
    for name, each in before.items():
        np.testing.assert_allclose(after[name], each, rtol=0 if half else 4e-6, atol=1e-7)


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_compression_and_attributes_are_kept(name):
    compression = OpenEXR.Compression.__members__[name]
    stated = {
        "compression": compression,
        "owner": "a studio",
        "chromaticities": P3,
        "pixelAspectRatio": 2.0,
        "capDate": "2024:01:01",
        "framesPerSecond": Fraction(24, 1),
        "numbers": np.array([1, 2], np.int32),
    }
    data = exr_file(light(height=300), half=False, **stated)
    found, _ = exr_contents(encode(decode(data, name="a.exr"), format="exr"))
    assert found["compression"] == compression
    assert (found["owner"], found["capDate"]) == ("a studio", "2024:01:01")
    assert found["chromaticities"] == pytest.approx(P3)
    assert found["pixelAspectRatio"] == 2
    assert found["framesPerSecond"] == 24
    assert found["numbers"].tolist() == [1, 2]


def test_windows_grow_with_the_image():
    corners = (np.array([10, -20], np.int32), np.array([39, -1], np.int32))
    display = (np.array([0, -30], np.int32), np.array([49, 9], np.int32))
    data = exr_file(light(), dataWindow=corners, displayWindow=display)
    image = decode(data, name="a.exr")
    same, _ = exr_contents(encode(image, format="exr"))
    assert np.array_equal(same["dataWindow"], corners)
    found, channels = exr_contents(encode(enlarged(image, 2), format="exr"))
    assert channels["R"].shape == (40, 60)
    assert np.array_equal(found["dataWindow"], [[20, -40], [79, -1]])
    assert np.array_equal(found["displayWindow"], [[0, -60], [99, 19]])


def test_light_without_cover_stays_beside_transparency():
    values = np.zeros((4, 5, 4), np.float32)
    values[..., :3], values[2:, :, 3], values[1, :, 3] = 3, 1, 0.25
    data = exr_file(values)
    image = decode(data, name="a.exr")
    assert image.metadata.light.peak == 16  # 3 / 0.25
    _, found = exr_contents(encode(image, format="exr"))
    assert np.array_equal(found["R"], values[..., 0])
    assert np.array_equal(found["A"], values[..., 3])


@pytest.mark.parametrize(
    ("value", "said", "found"),
    [
        (np.nan, "NaN (set to 0) and infinity (set to the highest value)", 0),
        (np.inf, "NaN (set to 0) and infinity (set to the highest value)", 8),
        (-np.inf, "NaN (set to 0) and infinity (set to the highest value)", 0),
        (-2, "negative values (set to 0)", 0),
    ],
    ids=str,
)
def test_what_is_no_light_has_a_value_and_is_named(value, said, found, caplog):
    values = np.full((4, 5, 3), 8, np.float32)
    values[1, 2, 0] = value
    image = decode(exr_file(values, half=False), name="a.exr")
    assert caplog.messages == [f"a.exr: read without {said}"]
    _, channels = exr_contents(encode(image, format="exr"))
    assert channels["R"][1, 2] == pytest.approx(found, rel=1e-5)


def test_other_channels_are_named(caplog):
    depth = np.zeros((20, 30), np.float32)
    decode(exr_file(light(), more={"Z": depth, "N.X": depth}), name="a.exr")
    assert caplog.messages == ["a.exr: read without its channels N.X, Z"]


def test_the_first_part_is_read_and_the_others_are_named(caplog):
    file, values = io.BytesIO(), light().astype(np.float16)
    parts = [
        OpenEXR.Part({"type": OpenEXR.scanlineimage, "name": name}, {"RGB": part})
        for name, part in (("left", values), ("right", values[::-1].copy()))
    ]
    with OpenEXR.File(parts) as written:
        written.write(file)
    image = decode(file.getvalue(), name="a.exr")
    assert image.pixels.shape == (3, 20, 30)
    assert caplog.messages == ["a.exr: read without the other parts"]
    assert "R" in exr_contents(encode(image, format="exr"))[1]


def test_tiles_are_read():
    tiles = {"type": OpenEXR.tiledimage, "tiles": OpenEXR.TileDescription()}
    image = decode(exr_file(light(50, 70), **tiles), name="a.exr")
    found, channels = exr_contents(encode(image, format="exr"))
    assert found["type"] == OpenEXR.scanlineimage
    assert np.array_equal(channels["G"], light(50, 70)[..., 1].astype(np.float16))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("Y", "RY", "BY"), r"luminance and chroma"),
        (("diffuse.R", "diffuse.G", "diffuse.B"), "the channels diffuse.B, diffuse.G"),
    ],
    ids=["chroma", "layers"],
)
def test_channels_that_are_no_rgb_are_refused_by_name(names, said):
    plane = light()[..., 0].astype(np.float16)
    data = exr_file(np.zeros((20, 30, 0)), more={name: plane for name in names})
    with pytest.raises(UnreadableImage, match=f"a.exr: an OpenEXR image with {said}"):
        inspect(data, name="a.exr")


def test_subsampled_and_integer_channels_are_refused_by_name():
    data = exr_file(light())
    at = data.index(b"B\0", data.index(b"channels\0chlist\0") + 16) + 2
    for offset, value, said in ((8, 2, "subsampled channels"), (0, 0, "integer channels")):
        edited = bytearray(data)
        struct.pack_into("<i", edited, at + offset, value)
        with pytest.raises(UnreadableImage, match=said):
            decode(bytes(edited), name="a.exr")


def test_deep_samples_are_refused_by_name():
    data = bytearray(exr_file(light()))
    struct.pack_into("<I", data, 4, 2 | exr_header.DEEP)
    with pytest.raises(UnreadableImage, match="deep samples"):
        inspect(bytes(data), name="a.exr")


def window(data, right, bottom):
    at = data.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 12
    return data[:at] + struct.pack("<2i", right, bottom) + data[at + 8 :]


def test_a_giant_is_refused_by_its_header():
    data = window(exr_file(light()), 99_999, 99_999)
    with pytest.raises(ImageTooLarge, match="100000 x 100000"):
        inspect(data, name="a.exr")
    with pytest.raises(UnreadableImage, match="cannot hold 20000 x 20000"):
        inspect(window(exr_file(light()), 19_999, 19_999), name="a.exr")


def test_a_file_that_lacks_a_chunk_is_refused_without_a_word_of_the_library(capfd):
    data = exr_file(light(height=100))
    for damaged in (window(data, 29, 9_999), data[:-3]):
        with pytest.raises(UnreadableImage, match="damaged or truncated"):
            decode(damaged, name="a.exr")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("depth", [8, 16])
def test_levels_become_light_and_come_back(depth):
    image = image_of(noise(9, 7, 4, depth))
    _, channels = exr_contents(encode(image, format="exr"))
    assert channels["R"].dtype == (np.float16 if depth == 8 else np.float32)
    back = decode(encode(image, format="exr"), name="a.exr").displayed()
    visible = (image.alpha > 0).expand_as(image.pixels)
    steps = 1 / 255 if depth == 8 else 3 / 65535
    assert (back.pixels - image.pixels)[visible].abs().max() < steps


def test_a_png_of_light_is_what_a_display_shows(caplog):
    values = np.full((4, 5, 3), 0.5, np.float32)
    values[0] = 7
    data = encode(decode(exr_file(values, chromaticities=P3), name="a.exr"), format="png")
    lost = "the image: written without its header (EXR), values above white (1)"
    assert caplog.messages == [lost]
    image = decode(data, name="a.png")
    assert image.bit_depth == 16
    assert image.pixels[0, 0].tolist() == [1] * 5
    assert image.pixels[1, 3, 3].item() == pytest.approx(0.735357, abs=1e-4)
    assert image.metadata.icc is not None  # of the chromaticities


def test_the_record_of_an_image_is_kept():
    image = Image(torch.rand(3, 4, 4))
    image = replace(image, metadata=replace(image.metadata, record='{"task": "derain"}'))
    found, _ = exr_contents(encode(image, format="exr"))
    assert "derain" in found["xmp"]
    assert b"derain" in decode(encode(image, format="exr"), name="a.exr").metadata.xmp
