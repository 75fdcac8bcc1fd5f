"""Textures and older formats by imageio: the same pixels as Pillow has."""

import numpy as np
import pytest
from PIL import Image as Pillow

from restore_cli.errors import ImageTooLarge
from restore_cli.imaging.io import decode
from tests.imaging.images import noise, pillow_file

MODES = [
    *(("tga", mode) for mode in ("L", "LA", "P", "RGB", "RGBA")),
    *(("qoi", mode) for mode in ("RGB", "RGBA")),
    *(("dds", mode) for mode in ("L", "RGB", "RGBA")),
    *(("sgi", mode) for mode in ("L", "RGB", "RGBA")),
    *(("pcx", mode) for mode in ("1", "L", "P", "RGB")),
]


@pytest.mark.parametrize(("format", "mode"), MODES)
def test_pixels_are_those_of_the_image(format, mode):
    image = Pillow.fromarray(noise(7, 12, 4)).convert("RGB")
    if mode in ("LA", "RGBA"):
        image.putalpha(Pillow.fromarray(noise(7, 12, 1)[..., 0]))
    image = image.convert(mode)
    found = decode(pillow_file(image, format), name=f"a.{format}")
    wanted = np.asarray(image.convert({"P": "RGB", "1": "L"}.get(mode, mode))).reshape(7, 12, -1)
    levels = found.all_planes().permute(1, 2, 0).numpy() * 255
    np.testing.assert_array_equal(np.rint(levels), wanted)


def test_bits_that_are_not_read_are_named(caplog):
    data = bytearray(pillow_file(Pillow.fromarray(noise(7, 12, 3)), "sgi"))
    sixteen = data[:512].replace(b"\x01\xda\0\x01", b"\x01\xda\0\x02") + bytes(7 * 12 * 3 * 2)
    decode(bytes(sixteen), name="a.sgi")
    assert caplog.messages == ["a.sgi: read without its bits beyond 8"]


def test_a_giant_is_refused_before_its_pixels():
    data = bytearray(pillow_file(Pillow.fromarray(noise(7, 12, 3)), "qoi"))
    data[4:12] = (10**5).to_bytes(4, "big") * 2
    with pytest.raises(ImageTooLarge):
        decode(bytes(data), name="a.qoi")
