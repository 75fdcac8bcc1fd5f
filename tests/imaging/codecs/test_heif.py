"""HEIC, as pillow-heif (libheif) writes it."""

import io

import numpy as np
import pytest
from PIL import Image as Pillow

from restore_cli.errors import ImageTooLarge, UnreadableImage
from restore_cli.imaging.headers import inspect
from restore_cli.imaging.io import decode
from tests.imaging.codecs.test_avif import with_size
from tests.imaging.images import XMP, camera_exif, icc_profile

pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")


def heic(levels, mode="RGB", **info):
    height, width = levels.shape[:2]
    file = pillow_heif.from_bytes(mode, (width, height), np.ascontiguousarray(levels).tobytes())
    file.info.update(info)
    buffer = io.BytesIO()
    file.save(buffer, quality=-1, matrix_coefficients=0, chroma=444)
    return buffer.getvalue()


LEVELS = np.linspace(0, 255, 80 * 96 * 4).reshape(80, 96, 4).astype(np.uint8)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
def test_levels_of_8_bits_are_kept(mode, channels):
    found = decode(heic(LEVELS[..., :channels], mode), name="it")
    assert np.array_equal(
        np.rint(found.pixels.permute(1, 2, 0).numpy() * 255), LEVELS[..., : min(channels, 3)]
    )
    assert (found.alpha is not None) == (channels == 4)


def test_levels_of_10_bits_are_kept():
    levels = np.linspace(0, 1023, 80 * 96 * 3).reshape(80, 96, 3).astype(np.uint16)
    found = decode(heic(levels << 6, "RGB;16"), name="it")
    assert found.bit_depth == 16
    assert np.array_equal(np.rint(found.pixels.permute(1, 2, 0).numpy() * 1023), levels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotation_and_mirroring_are_applied_once(orientation):
    levels = np.zeros((80, 96, 3), np.uint8)
    levels[:40, :48] = 255
    jpeg = io.BytesIO()
    Pillow.fromarray(levels).save(jpeg, "JPEG", quality=100, exif=camera_exif(orientation))
    found = decode(heic(levels, exif=camera_exif(orientation)), name="it")
    assert (found.pixels - decode(jpeg.getvalue(), name="it").pixels).abs().max() < 0.1


def test_metadata_are_kept():
    data = heic(LEVELS[..., :3], exif=camera_exif(), xmp=XMP, icc_profile=icc_profile())
    found = decode(data, name="it").metadata
    assert b"X-1" in found.exif and found.xmp == XMP and found.icc == icc_profile()


@pytest.mark.parametrize("size", [(80, 96), (19, 37), (65, 129)])
def test_the_header_states_the_size(size):
    header = inspect(heic(np.zeros((*size, 3), np.uint8)), name="it")
    assert (header.height, header.width) == size


def test_a_giant_is_refused_by_its_header():
    with pytest.raises(ImageTooLarge, match="200000 x 100000"):
        decode(with_size(heic(LEVELS[..., :3]), 100_000, 200_000), name="it")


@pytest.mark.parametrize("length", [20, 100, 400, -10])
def test_a_file_that_is_cut_is_refused(length):
    with pytest.raises(UnreadableImage, match=r"^it: "):
        decode(heic(LEVELS[..., :3])[:length], name="it")
