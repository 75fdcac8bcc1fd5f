"""Raw photographs: a DNG with a Bayer filter, developed by LibRaw."""

import io

import numpy as np
import pytest
import tifffile

from restore_cli.errors import ImageTooLarge, UnreadableImage
from restore_cli.imaging.io import decode

pytest.importorskip("rawpy", reason="the extra raw is not installed")

XYZ_TO_SRGB = [3.2405, -1.5371, -0.4985, -0.9693, 1.8760, 0.0416, 0.0556, -0.2040, 1.0572]
BLACK, WHITE = 256, 3756
HALVES = np.where(np.arange(96)[:, None, None] < 48, [0.2, 0.05, 0.02], [0.5, 0.5, 0.5])


def dng(light=HALVES, orientation=1, gains=(1, 1, 1)):
    """Return light (H, W, 3), 1 = white, behind a filter RGGB, of a camera with sRGB colours.

    gains: of red, green and blue in the white balance of the camera.
    """
    light = np.broadcast_to(light, (96, 128, 3)) / gains
    mosaic = light[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = light[::2, ::2, 0], light[1::2, 1::2, 2]
    levels = np.rint(mosaic * (WHITE - BLACK) + BLACK).astype(np.uint16)
    matrix = [number for value in XYZ_TO_SRGB for number in (round(value * 1e4), 10_000)]
    neutral = [number for gain in gains for number in (round(1e4 / gain), 10_000)]
    tags = [
        (271, 2, 0, "Make", True),
        (272, 2, 0, "X-1", True),
        (274, 3, 1, orientation, True),
        (33421, 3, 2, (2, 2), True),
        (33422, 1, 4, bytes((0, 1, 1, 2)), True),
        (50706, 1, 4, bytes((1, 4, 0, 0)), True),
        (50708, 2, 0, "Make X-1", True),
        (50714, 3, 1, BLACK, True),
        (50717, 4, 1, WHITE, True),
        (50721, 10, 9, matrix, True),
        (50728, 5, 3, neutral, True),
        (50778, 3, 1, 21, True),
    ]
    file = io.BytesIO()
    tifffile.imwrite(file, levels, photometric=32803, extratags=tags, metadata=None)
    return file.getvalue()


def srgb(light):
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("gains", [(1, 1, 1), (2, 1, 1.5)], ids=str)
def test_light_becomes_srgb_of_16_bits_with_the_white_balance_of_the_camera(gains):
    found = decode(dng(gains=gains), name="a.dng")
    assert (found.bit_depth, found.pixels.shape) == (16, (3, 96, 128))
    inner = [found.pixels[:, 8:40, 8:-8], found.pixels[:, 56:88, 8:-8]]  # away from the edge
    for part, light in zip(inner, (HALVES[0, 0], HALVES[-1, 0]), strict=True):
        assert np.abs(part.mean((1, 2)).numpy() - srgb(light)).max() < 0.02  # rounded matrices


def test_the_orientation_is_applied_once():
    found = decode(dng(orientation=6), name="a.dng")
    assert found.pixels.shape == (3, 128, 96)
    assert found.pixels[:, :, 60:].mean() < found.pixels[:, :, :36].mean()  # the top is right


def test_exif_is_kept(caplog):
    assert b"X-1" in decode(dng(), name="a.dng").metadata.exif
    assert caplog.messages == []


@pytest.mark.parametrize("length", [9, 100, 3000, -500])
def test_a_file_that_is_cut_is_refused(length, capfd):
    with pytest.raises(UnreadableImage, match=r"^a.dng: "):
        decode(dng()[:length], name="a.dng")


def test_an_unknown_camera_is_said_to_be_one():
    with pytest.raises(UnreadableImage, match="camera that LibRaw does not know"):
        decode(b"FUJIFILMCCD-RAW 0201" + bytes(5000), name="a.raf")


def test_a_giant_is_refused(monkeypatch):
    monkeypatch.setattr("restore_cli.imaging.headers.MOST_PIXELS", 96 * 128 - 1)
    with pytest.raises(ImageTooLarge, match="128 x 96"):
        decode(dng(), name="a.dng")
