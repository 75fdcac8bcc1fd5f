"""Radiance HDR: light, header lines and directions."""

import numpy as np
import pytest

from restore_cli.errors import ImageTooLarge, UnreadableImage
from restore_cli.imaging.curves import light_of
from restore_cli.imaging.headers import inspect
from restore_cli.imaging.io import decode, encode
from tests.imaging.images import image_of, noise
from tests.imaging.scientific import hdr_file, light


def test_light_comes_back_exactly():
    data = hdr_file(light())
    once = decode(data, name="a.hdr")
    assert once.metadata.light.peak == 64
    twice = decode(encode(once, format="hdr"), name="b.hdr")
    np.testing.assert_allclose(twice.pixels, once.pixels, atol=1e-6)


def test_writing_does_not_darken():
    image = image_of(noise(40, 50, 3, 16))
    back = decode(encode(image, format="hdr"), name="a.hdr").displayed()
    lost = light_of(back.pixels.numpy()) - light_of(image.pixels.numpy())
    assert abs(lost.mean()) < 5e-5


def test_lines_of_the_header_are_kept(caplog):
    lines = (b"EXPOSURE=0.5", b"SOFTWARE=a camera", b"# a comment", b"VIEW= -vtv -vh 45")
    image = decode(hdr_file(light(), *lines), name="a.hdr")
    assert caplog.messages == ["a.hdr: read without its view"]
    head = encode(image, format="hdr").split(b"\n\n")[0].split(b"\n")
    assert head[0] == b"#?RADIANCE"
    assert {*lines[:3], b"FORMAT=32-bit_rle_rgbe"} == {*head[1:]}


@pytest.mark.parametrize(
    ("size", "turned"),
    [
        (b"-Y 20 -X 30", lambda x: x[:, ::-1]),
        (b"+Y 20 -X 30", lambda x: x[::-1, ::-1]),
        (b"+Y 20 +X 30", lambda x: x[::-1]),
        (b"+X 20 -Y 30", lambda x: x.swapaxes(0, 1)),
        (b"-X 20 +Y 30", lambda x: x.swapaxes(0, 1)[::-1, ::-1]),
    ],
    ids=str,
)
def test_rows_in_any_direction_are_upright(size, turned):
    plain = decode(hdr_file(light()), name="a.hdr").pixels.numpy().transpose(1, 2, 0)
    found = decode(hdr_file(light(), size=size), name="a.hdr")
    np.testing.assert_array_equal(found.pixels.numpy().transpose(1, 2, 0), turned(plain))
    header = inspect(hdr_file(light(), size=size), name="a.hdr")
    assert (header.height, header.width) == (found.height, found.width)


@pytest.mark.parametrize("width", [3, 7])
def test_rows_too_short_for_runs_are_read(width):
    image = decode(hdr_file(light(5, width)), name="a.hdr")
    assert image.pixels.shape == (3, 5, width)


def test_other_codes_are_refused_by_name():
    with pytest.raises(UnreadableImage, match="in CIE XYZ"):
        decode(hdr_file(light()).replace(b"rgbe\n", b"xyze\n"), name="a.hdr")
    old = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 2 +X 20\n" + bytes([9, 8, 7, 128, 1, 1, 1, 19])
    with pytest.raises(UnreadableImage, match="old code of runs, or truncated"):
        decode(old * 2, name="a.hdr")


def test_a_giant_costs_nothing():
    with pytest.raises(ImageTooLarge):
        inspect(hdr_file(light(), size=b"-Y 99999 +X 99999"), name="a.hdr")
    with pytest.raises(UnreadableImage, match="cannot hold"):
        inspect(hdr_file(light(), size=b"-Y 20000 +X 20000"), name="a.hdr")


def test_alpha_is_composited_on_white_light():
    image = image_of(np.full((4, 9, 4), (0, 0, 0, 51), np.uint8))
    back = decode(encode(image, format="hdr"), name="a.hdr")
    shown = back.metadata.light.from_unit(back.pixels.numpy())
    np.testing.assert_allclose(shown, 0.8, atol=0.003)
