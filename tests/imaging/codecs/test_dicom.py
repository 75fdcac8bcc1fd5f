"""DICOM: values as stored and the dataset; results are derived images."""

import io
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from restore_cli.errors import ImageTooLarge, OutputError, UnreadableImage
from restore_cli.imaging.codecs import dicom
from restore_cli.imaging.io import decode, encode
from tests.imaging.images import image_of, noise
from tests.imaging.scientific import dicom_file

UNTOUCHED = ("PatientName", "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth")


def scan(kind="i2", height=21, width=17):
    return np.random.default_rng(0).integers(0, 120, (height, width)).astype(kind)


def enlarged(image, factor):
    def repeated(x):
        return x.repeat_interleave(factor, 1).repeat_interleave(factor, 2)

    alpha = None if image.alpha is None else repeated(image.alpha)
    return replace(image, pixels=repeated(image.pixels), alpha=alpha)


def read(data):
    return pydicom.dcmread(io.BytesIO(data))


@pytest.mark.parametrize("colours", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4"])
def test_values_and_dataset_come_back(kind, colours):
    values = scan(kind) - (1000 if kind[0] == "i" else 0)
    data = dicom_file(values.astype(kind), PhotometricInterpretation=colours)
    image = decode(data, name="a.dcm")
    darkest = (
        0 if colours == "MONOCHROME2" else 1,
        image.pixels[0].numpy()[values == values.min()],
    )
    assert (darkest[1] == darkest[0]).all()
    assert (image.pixels.min(), image.pixels.max(), image.bit_depth) == (0, 1, 16)
    before, after = read(data), read(encode(image, format="dicom"))
    np.testing.assert_array_equal(after.pixel_array, values)
    assert [after.get(name) for name in UNTOUCHED] == [before.get(name) for name in UNTOUCHED]
    assert after.PhotometricInterpretation == colours
    assert after.PixelSpacing == [0.5, 0.25]


def test_a_result_is_a_derived_image_with_an_identifier_of_its_own():
    data = dicom_file(scan())
    image = decode(data, name="a.dcm")
    before, after = read(data), read(encode(image, format="dicom"))
    assert after.ImageType == ["DERIVED", "PRIMARY", "AXIAL"]
    assert after.SOPInstanceUID != before.SOPInstanceUID
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
    assert after.SourceImageSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID
    assert read(encode(image, format="dicom")).SOPInstanceUID == after.SOPInstanceUID
    darker = image.with_pixels(image.pixels / 2)
    assert read(encode(darker, format="dicom")).SOPInstanceUID != after.SOPInstanceUID


def test_the_spacing_of_pixels_follows_the_size():
    image = enlarged(decode(dicom_file(scan()), name="a.dcm"), 2)
    found = read(encode(image, format="dicom"))
    assert (found.Rows, found.Columns, found.PixelSpacing) == (42, 34, [0.25, 0.125])


def test_padding_is_transparent_and_stays():
    values = scan()
    values[:4] = -2000
    image = decode(dicom_file(values, PixelPaddingValue=-2000), name="a.dcm")
    assert image.alpha is not None
    assert image.pixels[0, 5:].max() == 1  # the range is that of the scan
    np.testing.assert_array_equal(read(encode(image, format="dicom")).pixel_array, values)


def test_a_preamble_that_is_a_tiff_does_not_make_it_one():
    image = decode(dicom_file(scan(), preamble=b"II*\0" + bytes(124)), name="a.dcm")
    assert read(encode(image, format="dicom")).preamble == bytes(128)


def test_compressed_values_are_decoded_and_written_uncompressed():
    dataset = read(dicom_file(scan()))
    dataset.compress(RLELossless)
    file = io.BytesIO()
    dataset.save_as(file)
    found = read(encode(decode(file.getvalue(), name="a.dcm"), format="dicom"))
    assert not found.file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(found.pixel_array, scan())


def test_a_compression_without_decoder_is_named_in_one_line(monkeypatch, capfd):
    dataset = read(dicom_file(scan()))
    dataset.compress(RLELossless)
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    file = io.BytesIO()
    dataset.save_as(file)
    with pytest.raises(UnreadableImage, match="compressed by JPEG-LS Lossless") as caught:
        decode(file.getvalue(), name="a.dcm")
    assert "pip install pylibjpeg" in caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_claims_and_bombs_cost_nothing(monkeypatch):
    dataset = read(dicom_file(scan()))
    dataset.compress(RLELossless)
    dataset.Rows = dataset.Columns = 20_000
    file = io.BytesIO()
    dataset.save_as(file)
    with pytest.raises(UnreadableImage, match="its pixels are cut off"):
        decode(file.getvalue(), name="a.dcm")
    dataset = read(dicom_file(scan()))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    file = io.BytesIO()
    dataset.save_as(file)
    assert decode(file.getvalue(), name="a.dcm").pixels.shape == (1, 21, 17)
    monkeypatch.setattr(dicom, "LONGEST", 600)
    with pytest.raises(ImageTooLarge, match="a deflated DICOM file of more than 600 bytes"):
        decode(file.getvalue(), name="a.dcm")


def test_overlays_are_named_and_left_out(caplog):
    dataset = read(dicom_file(scan()))
    dataset.add_new((0x6000, 0x0010), "US", 21)
    dataset.add_new((0x6000, 0x3000), "OW", bytes(46))
    file = io.BytesIO()
    dataset.save_as(file)
    image = decode(file.getvalue(), name="a.dcm")
    assert caplog.messages == ["a.dcm: read without its overlays"]
    assert not read(encode(image, format="dicom")).group_dataset(0x6000)


@pytest.mark.parametrize(
    ("values", "elements", "said"),
    [
        (np.zeros((3, 4, 5), "u2"), {"NumberOfFrames": 3}, "of 3 frames"),
        (scan(), {"PhotometricInterpretation": "PALETTE COLOR"}, r"in colours \(PALETTE COLOR\)"),
        (scan("u1"), {"BitsAllocated": 1}, "of 1 bits"),
    ],
    ids=["frames", "palette", "bitmap"],
)
def test_what_is_no_grey_image_is_refused_by_name(values, elements, said):
    with pytest.raises(UnreadableImage, match=f"a DICOM file {said}"):
        decode(dicom_file(values, **elements), name="a.dcm")


def test_a_report_is_refused_by_name():
    dataset = read(dicom_file(scan()))
    del dataset.PixelData
    file = io.BytesIO()
    dataset.save_as(file)
    with pytest.raises(UnreadableImage, match="a DICOM file without an image"):
        decode(file.getvalue(), name="a.dcm")


def test_dicom_is_written_only_from_dicom():
    with pytest.raises(OutputError, match="cannot become DICOM"):
        encode(image_of(noise(4, 4, 1)), format="dicom")


def test_a_png_of_a_scan_has_its_whole_range(caplog):
    image = decode(encode(decode(dicom_file(scan()), name="a.dcm"), format="png"), name="a.png")
    assert caplog.messages == ["the image: written without its header (DICOM)"]
    assert (image.bit_depth, image.pixels.min(), image.pixels.max()) == (16, 0, 1)
