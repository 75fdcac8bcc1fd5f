"""JPEG files with more in them than an image."""

import struct

import pytest
import torch
from PIL import Image as Pillow

from restore_cli.imaging.codecs.photoshop import iptc_in
from restore_cli.imaging.io import decode, encode
from tests.imaging.images import camera_exif, pillow_file

PHOTO = pillow_file(Pillow.new("RGB", (16, 8), "red"), "jpeg")
CLIP = b"\0\0\0\x18ftypmp42\0\0\0\0isom" + bytes(range(256))
XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"
CAPTIONS = b"\x1c\x02\x00\x00\x02\0\x04" + b"\x1c\x02\x78\x00\x04Boat" + b"\x1c\x02\x19\0\x03fog"


def segment(marker, body):
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg_with(*segments, behind=b""):
    return PHOTO[:2] + b"".join(segment(*each) for each in segments) + PHOTO[2:] + behind


def resource(id, data, name=b"\0\0"):
    padding = bytes(len(data) % 2)
    return b"8BIM" + struct.pack(">H", id) + name + struct.pack(">I", len(data)) + data + padding


def photoshop(*resources):
    return 0xED, b"Photoshop 3.0\0" + b"".join(resources)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (jpeg_with(behind=PHOTO), "the other images"),
        (jpeg_with(behind=bytes(50) + PHOTO), "the other images"),
        (jpeg_with((0xE1, XMP_NAME + b"<a hdrgm:Version='1.0'/>"), behind=PHOTO), "its gain map"),
        (
            jpeg_with(
                (
                    0xE1,
                    XMP_NAME
                    + b"<a xmlns:g='http://ns.adobe.com/hdr-gain-map/1.0/' g:Version='1'/>",
                ),
                behind=PHOTO,
            ),
            "its gain map",
        ),
        (jpeg_with((0xE1, XMP_NAME + b"<a I:Semantic='GainMap'/>"), behind=PHOTO), "its gain map"),
        (jpeg_with((0xE2, b"urn:iso:std:iso:ts:21496:-1\0"), behind=PHOTO), "its gain map"),
        (jpeg_with(behind=CLIP), "its video clip"),
        (jpeg_with(behind=b"MotionPhoto_Data" + CLIP + b"SEFHSEFT"), "its video clip"),
        (jpeg_with(behind=b"notes of a program"), "the data behind its end"),
        (jpeg_with((0xE1, b"http://ns.adobe.com/xmp/extension/\0?")), "its extended XMP"),
        (jpeg_with((0xE1, b"FLIR\0\1\0\0")), "its thermal data (FLIR)"),
        (jpeg_with((0xEB, b"JP\0\1\0\0\0\1")), "its JUMBF data (content credentials)"),
        (jpeg_with((0xE5, b"of a vendor"), (0xE5, b"more of it")), "its APP5 data"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_beside_the_image_is_named_once(data, said, caplog):
    image = decode(data, name="photo.jpg")
    assert (image.height, image.width) == (8, 16)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"photo.jpg: read without {said}")


def test_one_warning_names_all_that_is_beside_the_image(caplog):
    decode(jpeg_with((0xE1, b"FLIR\0"), behind=PHOTO + CLIP), name="photo.jpg")
    assert caplog.messages == [
        "photo.jpg: read without its thermal data (FLIR), the other images, its video clip"
    ]


@pytest.mark.parametrize(
    "data",
    [
        jpeg_with(behind=bytes(5000)),
        jpeg_with((0xE0, b"JFXX\0\x10" + PHOTO)),
        jpeg_with((0xEC, b"Ducky\0\1\0\4\0\0\0\x50"), (0xFE, b"\xff\xd9 and \xff\xd8\xff")),
        pillow_file(Pillow.effect_noise((64, 48), 90), "jpeg", progressive=True),
        pillow_file(Pillow.effect_noise((64, 48), 90), "jpeg", restart_marker_blocks=1),
        pillow_file(Pillow.new("RGB", (16, 8)), "jpeg", exif=camera_exif(), icc_profile=b"x"),
    ],
    ids=["zeros", "thumbnail", "markers in a comment", "progressive", "restarts", "camera"],
)
def test_of_a_plain_jpeg_nothing_is_said(data, caplog):
    decode(data, name="it")
    assert caplog.messages == []


@pytest.mark.parametrize(
    "comment",
    [b"made by hand", "Böschung 花".encode(), b"caf\xe9", b"two\nlines"],
    ids=["ascii", "utf-8", "latin-1", "lines"],
)
def test_comments_are_kept_byte_for_byte(comment):
    image = decode(jpeg_with((0xFE, comment), (0xFE, b"second")), name="it")
    again = encode(image, format="jpeg")
    assert segment(0xFE, comment) + segment(0xFE, b"second") in again


def test_a_comment_is_a_text_of_a_png_and_the_reverse():
    image = decode(jpeg_with((0xFE, b"caf\xe9")), name="it")
    there = decode(encode(image, format="png"), name="it")
    assert there.metadata.texts[0][:2] == ("Comment", "café")
    assert segment(0xFE, "café".encode()) in encode(there, format="jpeg")


@pytest.mark.parametrize("format", ["jpeg", "tiff"])
def test_captions_are_kept_byte_for_byte(format):
    data = jpeg_with(photoshop(resource(0x0404, CAPTIONS), resource(0x07D0, b"path" * 26)))
    image = decode(data, name="it")
    again = decode(encode(image, format=format), name="it").metadata.photoshop
    assert iptc_in(again) == CAPTIONS
    assert again == image.metadata.photoshop


def test_captions_longer_than_a_segment_are_kept():
    iptc = CAPTIONS + (b"\x1c\x02\x78\x75\x30" + b"a" * 30_000) * 5
    block = resource(0x0404, iptc)
    parts = [block[at : at + 60_000] for at in range(0, len(block), 60_000)]
    image = decode(jpeg_with(*(photoshop(part) for part in parts)), name="it")
    again = decode(encode(image, format="jpeg"), name="it")
    assert iptc_in(again.metadata.photoshop) == iptc


@pytest.mark.parametrize("format", ["png", "webp"])
def test_one_warning_names_captions_and_comments_that_a_format_cannot_hold(format, caplog):
    block = photoshop(resource(0x0404, CAPTIONS), resource(0x040A, b"\1"))
    image = decode(jpeg_with(block, (0xFE, b"hello")), name="it")
    encode(image, format=format, name="it.jpg")
    comment = {"png": "", "webp": ", its comment"}[format]
    assert caplog.messages == [
        f"it.jpg: written without its IPTC captions, its copyright mark{comment}"
    ]


def test_settings_of_photoshop_and_empty_captions_are_no_news(caplog):
    empty = b"\x1c\x01\x5a\0\3\x1b%G" + CAPTIONS[:7]
    block = photoshop(resource(0x0404, empty), resource(0x040C, PHOTO), resource(0x03ED, bytes(16)))
    image = decode(jpeg_with(block), name="it")
    assert image.metadata.photoshop is None
    encode(image, format="png")
    assert caplog.messages == []


def test_clipping_paths_do_not_go_with_an_image_that_is_turned(caplog):
    block = photoshop(resource(0x07D0, b"path" * 26))
    data = pillow_file(Pillow.new("RGB", (16, 8)), "jpeg", exif=camera_exif(6))
    image = decode(data[:2] + segment(*block) + data[2:], name="it")
    assert image.metadata.photoshop is None
    assert caplog.messages == ["it: read without its clipping paths"]


def test_transparency_bits_and_texts_that_a_jpeg_cannot_hold_are_named_in_one_warning(caplog):
    from tests.imaging.images import image_of, noise, png_file

    chunk = (b"tEXt", b"parameters\0Steps: 20")
    image = decode(png_file(noise(5, 7, 4, 16), chunk), name="it")
    encode(image, format="jpeg", name="logo.jpg")
    encode(image_of(noise(5, 7, 3)), format="jpeg")
    assert caplog.messages == [
        "logo.jpg: written without its transparency (composited on white), "
        "its texts (parameters), its bits beyond 8"
    ]


@pytest.mark.parametrize(
    "behind",
    [b"\xff" * 3_000_000, b"\xff\xd8\xff" * 500_000, b"\xff\xd8\xff\xe1\0\2" * 300_000],
    ids=["fill bytes", "starts", "segments"],
)
def test_rubbish_behind_the_end_is_passed_in_linear_time(behind, caplog):
    decode(jpeg_with(behind=behind), name="it")  # would take hours
    assert len(caplog.messages) == 1


def test_alpha_that_hides_nothing_is_no_loss(caplog):
    from restore_cli.imaging.image import Image

    encode(Image(torch.zeros(3, 4, 4), torch.ones(1, 4, 4)), format="jpeg")
    assert caplog.messages == []
