import io
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps

from restore_cli.errors import UnreadableImage
from restore_cli.imaging.io import decode, encode
from tests.imaging.images import XMP, camera_exif, icc_profile, noise, pillow_file

INKS = np.full((16, 16, 4), [40, 90, 200, 30], np.uint8)  # of 255
WITHOUT_PROFILE = (255 - INKS[0, 0, :3].astype(float)) * (255 - 30) / 255


def colour_of(data):
    """Return the mean colour of an image, as levels."""
    return decode(data, name="it").pixels.mean((1, 2)).numpy() * 255


def ink_profile():
    """Return a profile for CMYK that maps no ink to white and all else to one green."""
    white, green = (255, 128, 128), (128, 60, 180)  # Lab of 8 bit
    grid = bytes(white) + bytes(green) * 15  # 2 x 2 x 2 x 2 mixtures
    ramp = bytes(range(256))
    matrix = b"".join(struct.pack(">i", value << 16) for value in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + grid + ramp * 3
    name = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"inks\0" + bytes(78)
    point = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    bodies = {b"desc": name, b"cprt": b"text\0\0\0\0none\0", b"wtpt": point, b"A2B0": table}
    at, index, data = 128 + 4 + 12 * len(bodies), b"", b""
    for tag, body in bodies.items():
        index += tag + struct.pack(">II", at + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    illuminant = struct.pack(">3i", 63190, 65536, 54061)
    head = struct.pack(">4s", b"lcms") + b"\2\x10\0\0prtrCMYKLab " + bytes(12) + b"acsp"
    head = (head + bytes(28) + illuminant).ljust(124, b"\0")
    return struct.pack(">I", at + len(data)) + head + struct.pack(">I", len(bodies)) + index + data


def cmyk_file(format, **options):
    return pillow_file(Pillow.frombytes("CMYK", (16, 16), INKS.tobytes()), format, **options)


@pytest.mark.parametrize("format", ["jpeg", "tiff"])
def test_inks_without_profile_are_subtracted_from_white(format):
    np.testing.assert_allclose(colour_of(cmyk_file(format)), WITHOUT_PROFILE, atol=3)


@pytest.mark.parametrize("format", ["jpeg", "tiff"])
def test_inks_become_the_colours_that_their_profile_says(format):
    data = cmyk_file(format, icc_profile=ink_profile())
    red, green, blue = colour_of(data)
    assert green > 100 > max(red, blue)
    assert decode(data, name="it").metadata.icc is None


def test_ycck_is_read_as_the_inks_it_stands_for():
    inverted = 255 - INKS  # as Adobe stores them
    data = imagecodecs.jpeg8_encode(
        inverted, level=98, colorspace="CMYK", outcolorspace="YCCK", subsampling="444"
    )
    np.testing.assert_allclose(colour_of(data), WITHOUT_PROFILE, atol=3)


@pytest.mark.parametrize("profile", [b"rubbish" * 40, icc_profile()], ids=["rubbish", "for rgb"])
def test_a_profile_that_does_not_fit_the_inks_is_dropped_and_named(profile, caplog):
    data = cmyk_file("jpeg", icc_profile=profile)
    np.testing.assert_allclose(colour_of(data), WITHOUT_PROFILE, atol=3)
    assert caplog.messages == ["it: read without its ICC profile, which is damaged or not for CMYK"]


def test_a_cut_cmyk_jpeg_with_a_profile_is_refused():
    image = Pillow.frombytes("CMYK", (64, 64), noise(64, 64, 4).tobytes())
    data = pillow_file(image, "jpeg", icc_profile=ink_profile())
    with pytest.raises(UnreadableImage, match="it: damaged or truncated"):
        decode(data[:-2000], name="it")


JPEGS = {
    "plain": {},
    "without chroma subsampling": {"subsampling": 0},
    "with restart markers": {"restart_marker_blocks": 4},
}


@pytest.mark.parametrize("share", [0.4, 0.8, 0.97])
@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_that_was_cut_and_then_closed_is_refused(mode, options, share):
    image = Pillow.fromarray(noise(75, 90, 3)).convert(mode)
    data = pillow_file(image, "jpeg", **options)
    with pytest.raises(UnreadableImage, match="its end is missing"):
        decode(data[: int(len(data) * share)] + b"\xff\xd9", name="it")


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_whole_jpeg_may_end_in_the_grey_of_missing_blocks(mode):
    image = Pillow.new(mode, (75, 90), (128, 128, 128) if mode == "RGB" else 128)
    image.paste(Pillow.fromarray(noise(40, 75, 3)).convert(mode))
    data = pillow_file(image, "jpeg")
    assert decode(data, name="it").pixels[0, -1, -1] * 255 == 128


@pytest.mark.parametrize("way", range(1, 9))
@pytest.mark.parametrize("format", ["jpeg", "webp", "png"])
def test_the_orientation_is_applied_once(format, way):
    stored = Pillow.fromarray(noise(3, 5, 3)).resize((40, 24), Pillow.Resampling.BICUBIC)
    options = {"lossless": True} if format == "webp" else {}
    data = pillow_file(stored, format, exif=camera_exif(way), **options)
    with Pillow.open(io.BytesIO(data)) as opened:
        wanted = np.asarray(ImageOps.exif_transpose(opened)).transpose(2, 0, 1) / 255.0
    image = decode(data, name="it")
    np.testing.assert_allclose(image.pixels, wanted, atol=1e-6)
    with Pillow.open(io.BytesIO(encode(image, format=format))) as again:
        assert again.getexif()[0x0112] == 1
        assert again.size == (image.width, image.height)


@pytest.mark.parametrize("said", ['tiff:Orientation="6"', "<tiff:Orientation>6</tiff:Orientation>"])
def test_an_orientation_in_xmp_counts_and_is_reset(said):
    data = pillow_file(Pillow.new("RGB", (40, 24)), "jpeg", xmp=XMP + said.encode())
    image = decode(data, name="it")
    assert (image.height, image.width) == (40, 24)
    assert image.metadata.xmp == XMP + said.replace("6", "1").encode()


def jpeg_with_density(unit, density, **options):
    data = bytearray(pillow_file(Pillow.new("RGB", (8, 8)), "jpeg", dpi=(72, 72), **options))
    at = data.index(b"JFIF\0") + 7
    struct.pack_into(">BHH", data, at, unit, *density)
    return bytes(data)


@pytest.mark.parametrize(
    ("unit", "dpi"), [(1, (300, 150)), (2, (762, 381)), (0, None)], ids=["inch", "cm", "ratio"]
)
def test_the_density_of_a_jpeg_is_read_in_its_unit(unit, dpi):
    found = decode(jpeg_with_density(unit, (300, 150)), name="it").metadata.dpi
    assert found == (dpi and pytest.approx(dpi))


def test_the_resolution_in_exif_counts_where_there_is_no_other():
    exif = Pillow.Exif()
    exif[0x011A], exif[0x011B], exif[0x0128] = 118.0, 118.0, 3
    data = jpeg_with_density(0, (1, 1), exif=exif.tobytes())
    assert decode(data, name="it").metadata.dpi == pytest.approx((299.72, 299.72))


def test_no_resolution_is_made_up_from_exif_without_one():
    assert decode(jpeg_with_density(0, (1, 1), exif=camera_exif()), name="it").metadata.dpi is None


@pytest.mark.parametrize("format", ["gif", "webp"])
def test_of_an_animation_the_first_image_is_read_and_the_rest_is_named(format, caplog):
    first, second = (Pillow.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if format == "webp" else {}
    data = pillow_file(first, format, save_all=True, append_images=[second], **options)
    np.testing.assert_allclose(colour_of(data), [255, 0, 0])
    assert caplog.messages == ["it: read without the other frames"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (0x000000, ["it: read without the other images"]),
        (0x020002, ["it: read without the other images"]),
        (0x010001, []),
    ],
    ids=["undefined", "stereo", "preview"],
)
def test_of_many_images_the_first_is_read_and_the_rest_is_named_unless_a_preview(
    kind, said, caplog
):
    first, second = Pillow.new("RGB", (32, 24), "red"), Pillow.new("RGB", (16, 12), "blue")
    data = pillow_file(first, "mpo", save_all=True, append_images=[second], exif=camera_exif(6))
    entry = (
        data.index(struct.pack("<I", 0x030000), data.index(b"MPF\0") + 30) + 16
    )  # after that of the first image
    data = data[:entry] + struct.pack("<I", kind) + data[entry + 4 :]
    image = decode(data, name="it")
    assert (image.height, image.width) == (32, 24)
    np.testing.assert_allclose(image.pixels.mean((1, 2)) * 255, [255, 0, 0], atol=3)
    assert caplog.messages == said


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("format", ["bmp", "gif", "ppm"])
def test_older_formats_are_read_as_pillow_reads_them(format, mode):
    image = Pillow.fromarray(noise(9, 13, 3)).quantize(16).convert(mode)
    if (format, mode) == ("ppm", "P"):
        image = image.convert("RGB")
    data = pillow_file(image, format)
    with Pillow.open(io.BytesIO(data)) as opened:
        wanted = np.asarray(opened.convert("RGB"))
    pixels = decode(data, name="it").pixels.expand(3, -1, -1)
    np.testing.assert_allclose(pixels.numpy().transpose(1, 2, 0) * 255, wanted, atol=0.01)


def test_what_a_gif_hides_becomes_alpha():
    photo = Pillow.fromarray((noise(9, 13, 1)[..., 0] // 128), "L").convert("P")
    image = decode(pillow_file(photo, "gif", transparency=1), name="it")
    np.testing.assert_allclose(image.alpha[0], 1 - np.asarray(photo))


def test_floats_are_refused():
    data = b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 0.5, 0.25)
    with pytest.raises(UnreadableImage, match=r"^it: a PFM image of floating-point levels"):
        decode(data, name="it")


def test_a_gif_too_short_for_its_size_is_refused_unread():
    data = bytearray(pillow_file(Pillow.new("P", (8, 6)), "gif"))
    data[6:10] = (20_000).to_bytes(2, "little") * 2
    with pytest.raises(UnreadableImage, match="cannot hold 20000 x 20000 pixels"):
        decode(bytes(data), name="it")
