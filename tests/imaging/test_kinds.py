"""Files that are not read are refused by their kind, whatever their name."""

import struct

import pytest

from restore_cli.errors import UnreadableImage
from restore_cli.imaging.io import decode
from restore_cli.imaging.kinds import SIGNATURES, other_kind


def first_box(brand, *compatible):
    """Return the first box of a file of the MP4 family."""
    body = brand + b"\0\0\0\0" + b"".join(compatible)
    return struct.pack(">I", 8 + len(body)) + b"ftyp" + body + bytes(64)


KINDS = {
    "heic": (first_box(b"heic", b"mif1", b"heic"), "a HEIC image"),
    "heic of ten bits": (first_box(b"heix", b"mif1"), "a HEIC image"),
    "heif of several images": (first_box(b"msf1", b"heis"), "a HEIC image"),
    "avif": (first_box(b"avif", b"mif1", b"miaf"), "an AVIF image"),
    "avif that begins as heif": (first_box(b"mif1", b"avif"), "an AVIF image"),
    "cr3": (first_box(b"crx ", b"isom"), "a raw photograph: develop it first"),
    "jpeg xl": (b"\xff\x0a" + bytes(20), "a JPEG XL image"),
    "jpeg xl in boxes": (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    "jpeg 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
    "svg": (b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="x">', "an SVG drawing"),
    "svg alone": (b"\xef\xbb\xbf  <svg width='1'>", "an SVG drawing"),
    "web page": (b"\n<!DOCTYPE html><html>no such file</html>", "a web page"),
    "docx": (b"PK\x03\x04" + bytes(30), "a ZIP archive"),
    "psd": (b"8BPS\0\1", "a Photoshop document"),
    "exr": (b"v/1\x01" + bytes(8), "an OpenEXR image"),
    "raf": (b"FUJIFILMCCD-RAW 0201", "a raw photograph: develop it first"),
    "orf": (b"IIRO\x08\0\0\0", "a raw photograph: develop it first"),
    "rw2": (b"IIU\0\x18\0\0\0", "a raw photograph: develop it first"),
    "cr2": (b"II*\0\x10\0\0\0CR\x02\0", "a raw photograph: develop it first"),
}


@pytest.mark.parametrize(("data", "said"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("name", ["photo.jpg", "photo"])
def test_a_file_is_called_by_its_contents_and_has_a_way_out(data, said, name):
    with pytest.raises(UnreadableImage, match=f"^{name}: {said}") as caught:
        decode(data, name=name)
    assert caught.value.hint
    assert "video" not in caught.value.message


@pytest.mark.parametrize("brand", [b"isom", b"mp42", b"qt  ", b"avc1", b"3gp4"])
def test_a_video_is_no_kind_of_image(brand):
    assert other_kind(first_box(brand, b"mp41")) is None


def test_every_signature_is_found():
    found = [other_kind(bytes(at) + signature) for at, signature, _ in SIGNATURES]
    assert found == [kind for _, _, kind in SIGNATURES]


@pytest.mark.parametrize("text", [b"plain text", b"<?xml version='1.0'?><rss/>", b"# a <svg> note"])
def test_other_texts_have_no_kind(text):
    assert other_kind(text) is None
