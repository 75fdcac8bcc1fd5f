import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from restore_cli.imaging.codecs import exif
from restore_cli.imaging.io import decode
from tests.imaging.images import camera_exif, pillow_file

ORDERS = ["<", ">"]
MAKE, NOTE = 0x010F, 0x927C
THUMBNAIL = b"\xff\xd8 a small old image \xff\xd9"


def entry(order, tag, type, count, number):
    field = struct.pack(order + exif.CODES[type], number).ljust(4, b"\0")
    return struct.pack(f"{order}HHI", tag, type, count) + field


def with_thumbnail(order, *, behind=b""):
    """EXIF with an orientation of 6, a size, and a thumbnail that is turned too."""
    first = [
        entry(order, exif.ORIENTATION, exif.SHORT, 1, 6),
        entry(order, 0xA002, exif.LONG, 1, 40),
        entry(order, 0xA003, exif.SHORT, 1, 30),
    ]
    second_at = 8 + 2 + 12 * len(first) + 4
    thumbnail_at = second_at + 2 + 12 * 3 + 4
    second = [
        entry(order, exif.ORIENTATION, exif.SHORT, 1, 6),
        entry(order, exif.THUMBNAIL_AT, exif.LONG, 1, thumbnail_at),
        entry(order, exif.THUMBNAIL_LENGTH, exif.LONG, 1, len(THUMBNAIL)),
    ]
    data = exif.tiff_header(order)
    for entries, following in ((first, second_at), (second, 0)):
        data += struct.pack(f"{order}H", len(entries)) + b"".join(entries)
        data += struct.pack(f"{order}I", following)
    return data + THUMBNAIL + behind


@pytest.mark.parametrize("order", ORDERS)
def test_the_orientation_is_reset_and_the_thumbnail_cut_off(order):
    found = exif.for_upright(with_thumbnail(order))
    directory = exif.first_directory(found)
    assert exif.read_orientation(directory) == 1
    assert directory.following == 0
    assert THUMBNAIL not in found
    assert len(found) < len(with_thumbnail(order))


def test_a_thumbnail_in_the_middle_becomes_zeros_so_that_nothing_moves():
    before = with_thumbnail("<", behind=b"what lies behind")
    found = exif.for_upright(before)
    assert THUMBNAIL not in found
    assert (len(found), found[-16:]) == (len(before), b"what lies behind")


def test_nothing_but_the_orientation_changes():
    before = camera_exif(orientation=8)[6:]
    after = exif.for_upright(before)
    at = exif.first_directory(before).entries[exif.ORIENTATION].at
    assert struct.unpack_from(">H", before, at) == (8,)
    assert after == before[:at] + struct.pack(">H", 1) + before[at + 2 :]


@pytest.mark.parametrize("order", ORDERS)
def test_the_size_is_told_where_it_was_told(order):
    directory = exif.first_directory(exif.with_size(with_thumbnail(order), 60, 70_000))
    assert directory.numbers(0xA002) == (70_000,)
    assert directory.numbers(0xA003) == (60,)


def test_a_size_that_does_not_fit_its_field_is_left():
    found = exif.first_directory(exif.with_size(with_thumbnail("<"), 70_000, 10))
    assert found.numbers(0xA003) == (30,)


def test_a_resolution_is_added_without_moving_anything():
    before = camera_exif()[6:]
    after = exif.with_resolution(before, (300, 150.5))
    assert exif.read_resolution(exif.first_directory(after)) == (300, 150.5)
    assert after[8 : len(before)] == before[8:]
    opened = Pillow.Exif()
    opened.load(b"Exif\0\0" + after)
    assert (opened[MAKE], opened.get_ifd(0x8769)[NOTE]) == ("Make", b"the maker's own \0\1\2")


def test_a_resolution_that_is_told_already_stays():
    told = exif.with_resolution(None, (72, 72))
    assert exif.with_resolution(told, (300, 300)) == told


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "neither II nor MM"),
        (b"XX*\0", "neither II nor MM"),
        (b"II*\0\x08\0", "cut off"),
        (b"II*\0\x08\0\0\0\xff\xff", "cut off"),
        (b"II*\0\xff\xff\xff\xff", "cut off"),
    ],
    ids=["nothing", "order", "header", "directory", "beyond"],
)
def test_what_is_no_directory_is_refused(data, said):
    with pytest.raises(ValueError, match=said):
        exif.first_directory(data)


def test_bigtiff_is_no_exif():
    with pytest.raises(ValueError, match="BigTIFF"):
        exif.for_upright(b"II+\0\x08\0\0\0" + struct.pack("<QQQ", 16, 0, 0))


def test_an_entry_that_points_beyond_the_data_is_dropped():
    data = (
        exif.tiff_header("<")
        + struct.pack("<H", 1)
        + entry("<", MAKE, exif.LONG, 500, 20)
        + bytes(4)
    )
    assert exif.first_directory(data).entries == {}


def test_directories_that_point_in_a_circle_come_to_an_end():
    pointers = [entry("<", tag, exif.LONG, 1, 8) for tag in (exif.EXIF, exif.GPS, exif.INTEROP)]
    data = exif.tiff_header("<") + struct.pack("<H", 3) + b"".join(pointers) + bytes(4)
    order, tree = exif.descriptive_tags(data)
    assert order == "<"
    assert len(exif.pack_directory(tree, 8, "<")) < 200


def test_tags_that_overlap_are_refused():
    # 20 tags that all claim the same 2000 bytes: a bomb, if each were copied.
    entries = [entry("<", 0x9000 + tag, exif.LONG, 500, 8) for tag in range(20)]
    below = struct.pack("<H", 20) + b"".join(entries) + bytes(4)
    first = struct.pack("<H", 1) + entry("<", exif.EXIF, exif.LONG, 1, 26) + bytes(4)
    with pytest.raises(ValueError, match="overlap"):
        exif.descriptive_tags(exif.tiff_header("<") + first + below + bytes(2000))


@settings(max_examples=60)
@given(
    order=st.sampled_from(ORDERS),
    texts=st.dictionaries(
        st.sampled_from(sorted(exif.DESCRIPTIVE)), st.binary(min_size=1, max_size=9), max_size=8
    ),
    shot=st.dictionaries(
        st.integers(0x9000, 0x9300), st.binary(min_size=1, max_size=9), max_size=8
    ),
)
def test_what_is_packed_is_found_again(order, texts, shot):
    tree = {tag: (exif.UNDEFINED, len(text), text) for tag, text in texts.items()}
    tree[exif.EXIF] = {tag: (exif.UNDEFINED, len(text), text) for tag, text in shot.items()}
    data = exif.tiff_header(order) + exif.pack_directory(tree, exif.FIRST, order)
    assert exif.descriptive_tags(data) == (order, tree)


def test_pillow_understands_what_is_packed():
    data = exif.exif_of_tiff(camera_exif()[6:])
    with Pillow.open(io.BytesIO(_jpeg_with(data))) as opened:
        found = opened.getexif()
        assert found[MAKE] == "Make"
        assert found.get_ifd(exif.EXIF)[0x829A] == 1 / 250
        assert found.get_ifd(exif.GPS)[2] == (48.0, 8.0, 0.5)


def _jpeg_with(data):
    buffer = io.BytesIO()
    Pillow.new("RGB", (8, 8)).save(buffer, "jpeg", exif=b"Exif\0\0" + data)
    return buffer.getvalue()


@pytest.mark.parametrize("order", exif.ORDERS.values())
def test_tags_of_another_file_and_another_pixel_grid_are_taken_out(order):
    def short(*values):
        return exif.SHORT, len(values), struct.pack(f"{order}{len(values)}H", *values)

    shot = {0xA002: short(64), 0xA003: short(48), 0x9214: short(10, 20), 0x927C: (7, 6, b"secret")}
    tree = {262: short(5), 258: short(8, 8, 8, 8), 271: (2, 6, b"Maker\0"), exif.EXIF: shot}
    data = exif.tiff_header(order) + exif.pack_directory(tree, exif.FIRST, order)
    upright = exif.for_upright(data)
    first = exif.first_directory(upright)
    assert set(first.entries) == {271, exif.EXIF}
    assert first.value(271) == b"Maker\0"
    same, large = exif.with_size(upright, 48, 64), exif.with_size(upright, 96, 128)
    assert set(exif.descriptive_tags(same)[1][exif.EXIF]) == {0xA002, 0xA003, 0x9214, 0x927C}
    assert set(exif.descriptive_tags(large)[1][exif.EXIF]) == {0xA002, 0xA003, 0x927C}


def test_nothing_is_left_of_a_description_that_is_taken_out():
    camera = Pillow.Exif()
    camera[exif.DESCRIPTION], camera[0x010F] = "ImageJ=1.53\nimages=5\n", "Maker"
    found = exif.without_description(camera.tobytes()[6:])
    assert b"images" not in found
    assert exif.first_directory(found).value(0x010F) == b"Maker\0"


@pytest.mark.parametrize("at", [16, 2**40, 2**63, 2**64 - 1])
@pytest.mark.parametrize("count", [1, 2**40, 2**63])
@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
def test_an_image_is_read_without_exif_that_calls_itself_bigtiff(format, count, at):
    big = b"II+\0\x08\0\0\0" + struct.pack("<QQ", at, count) + bytes(50)
    data = pillow_file(Pillow.new("RGB", (8, 6)), format, exif=b"Exif\0\0" + big)
    assert decode(data, name="it").metadata.exif is None
