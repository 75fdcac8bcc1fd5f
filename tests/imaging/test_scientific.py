"""Light and measured values, whatever the format: in bands, without their packages, in commands."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from restore_cli.errors import MissingExtra, UnreadableImage, UsageError
from restore_cli.imaging.canvas import Canvas
from restore_cli.imaging.formats import format_of, format_of_new
from restore_cli.imaging.io import decode, decode_unreported, encode, encode_bands
from tests.imaging.images import noise
from tests.imaging.scientific import dicom_file, exr_file, fits_file, hdr_file, light

FILES = {
    "exr": exr_file(np.concatenate([light(90, 30), light(90, 30, 1, peak=1)], axis=-1)),
    "hdr": hdr_file(light(90, 30), size=b"+Y 90 +X 30"),
    "dicom": dicom_file(noise(90, 30, 1, 16)[..., 0], PixelPaddingValue=3),
    "fits": fits_file(np.where(light(90, 30) > 40, np.nan, light(90, 30))[..., 0]),
}
each_file = pytest.mark.parametrize("format", FILES)


@each_file
def test_bands_from_disk_to_disk_give_the_same_file(format, tmp_path):
    whole = decode(FILES[format], name="a")
    with Canvas(tmp_path) as canvas:
        image = decode_unreported(FILES[format], name="a", storage=canvas)
        assert torch.equal(image.planes.read(7, 70), whole.pixels[:, 7:70])
        bands = (image.rows(top, top + 30) for top in (0, 30, 60))
        file = io.BytesIO()
        encode_bands(image, bands, file, format=format, storage=canvas, record=lambda: None)
    assert file.getvalue() == encode(whole, format=format)


@each_file
def test_bands_without_metadata_of_their_own_are_written_alike(format):
    """An upscaler yields pixels and alpha alone."""
    whole = decode(FILES[format], name="a")
    bare = replace(whole, metadata=type(whole.metadata)())
    for target in (format, "png"):
        file = io.BytesIO()
        encode_bands(whole, (bare,), file, format=target)
        assert file.getvalue() == encode(whole, format=target)


@pytest.mark.parametrize(
    ("format", "extra"), [("exr", "exr"), ("dicom", "science"), ("fits", "science")]
)
def test_a_format_without_its_package_names_the_command(format, extra, monkeypatch):
    monkeypatch.setattr("restore_cli.imaging.formats.find_spec", lambda name: None)
    command = f"pip install 'restore-cli[{extra}]'"
    with pytest.raises(UnreadableImage, match="which needs the package") as caught:
        decode(FILES[format], name="a")
    assert caught.value.hint.startswith(command)
    suffix = {"dicom": "dcm"}.get(format, format)
    with pytest.raises(MissingExtra) as refused:
        format_of(Path(f"out.{suffix}"))
    assert refused.value.hint == command


@pytest.mark.parametrize("kind", ["fits", "dicom"])
def test_measured_values_are_compared_on_one_scale(kind):
    values = (light(20, 30)[..., 0] * 100).astype(np.int16)
    other = values.copy()
    other[3, 4] = 30_000
    make = {"fits": fits_file, "dicom": dicom_file}[kind]
    truth, image = (decode(make(each), name="a") for each in (values, other))
    assert (image.pixels - truth.pixels).abs().mean() > 0.01
    differs = (image.on_scale_of(truth).pixels - truth.pixels).abs() > 1e-6
    assert differs.sum() == 1


@pytest.mark.parametrize("name", ["out.fits", "out.dcm"])
def test_an_image_without_a_source_has_no_measured_values(name):
    with pytest.raises(UsageError, match="is written only from a source of that format"):
        format_of_new(Path(name))
    assert format_of_new(Path("out.exr")) == "exr"
