import io

import imagecodecs
import numpy as np
import pytest
import simplejpeg
from PIL import Image as Pillow

from benchmarks.jpeg_damage import END, by_pillow, damaged, scene, sound, verdict
from restore_cli.errors import UnreadableImage
from restore_cli.imaging.io import decode
from tests.imaging.images import noise, pillow_file

KINDS = ["4:2:0", "4:4:4", "restarts", "progressive", "grey", "grey progressive"]
DAMAGED = "it: read without parts of the image that are damaged"


def levels_by_pillow(data):
    with Pillow.open(io.BytesIO(data)) as opened:
        levels = np.asarray(opened)
    return levels if levels.ndim == 3 else levels[..., None]


def levels_of(data):
    return (decode(data, name="it").pixels * 255).round().permute(1, 2, 0).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_the_pixels_are_those_that_pillow_decodes(kind):
    data = by_pillow(scene(75, 90, 3), kind)
    np.testing.assert_array_equal(levels_of(data), levels_by_pillow(data))


def test_most_random_damage_inside_a_scan_is_noticed():
    noticed = [verdict(data) != "" for _, data in damaged(200)]
    assert sum(noticed) >= 115  # 131 were


def test_sound_files_raise_no_alarm():
    assert not [(name, words) for name, data in sound(250) if (words := verdict(data))]


@pytest.mark.parametrize("kind", KINDS)
def test_damage_within_a_scan_is_named(kind, caplog):
    data = bytearray(by_pillow(scene(200, 300, 5), kind))
    middle = len(data) // 2
    data[middle : middle + 60] = b"\xff\xd3" * 30
    assert decode(bytes(data), name="it").width == 300
    assert caplog.messages == [DAMAGED]


def test_a_lossless_jpeg_raises_no_alarm(caplog):
    levels = noise(19, 37, 3)
    data = imagecodecs.jpeg8_encode(levels, lossless=True)
    assert np.array_equal(levels_of(data), levels)
    assert caplog.messages == []


def test_a_block_of_more_than_64_coefficients_is_noticed(caplog):
    data = bytearray(by_pillow(scene(96, 144, 8), "4:2:0"))
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    simplejpeg.decode_jpeg(bytes(data))  # libjpeg does not warn
    decode(bytes(data), name="it")
    assert caplog.messages == [DAMAGED]


@pytest.mark.parametrize("kind", ["4:2:0", "4:4:4", "restarts", "grey"])
def test_zeros_amid_a_scan_are_noticed_wherever_they_are(kind):
    data = by_pillow(scene(96, 144, 8), kind)
    first = data.index(b"\xff\xda") + 40
    starts = range(first, len(data) - 300, (len(data) - first) // 9)
    assert all(verdict(data[:at] + bytes(200) + data[at + 200 :]) for at in starts)


def test_zeros_that_code_flat_areas_are_no_damage(caplog):
    flat = Pillow.new("RGB", (1600, 1600), (90, 120, 30))
    data = pillow_file(flat, "JPEG", optimize=True)
    assert bytes(200) in data
    decode(data, name="it")
    assert caplog.messages == []


def test_unusual_numbers_in_the_header_of_a_scan_are_no_damage():
    data = bytearray(by_pillow(scene(96, 144, 5), "4:2:0"))
    scan = data.index(b"\xff\xda")
    data[scan + 11 : scan + 14] = bytes(3)  # as some cameras write them
    assert verdict(bytes(data)) == ""


@pytest.mark.parametrize("missing", [1, 2])
@pytest.mark.parametrize("behind", [0, 3, 4000], ids="{} zeros behind".format)
@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_without_its_end_marker_is_read(kind, behind, missing, caplog):
    whole = by_pillow(scene(75, 90, 3), kind)
    data = whole[:-missing] + bytes(behind)
    np.testing.assert_array_equal(levels_of(data), levels_by_pillow(whole))
    assert caplog.messages == ["it: read without its end marker"]


def test_a_cmyk_jpeg_without_its_end_marker_is_read(caplog):
    image = Pillow.fromarray(scene(75, 90, 3)).convert("CMYK")
    whole = pillow_file(image, "jpeg")
    np.testing.assert_array_equal(levels_of(whole[:-2]), levels_of(whole))
    assert caplog.messages == ["it: read without its end marker"]


@pytest.mark.parametrize("closed", [b"", END], ids=["open", "closed"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8, 0.97])
@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_without_some_of_its_blocks_is_refused(kind, share, closed):
    data = by_pillow(noise(75, 90, 3), kind)
    with pytest.raises(UnreadableImage, match="it: damaged or truncated"):
        decode(data[: int(len(data) * share)] + closed, name="it")


@pytest.mark.parametrize("frame", [0xC0, 0xC2], ids=["baseline", "progressive"])
def test_a_jpeg_too_short_for_its_size_is_refused_unread(frame):
    data = bytearray(by_pillow(scene(48, 64, 3), "progressive" if frame == 0xC2 else "4:2:0"))
    size_at = data.index(bytes([0xFF, frame])) + 5
    data[size_at : size_at + 4] = (20_000).to_bytes(2, "big") * 2
    with pytest.raises(UnreadableImage, match="cannot hold 20000 x 20000 pixels"):
        decode(bytes(data), name="it")


def test_arithmetic_coding_may_take_less_than_a_bit_for_a_block():
    data = bytearray(by_pillow(scene(48, 64, 3), "grey"))
    frame_at = data.index(b"\xff\xc0")
    data[frame_at + 1] = 0xC9
    data[frame_at + 5 : frame_at + 9] = (5000).to_bytes(2, "big") * 2
    assert decode(bytes(data), name="it").width == 5000


def test_an_even_image_needs_few_bytes():
    data = pillow_file(Pillow.new("L", (8000, 6000), 255), "jpeg", optimize=True)
    assert decode(data, name="it").width == 8000
