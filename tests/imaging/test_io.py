"""Reading and writing of still images in every format."""

import io
from dataclasses import replace

import imagecodecs
import numpy as np
import OpenEXR
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from restore_cli.errors import (
    ImageTooLarge,
    InputError,
    OutOfMemory,
    OutputCollision,
    OutputError,
    UnreadableImage,
    UsageError,
)
from restore_cli.imaging import quantize as levels_module
from restore_cli.imaging.formats import format_of
from restore_cli.imaging.image import Image, Metadata
from restore_cli.imaging.io import decode, encode, read, write
from tests.imaging.images import (
    XMP,
    camera_exif,
    icc_profile,
    image_of,
    noise,
    pillow_file,
    png_file,
)
from tests.imaging.scientific import dicom_file, exr_file, fits_file, hdr_file, light

LOSSLESS = [("png", 8), ("png", 16), ("tiff", 8), ("tiff", 16), ("webp", 8)]
SUFFIXES = ["png", "jpg", "webp", "tif"]
SIZES = [(1, 1), (1, 9), (7, 13), (33, 64)]


def assert_same(found, wanted):
    torch.testing.assert_close(found.pixels, wanted.pixels.expand_as(found.pixels), atol=0, rtol=0)
    opaque = torch.ones_like(wanted.pixels[:1])  # WebP keeps no alpha that is 1 everywhere
    found_alpha, wanted_alpha = (opaque if a is None else a for a in (found.alpha, wanted.alpha))
    torch.testing.assert_close(found_alpha, wanted_alpha, atol=0, rtol=0)


# To a file and back


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 2, 3, 4], ids=["grey", "grey-alpha", "rgb", "rgba"])
@pytest.mark.parametrize(("format", "depth"), LOSSLESS)
def test_what_is_written_without_loss_comes_back_exactly(format, depth, channels, size):
    image = image_of(noise(*size, channels, depth))
    back = decode(encode(image, format=format), name="it")
    assert_same(back, image)
    assert back.bit_depth == depth
    assert len(back.pixels) == (3 if format == "webp" else len(image.pixels))


@settings(max_examples=40)
@given(
    saved=st.sampled_from(LOSSLESS),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_levels_of_any_size_come_back_exactly(saved, height, width, channels, seed):
    format, depth = saved
    levels = np.random.default_rng(seed).integers(0, 2**depth, (height, width, channels))
    image = image_of(levels.astype(f"uint{depth}"))
    assert_same(decode(encode(image, format=format), name="it"), image)


@pytest.mark.parametrize(("format", "depth"), LOSSLESS)
def test_an_image_of_many_strips_comes_back_exactly(format, depth, monkeypatch):
    monkeypatch.setattr(levels_module, "STRIP", 40)
    image = image_of(noise(33, 17, 4, depth))
    assert_same(decode(encode(image, format=format), name="it"), image)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_comes_back_close(channels):
    smooth = np.linspace(0, 255, 48 * 64 * channels).reshape(48, 64, channels).astype(np.uint8)
    image = image_of(smooth)
    back = decode(encode(image, format="jpeg"), name="it")
    torch.testing.assert_close(back.pixels, image.pixels, atol=3 / 255, rtol=0)  # quality 95


def test_jpeg_lays_alpha_on_white():
    image = Image(torch.zeros(3, 16, 16), torch.full((1, 16, 16), 0.25))
    back = decode(encode(image, format="jpeg"), name="it")
    torch.testing.assert_close(back.pixels, torch.full((3, 16, 16), 0.75), atol=3 / 255, rtol=0)


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_lower_quality_makes_a_smaller_file(format):
    image = image_of(noise(64, 64, 3))
    assert len(encode(image, format=format, quality=30)) < len(encode(image, format=format)) / 2


def test_levels_are_rounded_to_the_nearest():
    values = torch.tensor([-1.0, 0.0, 0.49 / 255, 0.51 / 255, 254.4 / 255, 1.0, 7.0])
    back = decode(encode(Image(values.reshape(1, 1, 7)), format="png"), name="it")
    assert (back.pixels.flatten() * 255).round().tolist() == [0, 0, 0, 1, 254, 255, 255]


@pytest.mark.parametrize("format", ["png", "webp", "tiff"])
def test_colours_under_full_transparency_are_kept(format):
    levels = noise(8, 8, 4)
    levels[..., 3] = 0
    image = image_of(levels)
    assert_same(decode(encode(image, format=format), name="it"), image)


# Read by others


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("format", ["png", "tiff"])
def test_pillow_reads_the_same_from_our_eight_bit_files(format, channels):
    levels = noise(7, 13, channels)
    with Pillow.open(io.BytesIO(encode(image_of(levels), format=format))) as opened:
        assert opened.mode == ["L", "LA", "RGB", "RGBA"][channels - 1]
        assert np.array_equal(np.asarray(opened).reshape(levels.shape), levels)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", [8, 16])
def test_tifffile_reads_the_same_from_our_tiff(depth, channels):
    levels = noise(7, 13, channels, depth)
    found = tifffile.imread(io.BytesIO(encode(image_of(levels), format="tiff")))
    assert np.array_equal(found.reshape(levels.shape), levels)


@pytest.mark.parametrize(("channels", "mode"), [(1, "mono"), (3, "rgb"), (4, "rgba")])
def test_kornia_reads_the_same_from_our_sixteen_bit_png(channels, mode):
    from kornia_rs.io import decode_image_png_u16

    levels = noise(7, 13, channels, 16)
    found = decode_image_png_u16(encode(image_of(levels), format="png"), (7, 13), mode)
    assert np.array_equal(np.asarray(found).reshape(levels.shape), levels)


# Metadata


SENT = Metadata(icc_profile(), camera_exif()[6:], XMP, (300.0, 150.0))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
@pytest.mark.parametrize("kept", ["icc", "xmp", "dpi"])
def test_metadata_comes_back(kept, format, channels, depth):
    metadata = replace(Metadata(), **{kept: getattr(SENT, kept)})
    image = image_of(noise(7, 13, channels, depth), metadata=metadata)
    found = getattr(decode(encode(image, format=format), name="it").metadata, kept)
    if kept == "dpi":
        assert found == pytest.approx(SENT.dpi, abs=0.02)  # PNG counts whole pixels a metre
    else:
        assert found == getattr(SENT, kept)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("source", ["png", "jpeg", "webp", "tiff"])
@pytest.mark.parametrize("target", ["png", "jpeg", "webp", "tiff"])
def test_what_the_camera_told_survives_any_change_of_format(source, target, depth):
    image = image_of(noise(7, 13, 3, depth), metadata=SENT)
    there = decode(encode(image, format=source), name="it")
    again = encode(there, format=target)
    with Pillow.open(io.BytesIO(again)) as opened:
        exif, info = opened.getexif(), opened.info
        shot, place = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
    assert (exif[0x010F], exif[0x0110], exif.get(0x0112, 1)) == (
        "Make",
        "X-1",
        1,
    )
    assert (shot[0x9003], shot[0x829A]) == ("2024:05:06 07:08:09", 1 / 250)
    assert shot[0x927C] == b"the maker's own \0\1\2"
    assert (place[1], place[2]) == ("N", (48.0, 8.0, 0.5))
    assert info["icc_profile"] == SENT.icc
    assert info["xmp"] == XMP
    assert decode(again, name="it").metadata.dpi == pytest.approx(SENT.dpi, abs=0.51)  # JPEG: whole


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_exif_tells_the_size_of_what_is_written(format):
    small = image_of(noise(7, 13, 3), metadata=SENT)
    large = small.with_pixels(torch.rand(3, 14, 26))
    with Pillow.open(io.BytesIO(encode(large, format=format))) as opened:
        shot = opened.getexif().get_ifd(0x8769)
    assert (shot[0xA002], shot[0xA003]) == (26, 14)


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_without_metadata_none_is_made_up(format):
    data = encode(image_of(noise(7, 13, 3)), format=format)
    assert decode(data, name="it").metadata == Metadata()


@pytest.mark.parametrize(
    ("kept", "value", "said"),
    [
        ("exif", SENT.exif + bytes(70_000), "its EXIF (70 of at most 65 kB)"),
        ("xmp", XMP + b" " * 70_000, "its XMP (70 of at most 65 kB)"),
        (
            "icc",
            SENT.icc + bytes(17_000_000),
            "its ICC profile (17000 of at most 16707 kB)",
        ),
    ],
    ids=["exif", "xmp", "icc"],
)
def test_metadata_too_long_for_jpeg_is_dropped_with_a_warning(kept, value, said, caplog):
    image = image_of(noise(7, 13, 3), metadata=replace(SENT, **{kept: value}))
    found = decode(encode(image, format="jpeg"), name="it").metadata
    assert getattr(found, kept) is None
    assert caplog.messages == [f"the image: written without {said}"]


@settings(max_examples=150)
@given(
    target=st.sampled_from(["png", "jpeg", "webp", "tiff"]),
    places=st.lists(st.integers(0, len(SENT.exif) - 1), max_size=6),
    value=st.integers(0, 255),
    stop=st.integers(0, len(SENT.exif)),
)
def test_damaged_exif_never_keeps_an_image_from_being_written(target, places, value, stop):
    exif = bytearray(SENT.exif)
    for place in places:
        exif[place] = value
    data = png_file(noise(3, 5, 3), (b"eXIf", bytes(exif[:stop] if stop % 2 else exif)))
    image = replace(
        decode(data, name="it"), metadata=replace(decode(data, name="it").metadata, dpi=(72, 72))
    )
    assert decode(encode(image, format=target), name="it").pixels.shape == image.pixels.shape


def test_a_grey_profile_does_not_go_with_colours(caplog):
    grey = image_of(noise(7, 13, 1), metadata=Metadata(icc=icc_profile(b"GRAY")))
    coloured = grey.with_pixels(grey.pixels.repeat(3, 1, 1))
    assert decode(encode(grey, format="png"), name="it").metadata.icc == grey.metadata.icc
    assert decode(encode(coloured, format="png"), name="it").metadata.icc is None
    assert "ICC" in caplog.text


# What cannot be read


PHOTO = Pillow.fromarray(noise(120, 160, 3)).resize((200, 150))
WHOLE = {
    "png": pillow_file(PHOTO, "png"),
    "png-interlaced-16": png_file(noise(40, 40, 3, 16), interlaced=True),
    "jpeg": pillow_file(PHOTO, "jpeg"),
    "jpeg-progressive": pillow_file(PHOTO, "jpeg", progressive=True),
    "webp": pillow_file(PHOTO, "webp"),
    "webp-lossless": pillow_file(PHOTO, "webp", lossless=True),
    "tiff": pillow_file(PHOTO, "tiff"),
    "tiff-lzw": pillow_file(PHOTO, "tiff", compression="tiff_lzw"),
    "tiff-jpeg": pillow_file(PHOTO, "tiff", compression="jpeg"),
    "tiff-own-16": encode(image_of(noise(40, 40, 3, 16)), format="tiff"),
    "bmp": pillow_file(PHOTO, "bmp"),
    "gif": pillow_file(PHOTO, "gif"),
    "ppm": pillow_file(PHOTO, "ppm"),
    "ppm-16": b"P6 20 20 65535\n" + noise(20, 20, 3, 16).tobytes(),
    "tga": pillow_file(PHOTO, "tga", compression="tga_rle"),
    "qoi": pillow_file(PHOTO.convert("RGBA"), "qoi"),
    "sgi": pillow_file(PHOTO, "sgi"),
    "pcx": pillow_file(PHOTO, "pcx"),
    "dds": pillow_file(PHOTO, "dds"),
    "exr": exr_file(light(40, 30, 4)),
    "exr-tiles": exr_file(light(40, 70), type=OpenEXR.tiledimage, tiles=OpenEXR.TileDescription()),
    "hdr": hdr_file(light(40, 30)),
    "fits": fits_file(light(40, 36, 1)[..., 0]),  # in full blocks: padding may be lost
    "fits-extension": fits_file(noise(40, 36, 1, 16)[..., 0], extension=True),
    "dicom": dicom_file(noise(40, 30, 1, 16)[..., 0]),
}


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_that_was_cut_is_refused(kind, share):
    data = WHOLE[kind]
    with pytest.raises(UnreadableImage, match=r"^photo: (damaged|not an image)"):
        decode(data[: int(len(data) * share)], name="photo")


@pytest.mark.parametrize("kind", WHOLE)
def test_what_is_refused_when_cut_is_read_when_whole(kind):
    assert decode(WHOLE[kind], name="photo").height in (20, 40, 150)


def test_a_jpeg_filled_up_with_zeros_is_refused():
    data = WHOLE["jpeg"]
    with pytest.raises(UnreadableImage, match="its end is missing"):
        decode(data[: len(data) * 9 // 10] + bytes(5000), name="photo")


def test_a_jpeg_may_be_followed_by_a_film():
    data = WHOLE["jpeg"] + b"\0\0\0\x18ftypmp42\xff\xda" + bytes(300)
    assert_same(decode(data, name="photo"), decode(WHOLE["jpeg"], name="photo"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the file is empty"),
        (b"just text", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "no header"),
        (png_file(noise(3, 3, 3))[:33], "no pixels"),
        (b"BM is how this text begins", "damaged"),
        (b"II*\0", "cut off"),
        (
            imagecodecs.jpeg8_encode(noise(3, 3, 3, 16) >> 4, bitspersample=12),
            "damaged, or a kind of JPEG that is not supported",
        ),
        (b"%PDF-1.7", "a PDF document, which restore cannot read"),
        (bytes(1000), "not an image"),
    ],
    ids=["empty", "text", "png", "png-header", "bmp", "tiff", "12-bit-jpeg", "pdf", "zeros"],
)
def test_what_is_no_image_is_refused_in_one_line(data, said):
    with pytest.raises(UnreadableImage, match=said) as caught:
        decode(data, name="photo.png")
    assert caught.value.message.startswith("photo.png: ")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("kind", ["missing.png", "folder.png", "a" * 300 + ".png"])
def test_a_path_that_cannot_be_read_is_refused(kind, tmp_path):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UnreadableImage, match=kind[:5]):
        read(tmp_path / kind)


def test_a_file_larger_than_any_image_is_refused_unread(tmp_path):
    path = tmp_path / "huge.tif"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: it takes no room on the disk
    with pytest.raises(ImageTooLarge, match="the limit is"):
        read(path)


def test_the_contents_count_not_the_suffix(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(WHOLE["jpeg"])
    assert read(path).pixels.shape == (3, 150, 200)
    path.write_text("text")
    with pytest.raises(UnreadableImage, match=r"photo\.png: not an image"):
        read(path)


def with_size(kind, at, code, value=100_000):
    import struct
    import zlib

    data = bytearray(WHOLE[kind])
    for place in at:
        struct.pack_into(code, data, place, value)
    if kind == "png":
        struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    return bytes(data)


GIANTS = {
    "dicom": dicom_file(noise(4, 4, 1)[..., 0], Rows=65_535, Columns=65_535),
    "png": with_size("png", (16, 20), ">I"),
    "bmp": with_size("bmp", (18, 22), "<i"),
    "gif": with_size("gif", (6, 8), "<H", 65_535),
    "jpeg": WHOLE["jpeg"].replace(b"\x08\x00\x96\x00\xc8\x03", b"\x08\xff\xdc\xff\xdc\x03"),
    "ppm": b"P6 100000 100000 255\n" + bytes(100),
    "ppm-16": b"P6 100000 100000 65535\n" + bytes(100),
    "pbm": b"P4 999999999 999999999\n" + bytes(100),
    "tiff": WHOLE["tiff"].replace(
        b"\0\1\4\0\1\0\0\0\xc8\0\0\0", b"\0\1\4\0\1\0\0\0\xff\xff\xff\x7f"
    ),
}


@pytest.mark.parametrize("kind", GIANTS)
def test_a_giant_is_refused_by_its_header(kind):
    with pytest.raises(ImageTooLarge, match=r"photo: \d+ x \d+ pixels; the limit is 500,000,000"):
        decode(GIANTS[kind], name="photo")


def test_what_pillow_takes_for_a_bomb_is_read_up_to_our_own_limit(monkeypatch):
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 100)
    assert decode(WHOLE["jpeg"], name="photo").width == 200
    assert Pillow.MAX_IMAGE_PIXELS == 100


def test_too_little_memory_is_reported(monkeypatch):
    def exhausted(data, storage):
        raise MemoryError

    monkeypatch.setattr("restore_cli.imaging.codecs.png.decode", exhausted)
    with pytest.raises(OutOfMemory, match="photo: not enough memory"):
        decode(WHOLE["png"], name="photo")


@settings(max_examples=150)
@given(
    kind=st.sampled_from(sorted(WHOLE)),
    places=st.lists(st.floats(0, 1), min_size=1, max_size=8),
    value=st.integers(0, 255),
)
def test_damage_is_an_input_error_or_goes_unnoticed(kind, places, value):
    data = bytearray(WHOLE[kind])
    for place in places:
        # Most of what can go wrong is decided by the first bytes.
        data[int(place**3 * (len(data) - 1))] = value
    try:
        image = decode(bytes(data), name="photo")
    except InputError as error:
        assert "\n" not in error.message
    else:
        assert bool(((image.pixels >= 0) & (image.pixels <= 1)).all())


@pytest.mark.parametrize("kind", WHOLE)
def test_reading_says_nothing(kind, heard):
    assert heard(lambda: decode(WHOLE[kind], name="photo")) == ("", "")


@pytest.mark.parametrize("kind", WHOLE)
def test_refusing_says_nothing_but_the_error(kind, heard):
    def refused():
        with pytest.raises(UnreadableImage):
            decode(WHOLE[kind][: len(WHOLE[kind]) // 2], name="photo")

    assert heard(refused) == ("", "")


# Writing


BLACK = Image(torch.zeros(3, 4, 4))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_suffix_says_the_format(suffix, tmp_path):
    target = tmp_path / "new" / f"ü.{suffix.upper()}"
    write(BLACK, target)
    with Pillow.open(target) as opened:
        assert opened.format.lower() == format_of(target)


def test_a_suffix_that_is_not_written_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"cannot write \.bmp"):
        write(BLACK, tmp_path / "a.bmp")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", ["itself", "symlink", "hard link", "through a folder"])
def test_the_source_is_never_replaced(way, tmp_path):
    source = tmp_path / "a.png"
    write(BLACK, source)
    before = source.read_bytes()
    target = {
        "itself": source,
        "symlink": tmp_path / "s.png",
        "hard link": tmp_path / "h.png",
        "through a folder": tmp_path / "folder" / ".." / "a.png",
    }[way]
    (tmp_path / "folder").mkdir()
    (tmp_path / "s.png").symlink_to(source)
    (tmp_path / "h.png").hardlink_to(source)
    restored = read(source).with_pixels(torch.ones(3, 4, 4))
    with pytest.raises(OutputCollision, match="is the source"):
        write(restored, target, overwrite=True)
    assert source.read_bytes() == before
    assert not list(tmp_path.glob(".restore-*"))


@pytest.mark.parametrize(("format", "side"), [("jpeg", 65_501), ("webp", 16_384)])
def test_a_side_too_long_for_the_format_is_refused(format, side):
    with pytest.raises(OutputError, match=f"{side} x 1 pixels, but {format}"):
        encode(Image(torch.zeros(3, 1, side)), format=format)
