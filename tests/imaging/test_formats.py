"""Table of formats: each row is true of the files that are written and read."""

from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from typing import get_args

import pytest
import torch

from restore_cli.errors import UsageError
from restore_cli.imaging.codecs.metadata import outgoing_metadata
from restore_cli.imaging.formats import (
    CONTAINERS,
    ENCODINGS,
    MUXINGS,
    READABLE_SUFFIXES,
    STILLS,
    SUFFIX_OF,
    SUFFIXES,
    VIDEO_SUFFIXES,
    VIDEOS,
    Compress,
    Container,
    Format,
    container_of,
    format_of,
    has_efforts,
    is_container,
    is_lossy,
)
from restore_cli.imaging.image import Image, Metadata
from restore_cli.imaging.io import decode, encode
from tests.imaging.images import XMP, camera_exif, icc_profile

# DICOM and FITS need a source: their own tests show what they hold.
OF_ANY = {name: each for name, each in ENCODINGS.items() if each.values != "own"}
each_encoding = pytest.mark.parametrize("encoding", OF_ANY.values(), ids=OF_ANY)


def test_every_name_that_can_be_chosen_has_one_row():
    assert tuple(ENCODINGS) == get_args(Format)
    assert tuple(MUXINGS) == get_args(Container)


def test_no_suffix_belongs_to_two_formats():
    suffixes = [suffix for row in (*STILLS, *VIDEOS) for suffix in row.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert not READABLE_SUFFIXES & VIDEO_SUFFIXES


def test_every_codec_that_is_named_exists():
    named = [still.decode for still in STILLS]
    named += [encoding.encode for encoding in ENCODINGS.values()]
    assert all(callable(resolve_name(name)) for name in named)


@each_encoding
def test_a_written_file_has_the_suffix_and_the_signature_of_its_row(encoding):
    (row,) = [still for still in STILLS if still.encoding == encoding]
    assert encoding.suffix in row.suffixes
    data = encode(Image(torch.zeros(3, 4, 4)), format=encoding.format)
    assert data.startswith(row.signatures or b"")


@each_encoding
@pytest.mark.parametrize("held", ["alpha", "depth", "largest_icc", "largest_exif", "largest_xmp"])
def test_a_file_holds_exactly_what_its_row_states(held, encoding):
    metadata = Metadata(icc_profile(), camera_exif()[6:], XMP)
    sent = Image(torch.rand(3, 8, 8), torch.full((1, 8, 8), 0.5), 16, metadata)
    found = decode(encode(sent, format=encoding.format), name="it")
    stated = getattr(encoding, held)
    kept = {
        "alpha": found.alpha is not None,
        "depth": found.bit_depth,
        "largest_icc": found.metadata.icc is not None,
        "largest_exif": found.metadata.exif is not None,
        "largest_xmp": found.metadata.xmp is not None,
    }[held]
    assert kept == (stated if held in ("alpha", "depth") else stated != 0)


@each_encoding
def test_quality_changes_the_files_of_lossy_formats_alone(encoding):
    image = Image(torch.rand(3, 16, 16))
    files = [encode(image, format=encoding.format, quality=quality) for quality in (20, 90)]
    assert (files[0] != files[1]) == encoding.lossy == is_lossy(encoding.format)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("format", ["png", "tiff", "webp", "jxl"])
def test_smaller_files_have_the_same_pixels(format, depth):
    pattern = (4 * torch.rand(3, 128, 128)).floor() / 4
    image = Image(pattern, bit_depth=depth)
    files = [encode(image, format=format, compress=each) for each in get_args(Compress)]
    pixels = [decode(file, name="x").pixels for file in files]
    assert pixels[0].equal(pixels[1]) and pixels[0].equal(pixels[2])


@pytest.mark.parametrize("format", ["png", "tiff", "webp", "jxl"])
def test_small_makes_smaller_files_than_fast(format):
    image = Image((4 * torch.rand(3, 128, 128)).floor() / 4)
    small, fast = (encode(image, format=format, compress=each) for each in ("small", "fast"))
    assert len(small) < len(fast)


@each_encoding
def test_effort_changes_the_files_of_the_formats_that_state_it_alone(encoding):
    image = Image(torch.rand(3, 32, 32) ** 4)
    files = {encode(image, format=encoding.format, compress=each) for each in get_args(Compress)}
    assert (len(files) > 1) == has_efforts(encoding.format)


@pytest.mark.parametrize("held", ["icc", "exif", "xmp"])
def test_metadata_that_a_format_cannot_hold_is_dropped_and_named(held):
    sent = Metadata(icc_profile(), camera_exif()[6:], XMP)
    encoding = replace(ENCODINGS["webp"], **{f"largest_{held}": 0})
    found, lost = outgoing_metadata(Image(torch.zeros(3, 4, 4), metadata=sent), encoding)
    dropped = {part for part in ("icc", "exif", "xmp") if getattr(found, part) is None}
    assert dropped == {held}
    assert lost == [{"icc": "its ICC profile", "exif": "its EXIF", "xmp": "its XMP"}[held]]


@pytest.mark.parametrize(("suffix", "format"), [*SUFFIXES.items(), (".TIF", "tiff")])
def test_a_suffix_chooses_the_format(suffix, format):
    assert format_of(Path(f"a{suffix}")) == format
    assert not is_container(format)


@pytest.mark.parametrize(("suffix", "container"), [*CONTAINERS.items(), (".MKV", "mkv")])
def test_a_suffix_chooses_the_container(suffix, container):
    assert container_of(Path(f"a{suffix}")) == container
    assert is_container(container) and is_lossy(container)


@pytest.mark.parametrize(
    ("choose", "name", "message", "hint"),
    [
        (format_of, "a.bmp", "a.bmp: cannot write .bmp", ".png, .apng, .jpg, .jpeg"),
        (format_of, "a", "a: cannot write a file without suffix", ".png"),
        (container_of, "a.png", "a.png: a video cannot become .png", ".mp4, .m4v, .mov, .mkv"),
    ],
)
def test_a_suffix_without_encoder_is_refused(choose, name, message, hint):
    with pytest.raises(UsageError) as caught:
        choose(Path(name))
    assert caught.value.message == message
    assert caught.value.hint.startswith(f"one of: {hint}")


def test_the_suffix_of_a_format_chooses_that_format():
    assert {format: SUFFIXES[suffix] for format, suffix in SUFFIX_OF.items()} == {
        format: format for format in get_args(Format)
    }
