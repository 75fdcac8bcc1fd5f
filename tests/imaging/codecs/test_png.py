import io
import struct
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from restore_cli.errors import UnreadableImage
from restore_cli.imaging import quantize
from restore_cli.imaging.codecs import photoshop, png
from restore_cli.imaging.codecs.xmp import record_in
from restore_cli.imaging.image import Image, Metadata, Text
from restore_cli.imaging.io import decode, encode
from tests.imaging.images import (
    XMP,
    camera_exif,
    icc_profile,
    levels_of,
    noise,
    pillow_file,
    png_chunk,
    png_file,
)

BOMB = zlib.compress(bytes(60_000_000), 1)
EXIF = camera_exif(orientation=6)[6:]


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (13, 9)], ids=str)
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4], ids=["grey", "grey-alpha", "rgb", "rgba"])
@pytest.mark.parametrize("depth", [8, 16])
def test_every_kind_of_png_is_read_exactly(depth, channels, interlaced, size):
    levels = noise(*size, channels, depth)
    found = levels_of(png_file(levels, interlaced=interlaced))
    np.testing.assert_allclose(found, levels, atol=0.01)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_colour_that_means_nothing_is_there_becomes_alpha(channels, depth):
    levels = noise(5, 7, channels, depth)
    key = struct.pack(f">{channels}H", *levels[2, 3].tolist())
    found = levels_of(png_file(levels, (b"tRNS", key)))
    hidden = (levels == levels[2, 3]).all(axis=2)
    np.testing.assert_allclose(found[..., :channels], levels, atol=0.01)
    np.testing.assert_allclose(found[..., channels], np.where(hidden, 0, 2**depth - 1))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparency", [None, 0, bytes([0, 100])], ids=["opaque", "key", "alpha"])
def test_a_palette_is_read_as_its_colours(bits, transparency):
    image = Pillow.fromarray(noise(9, 13, 3)).quantize(2**bits)
    options = {} if transparency is None else {"transparency": transparency}
    data = pillow_file(image, "png", bits=bits, **options)
    with Pillow.open(io.BytesIO(data)) as opened:
        wanted = np.asarray(opened.convert("RGB" if transparency is None else "RGBA"))
    np.testing.assert_allclose(levels_of(data), wanted, atol=0.01)


def test_one_bit_becomes_black_and_white():
    image = Pillow.fromarray(noise(9, 13, 1)[..., 0] > 127)
    data = pillow_file(image, "png")
    np.testing.assert_allclose(levels_of(data)[..., 0], np.asarray(image) * 255.0)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("place", ["before", "after"])
def test_metadata_counts_wherever_it_stands(place, depth):
    chunks = [(b"eXIf", EXIF), (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)]
    levels = noise(5, 7, 3, depth)
    if place == "before":
        data = png_file(levels, *chunks)
    else:
        late = b"".join(png_chunk(*chunk) for chunk in chunks)
        data = png_file(levels)[:-12] + late + png_chunk(b"IEND", b"")
    image = decode(data, name="it")
    assert (image.height, image.width) == (7, 5)  # turned
    assert image.metadata.xmp == XMP
    assert image.metadata.exif is not None


def test_compressed_xmp_is_unpacked():
    packed = b"XML:com.adobe.xmp\0\1\0en\0\0" + zlib.compress(XMP)
    data = png_file(noise(5, 7, 3), (b"iTXt", packed))
    assert decode(data, name="it").metadata.xmp == XMP


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt"])
def test_what_imagemagick_kept_as_hexadecimal_text_counts(kind):
    lines = "\n".join(EXIF.hex()[at : at + 72] for at in range(0, 2 * len(EXIF), 72))
    text = f"\nexif\n{len(EXIF):8}\n{lines}\n".encode()
    body = text if kind == b"tEXt" else b"\0" + zlib.compress(text)
    data = png_file(noise(5, 7, 3), (kind, b"Raw profile type exif\0" + body))
    image = decode(data, name="it")
    assert (image.height, image.width) == (7, 5)
    assert image.metadata.exif is not None


def test_a_resolution_without_unit_is_only_a_shape():
    data = png_file(noise(5, 7, 3), (b"pHYs", struct.pack(">IIB", 2, 1, 0)))
    assert decode(data, name="it").metadata.dpi is None


@pytest.mark.parametrize(
    "chunk",
    [
        (b"iCCP", b"bomb\0\0" + BOMB),
        (b"zTXt", b"Raw profile type exif\0\0" + BOMB),
        (b"zTXt", b"Comment\0\0" + BOMB),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB),
    ],
    ids=["profile", "exif", "comment", "xmp"],
)
def test_a_bomb_beside_the_pixels_is_dropped(chunk):
    data = png_file(noise(5, 7, 3), chunk)
    tracemalloc.start()
    metadata = decode(data, name="it").metadata
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (metadata.icc, metadata.exif, metadata.xmp) == (None, None, None)
    assert peak < 40_000_000


@pytest.mark.parametrize(
    "chunk",
    [
        (b"gAMA", b"?"),
        (b"iCCP", b"x\0\0" + zlib.compress(b"no profile" * 20)),
        (b"iTXt", b"XML:com.adobe.xmp"),
        (b"pHYs", b"12"),
        (b"tEXt", b"Raw profile type exif\0not hexadecimal"),
    ],
    ids=lambda chunk: chunk[0].decode() + "-" + chunk[1][:5].decode(errors="replace"),
)
def test_damage_beside_the_pixels_is_no_news(chunk, heard):
    levels, found = noise(5, 7, 3), []
    assert heard(lambda: found.append(levels_of(png_file(levels, chunk)))) == ("", "")
    np.testing.assert_allclose(found[0], levels, atol=0.01)


def test_damaged_pixels_are_refused():
    data = bytearray(png_file(noise(20, 20, 3)))
    data[len(data) // 2] ^= 1
    with pytest.raises(UnreadableImage, match=r"it: damaged or truncated \(.+\)"):
        decode(bytes(data), name="it")


def test_of_an_animation_the_first_image_is_read_and_the_rest_is_named(caplog):
    first, second = (Pillow.fromarray(noise(5, 7, 3) // part) for part in (1, 2))
    data = pillow_file(first, "png", save_all=True, append_images=[second])
    np.testing.assert_allclose(levels_of(data), np.asarray(first), atol=0.01)
    assert caplog.messages == ["it: read without the other frames"]


def test_a_damaged_profile_is_named(caplog):
    decode(png_file(noise(5, 7, 3), (b"iCCP", b"x\0\0rubbish")), name="it")
    assert caplog.messages == ["it: read without its ICC profile, which is damaged"]


def test_countless_parts_are_refused(monkeypatch):
    monkeypatch.setattr("restore_cli.imaging.codecs.png.MOST_CHUNKS", 1000)
    data = png_file(noise(5, 7, 3))
    with pytest.raises(UnreadableImage, match="more than 1,000 chunks"):
        decode(data[:33] + png_chunk(b"tIME", b"") * 1000 + data[33:], name="it")


def test_a_large_profile_is_kept():
    profile = icc_profile() + np.random.default_rng(0).bytes(3_000_000)
    data = png_file(noise(5, 7, 3), (b"iCCP", b"big\0\0" + zlib.compress(profile, 1)))
    assert decode(data, name="it").metadata.icc == profile


def test_texts_are_written_for_others_to_read():
    texts = (Text("Software", "restore"), Text("Description", "Böschung 花", "de", "Beschreibung"))
    image = Image(torch.zeros(3, 2, 2), metadata=Metadata(texts=texts))
    data = encode(image, format="png")
    with Pillow.open(io.BytesIO(data)) as found:
        assert found.text == {text.keyword: text.text for text in texts}
    assert decode(data, name="x").metadata.texts == texts


CARRIED = {
    b"gAMA": struct.pack(">I", 100_000),
    b"cHRM": struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000),
    b"sRGB": b"\1",
    b"cICP": bytes([9, 16, 0, 1]),
    b"mDCV": bytes(range(24)),
    b"cLLI": bytes(range(8)),
    b"sBIT": bytes([5, 6, 5]),
}


def chunk_of(data, kind):
    return next((bytes(chunk.body) for chunk in png._chunks(data) if chunk.kind == kind), None)


@pytest.mark.parametrize("kind", CARRIED)
def test_what_a_png_says_of_its_colours_is_carried(kind, caplog):
    image = decode(png_file(noise(5, 7, 3), (kind, CARRIED[kind])), name="it")
    assert chunk_of(encode(image, format="png"), kind) == CARRIED[kind]
    assert caplog.messages == []


def test_significant_bits_have_a_number_for_alpha():
    levels = noise(5, 7, 3)
    data = png_file(levels, (b"sBIT", bytes([5, 6, 5])), (b"tRNS", bytes(6)))
    again = encode(decode(data, name="it"), format="png")
    assert chunk_of(again, b"sBIT") == bytes([5, 6, 5, 8])


def test_significant_bits_do_not_go_with_other_channels():
    image = decode(png_file(noise(5, 7, 3), (b"sBIT", bytes([5, 6, 5]))), name="it")
    grey = image.with_pixels(image.pixels[:1])
    assert decode(encode(grey, format="png"), name="it").pixels.shape == (1, 5, 7)


def test_mastering_data_that_a_format_cannot_hold_are_named(caplog):
    chunks = [(kind, CARRIED[kind]) for kind in (b"sBIT", b"mDCV", b"cLLI")]
    encode(decode(png_file(noise(5, 7, 3), *chunks), name="it"), format="tiff", name="it")
    assert caplog.messages == [
        "it: written without its mastering display, its light levels, "
        "its number of significant bits"
    ]


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        (b"tEXt", b"Title\0caf\xe9", Text("Title", "café")),
        (b"zTXt", b"Title\0\0" + zlib.compress(b"Slope"), Text("Title", "Slope")),
        (b"iTXt", b"Title\0\0\0de\0Titel\0" + "花".encode(), Text("Title", "花", "de", "Titel")),
        (
            b"iTXt",
            b"parameters\0\1\0\0\0" + zlib.compress(b"Steps: 20"),
            Text("parameters", "Steps: 20"),
        ),
    ],
    ids=["tEXt", "zTXt", "iTXt", "iTXt compressed"],
)
def test_texts_go_from_png_to_png_beside_the_record(kind, body, text):
    image = decode(png_file(noise(5, 7, 3), (kind, body)), name="it")
    made = replace(image, metadata=replace(image.metadata, record="{}"))
    again = decode(encode(made, format="png"), name="it").metadata
    assert again.texts == (text,)
    assert record_in(again.xmp) == "{}"


def test_a_record_of_earlier_versions_is_no_text():
    data = png_file(noise(5, 7, 3), (b"iTXt", b"restore\0\0\0\0\0{}"))
    assert decode(data, name="it").metadata.texts == ()


def test_texts_of_many_bombs_take_no_memory(caplog):
    data = png_file(noise(5, 7, 3), *[(b"zTXt", b"a\0\0" + zlib.compress(bytes(9_000_000)))] * 20)
    texts = decode(data, name="it").metadata.texts
    assert sum(len(text.text) for text in texts) <= png.LONGEST
    assert caplog.messages == ["it: read without texts that are damaged or too long"]


def test_data_behind_the_end_of_a_png_are_named(caplog):
    data = png_file(noise(5, 7, 3))
    decode(data + bytes(100), name="it")
    decode(data + b"PK\3\4", name="it")
    assert caplog.messages == ["it: read without the data behind its end"]


def test_iptc_in_a_png_of_imagemagick_reaches_a_jpeg():
    iptc = b"\x1c\x02\x78\x00\x04Boat"
    text = f"Raw profile type iptc\0\niptc\n{len(iptc):8}\n{iptc.hex()}\n".encode()
    image = decode(png_file(noise(5, 7, 3), (b"tEXt", text)), name="it")
    found = decode(encode(image, format="jpeg"), name="it").metadata.photoshop
    assert photoshop.iptc_in(found) == iptc


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_strips_are_written_as_the_whole_image_would_be(depth, channels, monkeypatch):
    image = decode(png_file(noise(11, 7, channels, depth)), name="it")
    whole = encode(image, format="png")
    monkeypatch.setattr(quantize, "STRIP", 7 * 3)
    assert encode(image, format="png") == whole


@pytest.mark.parametrize("compress", ["fast", "normal", "small"])
def test_a_giant_is_compressed_strip_by_strip(compress, monkeypatch):
    image = decode(png_file(noise(11, 7, 3)), name="it")
    monkeypatch.setattr(quantize, "STRIP", 7 * 3)
    monkeypatch.setattr(png, "AT_ONCE", 0)
    file = encode(image, format="png", compress=compress)
    assert decode(file, name="it").pixels.equal(image.pixels)
