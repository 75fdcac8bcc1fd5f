"""Profiles with the statements of a PNG, compared with LittleCMS and the formulas."""

import io
import struct

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms

from restore_cli.errors import OutputError
from restore_cli.imaging.codecs.icc import PRIMARIES, SRGB, profile_of
from restore_cli.imaging.io import decode, encode
from tests.imaging.images import icc_profile, noise, png_file

LINEAR = (b"gAMA", struct.pack(">I", 100_000))
DARK = (b"gAMA", struct.pack(">I", 55_556))
P3_CHRM = (b"cHRM", struct.pack(">8I", *(round(value * 1e5) for value in PRIMARIES[12])))
SRGB_CHRM = (b"cHRM", struct.pack(">8I", *(round(value * 1e5) for value in SRGB)))
P3 = (b"cICP", bytes([12, 13, 0, 1]))
PQ, HLG = (b"cICP", bytes([9, 16, 0, 1])), (b"cICP", bytes([9, 18, 0, 1]))


def to_xyz(chromaticities):
    x, y = np.array(chromaticities[::2]), np.array(chromaticities[1::2])
    columns = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    return columns[:, 1:] * np.linalg.solve(columns[:, 1:], columns[:, 0])


def srgb_encoded(light):
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def srgb_decoded(levels):
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize(
    ("chunks", "primaries", "decoded"),
    [
        ([LINEAR], SRGB, lambda v: v),
        ([DARK], SRGB, lambda v: v**1.8),
        ([P3_CHRM], PRIMARIES[12], srgb_decoded),
        ([P3_CHRM, LINEAR], PRIMARIES[12], lambda v: v),
        ([P3], PRIMARIES[12], srgb_decoded),
        ([(b"cICP", bytes([9, 4, 0, 1]))], PRIMARIES[9], lambda v: v**2.2),
    ],
    ids=["linear", "1.8", "chromaticities", "both", "P3", "BT.2020"],
)
def test_littlecms_shows_the_profile_as_the_chunks_say(chunks, primaries, decoded):
    levels = noise(16, 16, 3)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(profile_of(dict(chunks), grey=False)))
    srgb = ImageCms.createProfile("sRGB")
    shown = ImageCms.profileToProfile(Pillow.fromarray(levels), profile, srgb)
    light = decoded(levels / 255) @ np.linalg.solve(to_xyz(SRGB), to_xyz(primaries)).T
    # 8-bit levels, and LittleCMS's tables for them
    np.testing.assert_allclose(np.asarray(shown), 255 * srgb_encoded(light), atol=3)


@pytest.mark.parametrize("format", ["jpeg", "webp", "tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_format_without_the_chunks_gets_a_profile(channels, format, caplog):
    image = decode(png_file(noise(8, 8, channels), LINEAR), name="it")
    icc = decode(encode(image, format=format), name="it").metadata.icc
    assert icc[16:20] == (b"GRAY" if channels == 1 and format != "webp" else b"RGB ")
    ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc)))
    assert caplog.messages == []


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [(b"sRGB", b"\0"), LINEAR],
        [(b"gAMA", struct.pack(">I", 45_455)), SRGB_CHRM],
        [(b"cICP", bytes([1, 13, 0, 1]))],
    ],
    ids=["none", "sRGB", "gAMA of sRGB", "cICP of sRGB"],
)
def test_srgb_needs_no_profile(chunks):
    assert profile_of(dict(chunks), grey=False) is None


def test_a_profile_goes_before_gamma():
    import zlib

    profile = icc_profile()
    chunk = (b"iCCP", b"x\0\0" + zlib.compress(profile))
    image = decode(png_file(noise(8, 8, 3), chunk, LINEAR), name="it")
    assert decode(encode(image, format="jpeg"), name="it").metadata.icc == profile


@pytest.mark.parametrize("chunk", [PQ, HLG], ids=["PQ", "HLG"])
@pytest.mark.parametrize("format", ["jpeg", "webp", "tiff"])
def test_hdr_is_refused_where_it_cannot_be_stated(format, chunk):
    image = decode(png_file(noise(8, 8, 3, 16), chunk), name="it")
    with pytest.raises(OutputError, match=r"HDR colours \((PQ|HLG)\)") as caught:
        encode(image, format=format)
    assert "--format png" in caught.value.hint


@pytest.mark.parametrize(
    "chunk",
    [
        (b"cICP", bytes([2, 2, 0, 1])),
        (b"cICP", bytes([1, 13, 0, 0])),
        (b"cHRM", bytes(32)),
        (b"cHRM", struct.pack(">8I", *[30_000] * 8)),
        (b"gAMA", b"\0\0\0\1"),
    ],
    ids=["unknown", "narrow range", "zeros", "one point", "extreme"],
)
def test_colours_that_no_profile_can_state_are_named(chunk, caplog):
    image = decode(png_file(noise(8, 8, 3), chunk), name="it")
    encode(image, format="jpeg", name="it.png")
    assert caplog.messages == [
        "it.png: written without the colours that it states (cICP, gAMA, cHRM)"
    ]
