"""Files that are not read are refused by their kind, whatever their name."""

import struct

import pytest

from restore_cli.errors import UnreadableImage
from restore_cli.imaging.formats import readable_suffixes, still_of
from restore_cli.imaging.headers import still_in
from restore_cli.imaging.io import decode
from restore_cli.imaging.kinds import SIGNATURES, other_kind


def first_box(brand, *compatible):
    """Return the first box of a file of the MP4 family."""
    body = brand + b"\0\0\0\0" + b"".join(compatible)
    return struct.pack(">I", 8 + len(body)) + b"ftyp" + body + bytes(64)


KINDS = {
    "heif of h264": (first_box(b"avci", b"mif1"), "a HEIF image in H.264"),
    "jpeg 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
    "svg": (b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="x">', "an SVG drawing"),
    "svg alone": (b"\xef\xbb\xbf  <svg width='1'>", "an SVG drawing"),
    "web page": (b"\n<!DOCTYPE html><html>no such file</html>", "a web page"),
    "docx": (b"PK\x03\x04" + bytes(30), "a ZIP archive"),
    "psd": (b"8BPS\0\1", "a Photoshop document"),
    "jpeg xr": (b"II\xbc\x01" + bytes(8), "a JPEG XR image"),
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


@pytest.mark.parametrize(
    ("brands", "name"),
    [
        ((b"heic", b"mif1", b"heic"), "HEIC"),
        ((b"heix", b"mif1"), "HEIC"),
        ((b"msf1", b"heis"), "HEIC"),
        ((b"mif1", b"miaf"), "HEIC"),
        ((b"avif", b"mif1", b"miaf"), "AVIF"),
        ((b"avis", b"msf1", b"mif1"), "AVIF"),
        ((b"mif1", b"avif"), "AVIF"),
    ],
)
def test_brands_tell_the_formats_of_the_mp4_family_apart(brands, name):
    assert other_kind(first_box(*brands)) is None
    assert still_of(first_box(*brands)).name == name


RAWS = {
    "cr3": first_box(b"crx ", b"isom"),
    "raf": b"FUJIFILMCCD-RAW 0201",
    "orf": b"IIRO\x08\0\0\0",
    "rw2": b"IIU\0\x18\0\0\0",
    "cr2": b"II*\0\x10\0\0\0CR\x02\0",
}


@pytest.mark.parametrize("data", RAWS.values(), ids=RAWS)
def test_raw_photographs_are_known_by_their_contents(data):
    assert still_in(data, "photo.jpg").name == "RAW"


@pytest.mark.parametrize(
    ("data", "said", "extra"),
    [
        (first_box(b"heic", b"mif1"), "a HEIC image, which needs the package pillow-heif", "heif"),
        (RAWS["raf"], "a raw photograph: develop it first, or install the package rawpy", "raw"),
    ],
)
def test_a_format_without_its_extra_names_the_command_that_installs_it(
    data, said, extra, monkeypatch
):
    monkeypatch.setattr("restore_cli.imaging.formats.find_spec", lambda name: None)
    with pytest.raises(UnreadableImage) as caught:
        decode(data, name="photo.jpg")
    assert caught.value.message == f"photo.jpg: {said}"
    assert caught.value.hint.startswith(f"pip install 'restore-cli[{extra}]', or export it as ")


@pytest.mark.parametrize("spec", [None, object()], ids=["missing", "installed"])
def test_the_suffixes_of_an_extra_are_read_where_it_is_installed(spec, monkeypatch):
    monkeypatch.setattr("restore_cli.imaging.formats.find_spec", lambda name: spec)
    found = {".heic", ".dng", ".avif", ".jxl"} & readable_suffixes()
    assert found == ({".avif", ".jxl"} if spec is None else {".heic", ".dng", ".avif", ".jxl"})


def test_every_signature_is_found():
    found = [other_kind(bytes(at) + signature) for at, signature, _ in SIGNATURES]
    assert found == [kind for _, _, kind in SIGNATURES]


@pytest.mark.parametrize("text", [b"plain text", b"<?xml version='1.0'?><rss/>", b"# a <svg> note"])
def test_other_texts_have_no_kind(text):
    assert other_kind(text) is None
