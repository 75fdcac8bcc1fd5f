import io
import struct
import tracemalloc
import zlib
from contextlib import suppress
from itertools import product

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import TiffImagePlugin

from restore_cli.errors import ImageTooLarge, UnreadableImage
from restore_cli.imaging import quantize
from restore_cli.imaging.codecs import exif, photoshop, tiff
from restore_cli.imaging.headers import still_in
from restore_cli.imaging.image import Metadata
from restore_cli.imaging.io import decode, encode
from tests.imaging.images import (
    camera_exif,
    icc_profile,
    image_of,
    levels_of,
    noise,
    pillow_file,
)

PHOTOMETRICS = {1: "minisblack", 2: "minisblack", 3: "rgb", 4: "rgb"}


def tiff_file(levels, *, byteorder="<", planar=False, big=False, **options):
    """Encode levels (H, W, C) by tifffile."""
    channels = levels.shape[2]
    options = {"photometric": PHOTOMETRICS.get(channels, "rgb"), "metadata": None} | options
    if channels > 1:
        options["planarconfig"] = "separate" if planar else "contig"
    if channels in (2, 4):
        options.setdefault("extrasamples", ["unassalpha"])
    array = levels[..., 0] if channels == 1 else np.moveaxis(levels, 2, 0) if planar else levels
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, byteorder=byteorder, bigtiff=big) as writer:
        writer.write(array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("tile", [None, (16, 16)], ids=["strips", "tiles"])
@pytest.mark.parametrize("planar", [False, True], ids=["together", "apart"])
@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize("depth", [8, 16])
def test_every_layout_of_tiff_is_read_exactly(depth, compression, byteorder, planar, tile):
    levels = noise(21, 37, 4, depth)
    data = tiff_file(levels, byteorder=byteorder, planar=planar, compression=compression, tile=tile)
    np.testing.assert_allclose(levels_of(data), levels, atol=0.01)


@pytest.mark.parametrize(
    ("depth", "channels", "options"),
    [
        pytest.param(depth, channels, options, id=f"{depth}-{channels}-{name}")
        for depth, channels in product([8, 16], [1, 2, 3, 4])
        for name, options in {
            "plain": {},
            "lzw-differences": {"compression": "lzw", "predictor": True},
            "deflate-differences": {"compression": "zlib", "predictor": True, "byteorder": ">"},
            "one-row-a-strip": {"rowsperstrip": 1},
            "bigtiff": {"big": True},
        }.items()
    ],
)
def test_every_kind_of_channels_is_read_exactly(depth, channels, options):
    levels = noise(7, 13, channels, depth)
    np.testing.assert_allclose(levels_of(tiff_file(levels, **options)), levels, atol=0.01)


LOSSLESS_CODECS = ["jpeg2000", "jpegxl", "jpegxr", "lerc", "png"]


@pytest.mark.parametrize("tile", [None, (16, 16)], ids=["strips", "tiles"])
@pytest.mark.parametrize(
    ("compression", "depth"), [*product(LOSSLESS_CODECS, [8, 16]), ("webp", 8)]
)
def test_image_codecs_in_a_tiff_are_read_exactly(compression, depth, tile, caplog):
    levels = noise(32, 48, 3, depth)
    options = {"compressionargs": {"level": 0}} if compression == "webp" else {}
    data = tiff_file(levels, compression=compression, tile=tile, **options)
    np.testing.assert_allclose(levels_of(data), levels, atol=0.01)
    assert not caplog.messages


def ycbcr_file(levels, across, down, *, planar=False, tile=None, compression=1):
    """Encode smooth RGB levels as YCbCr whose chroma is reduced by whole factors."""
    ycbcr = np.asarray(Pillow.fromarray(levels).convert("YCbCr"))
    height, width = levels.shape[:2]
    if (across, down) == (1, 1):
        options = {"photometric": "ycbcr", "subsampling": (1, 1), "tile": tile}
        return tiff_file(ycbcr, planar=planar, **options)
    blocks = ycbcr.reshape(height // down, down, width // across, across, 3)
    luma = blocks[..., 0].transpose(0, 2, 1, 3).reshape(height // down, width // across, -1)
    chroma = blocks[..., 1:].mean((1, 3)).round().astype(np.uint8)
    data = np.concatenate([luma, chroma], axis=2).tobytes()
    data = zlib.compress(data) if compression == 8 else data
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    values = {256: width, 257: height, 258: (8, 8, 8), 259: compression, 262: 6, 277: 3}
    values |= {278: height, 279: len(data), 284: 1, 530: (across, down), 531: 1, 273: 0}
    for tag, value in values.items():
        directory[tag] = value
    return b"II*\0" + struct.pack("<I", 8) + directory.tobytes(8) + data  # moves the strip there


@pytest.mark.parametrize(
    ("across", "down", "options"),
    [
        (1, 1, {}),
        (1, 1, {"planar": True}),
        (1, 1, {"tile": (16, 16)}),
        (2, 1, {}),
        (2, 2, {}),
        (4, 2, {}),
        (2, 2, {"compression": 8}),
    ],
)
def test_ycbcr_is_read_in_any_layout(across, down, options):
    rows, columns = np.mgrid[:32, :48]
    levels = np.stack([60 + 3 * rows, 200 - 2 * columns, 80 + rows + columns], axis=2)
    data = ycbcr_file(levels.astype(np.uint8), across, down, **options)
    assert np.abs(levels_of(data) - levels).max() < 3 + across * down


def test_a_layout_that_no_library_reads_is_named():
    data = tiff_file(noise(8, 8, 5), photometric="separated", extrasamples=["unassalpha"])
    found = "a TIFF with SEPARATED of 8, 8, 8, 8, 8 bits, compression NONE"
    with pytest.raises(UnreadableImage, match=found) as caught:
        decode(data, name="x.tif")
    assert "8 or 16 bits" in caught.value.hint


def test_an_unknown_compression_is_named():
    data = tiff_file(noise(8, 8, 3, 8), compression="lzw")
    tag = struct.pack("<HHIH", 259, 3, 1, 5)
    assert data.count(tag) == 1
    with pytest.raises(UnreadableImage, match="RGB of 8, 8, 8 bits, compression 9999"):
        decode(data.replace(tag, struct.pack("<HHIH", 259, 3, 1, 9999)), name="x.tif")


@pytest.mark.parametrize("depth", [8, 16])
def test_white_is_zero_is_turned_round(depth):
    levels = noise(7, 13, 1, depth)
    found = levels_of(tiff_file(levels, photometric="miniswhite"))
    np.testing.assert_allclose(found, 2**depth - 1 - levels, atol=0.01)


def test_twelve_bit_fill_the_whole_range():
    pytest.importorskip("imagecodecs", "2025.11.11")  # packs them
    levels = noise(7, 14, 1, 12)
    data = tiff_file(levels, bitspersample=12)
    image = decode(data, name="it")
    assert image.bit_depth == 16
    np.testing.assert_allclose(image.pixels[0], levels[..., 0] / 4095.0, atol=1e-6)


@pytest.mark.parametrize("depth", [8, 16])
def test_alpha_that_is_multiplied_in_is_taken_out(depth):
    largest = 2**depth - 1
    levels = np.array([[[largest // 2, largest // 4, 0, largest // 2], [0, 0, 0, 0]]])
    data = tiff_file(levels.astype(f"uint{depth}"), extrasamples=["assocalpha"])
    image = decode(data, name="it")
    np.testing.assert_allclose(image.pixels[:, 0, 0], [1, 0.5, 0], atol=2 / largest)
    np.testing.assert_allclose(image.pixels[:, 0, 1], [0, 0, 0])
    np.testing.assert_allclose(image.alpha[0, 0], [0.5, 0], atol=1 / largest)


@pytest.mark.parametrize("depth", [8, 16])
def test_further_channels_are_dropped_and_named(depth, caplog):
    levels = noise(7, 13, 6, depth)
    data = tiff_file(levels, photometric="rgb", extrasamples=["unspecified", "unassalpha", 0])
    np.testing.assert_allclose(levels_of(data), levels[..., [0, 1, 2, 4]], atol=0.01)
    assert caplog.messages == ["it: read without channels that are neither colour nor alpha"]


def test_of_many_pages_the_first_is_read_and_the_rest_is_named(caplog):
    buffer = io.BytesIO()
    levels = noise(7, 13, 3, 16)
    with tifffile.TiffWriter(buffer) as writer:
        for page in (levels, levels // 2):
            writer.write(page, photometric="rgb", metadata=None)
    np.testing.assert_allclose(levels_of(buffer.getvalue()), levels, atol=0.01)
    assert caplog.messages == ["it: read without the other pages"]


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("1", {"compression": "group4"}),
        ("1", {}),
        ("L", {"compression": "jpeg"}),
        ("RGB", {"compression": "jpeg", "quality": 100}),
        ("P", {}),
        ("P", {"compression": "tiff_lzw"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_rare_kinds_are_read_as_pillow_reads_them(mode, options):
    image = Pillow.fromarray(noise(24, 32, 3)).convert(mode)
    data = pillow_file(image, "tiff", **options)
    with Pillow.open(io.BytesIO(data)) as opened:
        wanted = np.asarray(opened.convert("L" if mode in "1L" else "RGB"))
    np.testing.assert_allclose(levels_of(data).squeeze(), wanted, atol=0.01)


def test_cmyk_of_sixteen_bit_is_read_as_eight_and_that_is_said(caplog):
    levels = noise(7, 13, 4, 16)
    data = tiff_file(levels, photometric="separated", extrasamples=[])
    ink = levels // 256 / 255.0
    wanted = 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])
    np.testing.assert_allclose(levels_of(data), wanted, atol=1.5)
    assert caplog.messages == ["it: read without its bits beyond 8"]


REFUSED = {
    "signed": (tiff_file(noise(7, 13, 1, 16).astype(np.int16)), "16-bit integer levels"),
    "long": (tiff_file(noise(7, 13, 1, 16).astype(np.uint32)), "32-bit integer levels"),
    "float": (tiff_file(noise(7, 13, 3).astype(np.float32)), "32-bit floating-point levels"),
    "half": (tiff_file(noise(7, 13, 3).astype(np.float16)), "16-bit floating-point levels"),
    "lab": (pillow_file(Pillow.new("LAB", (9, 9)), "tiff"), "CIELAB colours"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_levels_that_are_neither_eight_nor_sixteen_bit_are_refused(kind):
    data, said = REFUSED[kind]
    with pytest.raises(UnreadableImage, match=f"^it: a TIFF with {said}$") as caught:
        decode(data, name="it")
    assert "convert it" in caught.value.hint


@pytest.mark.parametrize("way", range(1, 9))
@pytest.mark.parametrize("kind", ["8", "16", "palette"])
def test_the_orientation_is_applied_once(kind, way):
    levels = noise(5, 8, 3, 16 if kind == "16" else 8)
    extra = [(274, 3, 1, way, True)]
    if kind == "palette":
        image = Pillow.fromarray(levels).quantize(16)
        levels = np.asarray(image.convert("RGB"))
        data = pillow_file(image, "tiff", tiffinfo={274: way})
    else:
        data = tiff_file(levels, extratags=extra)
    wanted = levels.swapaxes(0, 1) if way >= 5 else levels
    wanted = wanted[::-1] if way in (3, 4, 7, 8) else wanted
    wanted = wanted[:, ::-1] if way in (2, 3, 6, 7) else wanted
    np.testing.assert_allclose(levels_of(data), wanted, atol=0.01)
    again = encode(decode(data, name="it"), format="tiff")
    np.testing.assert_allclose(levels_of(again), wanted, atol=0.01)


def test_turning_turns_the_resolution_too():
    data = tiff_file(
        noise(5, 8, 3),
        resolution=(300, 200),
        resolutionunit="INCH",
        extratags=[(274, 3, 1, 6, True)],
    )
    assert decode(data, name="it").metadata.dpi == (200, 300)


def test_dots_per_centimetre_become_dots_per_inch():
    data = tiff_file(noise(5, 8, 3), resolution=(100, 100), resolutionunit="CENTIMETER")
    assert decode(data, name="it").metadata.dpi == (254, 254)


@pytest.mark.parametrize("compression", [None, "raw", "tiff_lzw"])
def test_descriptions_of_a_tiff_reach_other_formats(compression):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[271], info[315], info[33432] = "Maker", "Artist", "Rights"
    data = pillow_file(
        Pillow.fromarray(noise(5, 8, 3)), "tiff", tiffinfo=info, compression=compression
    )
    with Pillow.open(io.BytesIO(encode(decode(data, name="it"), format="jpeg"))) as opened:
        found = opened.getexif()
    assert (found[271], found[315], found[33432]) == ("Maker", "Artist", "Rights")
    assert 256 not in found  # the layout of the old file


def test_the_profile_of_inks_does_not_go_with_rgb():
    data = pillow_file(Pillow.new("CMYK", (8, 5)), "tiff", icc_profile=icc_profile(b"CMYK"))
    assert decode(data, name="it").metadata.icc is None


def with_tag(data, tag, value):
    """Replace the number in a tag of one SHORT or LONG."""
    page = exif.first_directory(data)
    entry = page.entries[tag]
    changed = bytearray(data)
    struct.pack_into(page.order + exif.CODES[entry.type], changed, entry.at, value)
    return bytes(changed)


def test_missing_strips_are_not_taken_for_black():
    data = tiff_file(noise(7, 13, 3, 16), compression="zlib")
    for tag, value in ((279, 0), (273, 0), (273, 10**8)):
        with pytest.raises(UnreadableImage, match="parts of the image are missing"):
            decode(with_tag(data, tag, value), name="it")


def test_fewer_strips_than_the_height_asks_for_are_refused():
    data = tiff_file(noise(7, 13, 3, 16), rowsperstrip=7)
    with pytest.raises(UnreadableImage, match="it: damaged or truncated"):
        decode(with_tag(data, 257, 70), name="it")


def test_a_strip_that_unfolds_without_end_takes_no_memory():
    bomb = zlib.compress(bytes(60_000_000), 1)
    whole = tiff_file(noise(16, 16, 3, 16), compression="zlib")
    data = with_tag(with_tag(whole + bomb, 273, len(whole)), 279, len(bomb))
    tracemalloc.start()
    with suppress(UnreadableImage):  # too much data is no fault for every codec
        decode(data, name="it")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000


def test_a_giant_is_refused_by_its_tags():
    data = with_tag(tiff_file(noise(7, 13, 3, 16)), 256, 1_000_000_000)
    with pytest.raises(ImageTooLarge, match="1000000000 x 7 pixels"):
        decode(data, name="it")


def test_a_tag_that_points_nowhere_is_no_news(heard):
    data = tiff_file(noise(7, 13, 3, 16), software="a program")
    entry = data.index(struct.pack("<HHI", 305, 2, len("a program") + 1))
    broken = data[: entry + 8] + struct.pack("<I", 10**9) + data[entry + 12 :]
    assert heard(lambda: decode(broken, name="it")) == ("", "")


def written_by(kind, stack):
    buffer = io.BytesIO()
    options = {"imagej": {"imagej": True}, "ome": {"ome": True}, "shaped": {}}[kind]
    tifffile.imwrite(buffer, stack, metadata={"axes": "ZYX"}, photometric="minisblack", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("target", ["tiff", "jpeg", "png"])
@pytest.mark.parametrize("kind", ["imagej", "ome", "shaped"])
def test_a_description_of_all_planes_does_not_go_with_the_first(kind, target, caplog):
    stack = np.stack([noise(21, 37, 1)[..., 0]] * 3)
    image = decode(written_by(kind, stack), name="it")
    assert len(caplog.messages) == 1
    assert "the other pages" in caplog.messages[0]
    assert "description" in caplog.messages[0]
    written = encode(image, format=target)
    assert not [word for word in (b"ImageJ", b"OME", b"shape") if word in written]
    there = decode(written, name="it")
    again = encode(there, format="tiff")
    assert tifffile.imread(io.BytesIO(again)).shape == (21, 37)
    with tifffile.TiffFile(io.BytesIO(again)) as file:
        assert file.pages.first.description == ""


@pytest.mark.parametrize(
    "description",
    [
        "ImageJ=1.53\nimages=5\n",
        '{"shape": [5, 21, 37]}',
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org"></OME>\n',
        "Aperio Image Library v11\n46920x33014 (240x240) JPEG/RGB Q=30",
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn"></scn>',
        "<MetaData><PlaneInfo></PlaneInfo></MetaData>",
    ],
    ids=["imagej", "shaped", "ome", "svs", "scn", "metaseries"],
)
def test_descriptions_of_microscopes_are_dropped_and_named(description, caplog):
    data = tiff_file(noise(21, 37, 1), extratags=[(270, 2, 0, description, True)])
    image = decode(data, name="it")
    assert len(caplog.messages) == 1
    assert "description" in caplog.messages[0]
    with tifffile.TiffFile(io.BytesIO(encode(image, format="tiff"))) as file:
        assert file.pages.first.description == ""


def test_a_description_by_a_person_is_kept(caplog):
    data = tiff_file(noise(21, 37, 1), extratags=[(270, 2, 0, "Boats {in} the fog", True)])
    again = encode(decode(data, name="it"), format="tiff")
    with tifffile.TiffFile(io.BytesIO(again)) as file:
        assert file.pages.first.description == "Boats {in} the fog"
    assert caplog.messages == []


IPTC = b"\x1c\x02\x78\x00\x04Boat\x1c\x02\x19\x00\x03fog"


@pytest.mark.parametrize(
    ("code", "iptc"),
    [
        (7, IPTC),
        (1, IPTC),
        (4, IPTC + bytes(-len(IPTC) % 4)),
        (4, b"".join((IPTC + bytes(3))[at : at + 4][::-1] for at in range(0, 17, 4))),
    ],
    ids=["undefined", "bytes", "numbers", "numbers swapped"],
)
@pytest.mark.parametrize("target", ["tiff", "jpeg"])
def test_iptc_captions_of_a_tiff_are_kept(target, code, iptc):
    width = exif.SIZES[code]
    iptc = iptc[: len(iptc) // width * width]
    data = tiff_file(noise(5, 7, 3), extratags=[(33723, code, len(iptc) // width, iptc, True)])
    again = decode(encode(decode(data, name="it"), format=target), name="it")
    assert photoshop.iptc_in(again.metadata.photoshop)[: len(IPTC)] == IPTC


def test_layers_of_photoshop_are_named(caplog):
    data = tiff_file(noise(5, 7, 3), extratags=[(37724, 7, 8, b"Adobe Ph", True)])
    decode(data, name="it")
    assert caplog.messages == ["it: read without its layers"]


REDUCED, MASK = 1, 4  # NewSubfileType


def pages_file(*pages, **options):
    """Encode pages (levels, options of tifffile)."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, **options) as writer:
        for levels, page in pages:
            writer.write(levels, metadata=None, **{"photometric": "rgb"} | page)
    return buffer.getvalue()


FULL, SMALL = noise(24, 36, 3), noise(6, 9, 3)
ORDERS_OF_PAGES = {
    "thumbnail first": [(SMALL, {"subfiletype": REDUCED}), (FULL, {})],
    "overviews last": [(FULL, {}), (SMALL, {"subfiletype": REDUCED})],
    "image below the thumbnail": [(SMALL, {"subfiletype": REDUCED, "subifds": 1}), (FULL, {})],
    "overviews below the image": [(FULL, {"subifds": 1}), (SMALL, {"subfiletype": REDUCED})],
    "thumbnail of old": [(SMALL, {"extratags": [(255, 3, 1, 2, True)]}), (FULL, {})],
}


@pytest.mark.parametrize("pages", ORDERS_OF_PAGES.values(), ids=ORDERS_OF_PAGES)
@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}], ids=str)
def test_reduced_pages_are_skipped_for_the_full_one(pages, options, caplog):
    np.testing.assert_allclose(levels_of(pages_file(*pages, **options)), FULL, atol=0.01)
    assert caplog.messages == []


def test_a_jpeg_in_a_tiff_is_read_from_the_full_page_too():
    flat = np.full((32, 48, 3), 90, np.uint8)
    data = pages_file((SMALL, {"subfiletype": REDUCED}), (flat, {"compression": "jpeg"}))
    np.testing.assert_allclose(levels_of(data), flat, atol=2)  # JPEG of one level


def test_pages_that_are_all_reduced_give_the_largest():
    pages = [(SMALL, {"subfiletype": REDUCED}), (FULL, {"subfiletype": REDUCED})]
    np.testing.assert_allclose(levels_of(pages_file(*pages)), FULL, atol=0.01)


def test_other_pages_and_masks_are_named(caplog):
    mask = np.zeros((24, 36), bool)
    decode(
        pages_file((FULL, {}), (mask, {"subfiletype": MASK, "photometric": 4}), (FULL, {})),
        name="it",
    )
    assert caplog.messages == ["it: read without its mask, the other pages"]


MOSAIC = noise(24, 36, 1, 16)[..., 0]
FILTERS = {"photometric": 32803, "extratags": [(33421, 3, 2, (2, 2), True)]}
RAWS = {
    "dng": [
        (SMALL, {"subfiletype": 1, "subifds": 1, "extratags": [(50706, 1, 4, (1, 4, 0, 0), True)]}),
        (MOSAIC, FILTERS),
    ],
    "dng that is linear": [(FULL, {"extratags": [(50706, 1, 4, (1, 4, 0, 0), True)]})],
    "nef": [(SMALL, {"subfiletype": 1, "subifds": 1}), (MOSAIC, FILTERS)],
    "pef": [(MOSAIC, FILTERS), (SMALL, {})],
    "linear raw": [(SMALL, {"subifds": 1}), (FULL, {"photometric": 34892})],
}


@pytest.mark.parametrize("pages", RAWS.values(), ids=RAWS)
@pytest.mark.parametrize("name", ["a.dng", "a.tif", "a.jpg"])
def test_a_raw_photograph_is_not_its_preview(pages, name):
    assert still_in(pages_file(*pages), name).name == "RAW"


def test_a_tiff_with_the_suffix_of_a_camera_is_a_raw_photograph():
    assert still_in(tiff_file(SMALL), "a.NEF").name == "RAW"


def test_pages_that_point_at_each_other_end():
    data = bytearray(pages_file((FULL, {}), (FULL, {})))
    first = exif.first_directory(bytes(data))
    second = exif.read_directory(bytes(data), first.following, first.order)
    struct.pack_into("<I", data, second.following_at, struct.unpack_from("<I", data, 4)[0])
    np.testing.assert_allclose(levels_of(bytes(data)), FULL, atol=0.01)


def test_what_libtiff_says_never_reaches_stderr(capfd):
    lzw = tiff_file(noise(32, 32, 3), compression="lzw")
    log_luv = lzw.replace(
        struct.pack("<HHIH", 259, 3, 1, 5), struct.pack("<HHIH", 259, 3, 1, 34676)
    )
    with pytest.raises(UnreadableImage):
        decode(log_luv, name="it")
    assert capfd.readouterr().err == ""


def test_a_tiff_whose_jpeg_is_too_short_for_its_size_is_refused_unread():
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, noise(32, 32, 3), photometric="rgb", compression="jpeg")
    data = bytearray(buffer.getvalue())
    page = exif.first_directory(bytes(data))
    for tag in (256, 257):  # width and height
        entry = page.entries[tag]
        struct.pack_into("<" + exif.CODES[entry.type], data, entry.at, 20_000)
    with pytest.raises(UnreadableImage, match="cannot hold 20000 x 20000 pixels"):
        decode(bytes(data), name="it")


def test_what_is_longer_than_4_gb_is_written_as_bigtiff(monkeypatch):
    monkeypatch.setattr(tiff, "BIG", 0)
    monkeypatch.setattr(quantize, "STRIP", 7 * 3)
    levels = noise(11, 7, 3, 16)
    described = Metadata(exif=camera_exif()[6:], icc=icc_profile(), dpi=(300.0, 300.0))
    data = encode(image_of(levels, metadata=described), format="tiff")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert file.is_bigtiff
        np.testing.assert_array_equal(file.asarray(), levels)
        assert file.pages.first.tags["ExifTag"].value["DateTimeOriginal"] == "2024:05:06 07:08:09"
    again = decode(data, name="it").metadata
    assert (again.icc, again.dpi) == (described.icc, described.dpi)
