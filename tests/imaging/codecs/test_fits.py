"""FITS: values as stored, blanks, header and coordinates."""

import io
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from restore_cli.errors import ImageTooLarge, OutputError, UnreadableImage
from restore_cli.imaging.headers import inspect
from restore_cli.imaging.io import decode, encode
from tests.imaging.images import image_of, noise
from tests.imaging.scientific import fits_contents, fits_file


def sky(kind="f4", height=25, width=33):
    values = np.random.default_rng(0).normal(120, 10, (height, width))
    values[5, 6] = 250 if kind == "u1" else 30_000
    return values.astype(kind)


def enlarged(image, factor):
    def repeated(x):
        return x.repeat_interleave(factor, 1).repeat_interleave(factor, 2)

    alpha = None if image.alpha is None else repeated(image.alpha)
    return replace(image, pixels=repeated(image.pixels), alpha=alpha)


@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_values_come_back_in_their_type(kind):
    data = fits_file(sky(kind))
    image = decode(data, name="a.fits")
    assert (image.bit_depth, image.pixels.shape, image.alpha) == (16, (1, 25, 33), None)
    before, wanted = fits_contents(data)
    after, found = fits_contents(encode(image, format="fits"))
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-4)
    assert [after.get(name) for name in ("BSCALE", "BZERO")] == [
        before.get(name) for name in ("BSCALE", "BZERO")
    ]


def test_the_first_row_is_the_lowest():
    values = sky()
    values[0] = 200
    image = decode(fits_file(values), name="a.fits")
    assert image.pixels[0, -1].min() > 0.2
    assert image.pixels[0, 0].min() < image.pixels[0, -1].min()


@pytest.mark.parametrize("kind", ["f4", "f8", "i2", "i4"])
def test_blanks_are_transparent_and_stay_blank(kind, caplog):
    values, holes = sky(kind), np.zeros((25, 33), bool)
    holes[:3, :4] = holes[20, 30] = True
    blank = None if kind[0] == "f" else -32768
    values[holes] = np.nan if blank is None else blank
    image = decode(fits_file(values, blank=blank), name="a.fits")
    assert image.alpha is not None
    assert np.array_equal(image.alpha[0].numpy()[::-1] == 0, holes)
    _, found = fits_contents(encode(image, format="fits"))
    assert np.array_equal(np.isnan(found) if blank is None else found == blank, holes)
    np.testing.assert_allclose(found[~holes], values[~holes], rtol=1e-6, atol=1e-4)
    assert not caplog.messages


def test_the_header_is_kept_and_its_coordinates_follow_the_size():
    cards = [
        ("OBJECT", "M31", "a galaxy"),
        ("HISTORY", "flat-fielded"),
        ("HISTORY", "calibrated"),
        ("CTYPE1", "RA---TAN-SIP"),
        ("CRPIX1", 10.5),
        ("CRPIX2", 1.0),
        ("CD1_1", 0.4),
        ("CD2_1", -0.2),
        ("CDELT2", 0.6),
        ("A_ORDER", 2),
        ("A_0_2", 1e-6),
    ]
    image = decode(fits_file(sky(), *cards, checksum=True), name="a.fits")
    same, _ = fits_contents(encode(image, format="fits"))
    for name, value, *_ in cards:
        assert name == "HISTORY" or same[name] == value
    assert [*same["HISTORY"]] == ["flat-fielded", "calibrated"]
    assert same.comments["OBJECT"] == "a galaxy"
    assert "CHECKSUM" in same  # and it is true: astropy warns of others
    large, values = fits_contents(encode(enlarged(image, 2), format="fits"))
    assert values.shape == (50, 66)
    assert [large[name] for name in ("CRPIX1", "CRPIX2")] == [20.5, 1.5]
    assert [large[name] for name in ("CD1_1", "CD2_1", "CDELT2")] == [0.2, -0.1, 0.3]
    assert (large["CTYPE1"], "A_ORDER" in large, "A_0_2" in large) == ("RA---TAN", False, False)


def test_an_image_in_an_extension_stays_in_one():
    data = fits_file(sky(), ("EXTNAME", "SCI"), extension=True)
    image = decode(data, name="a.fits")
    with_extension = encode(image, format="fits")
    header, values = fits_contents(with_extension, 1)
    assert header["EXTNAME"] == "SCI"
    np.testing.assert_allclose(values, sky(), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("kind", ["i2", "u2"])
def test_a_compressed_image_is_written_uncompressed(kind, caplog):
    packed = fits.CompImageHDU(sky(kind))
    file = io.BytesIO()
    packed.writeto(file)
    data = encode(decode(file.getvalue(), name="a.fits"), format="fits")
    assert caplog.messages == ["a.fits: read without its compression"]
    with fits.open(io.BytesIO(data)) as opened:
        assert np.array_equal(opened[1].data, sky(kind))


def test_other_images_are_named(caplog):
    one = fits.PrimaryHDU(sky())
    file = io.BytesIO()
    fits.HDUList([one, fits.ImageHDU(sky())]).writeto(file)
    decode(file.getvalue(), name="a.fits")
    assert caplog.messages == ["a.fits: read without the other images and tables"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((3, 4, 5), np.float32), "a FITS cube of 3 planes"),
        (np.zeros(9, np.float32), "a FITS file without an image"),
        (np.zeros((4, 5), np.int64), "a FITS image of 64 bits"),
        (np.full((4, 5), np.nan, np.float32), "a FITS image without a value"),
    ],
    ids=["cube", "line", "int64", "blank"],
)
def test_what_is_no_grey_plane_is_refused_by_name(values, said):
    with pytest.raises(UnreadableImage, match=said):
        decode(fits_file(values), name="a.fits")


def test_a_cube_of_one_plane_is_an_image():
    assert decode(fits_file(sky()[None, None]), name="a.fits").pixels.shape == (1, 25, 33)


def test_claims_of_the_header_cost_nothing():
    data = fits_file(sky())
    with pytest.raises(UnreadableImage, match="cannot hold 20000 x 20000"):
        inspect(claiming(data, 20_000), name="a.fits")
    with pytest.raises(ImageTooLarge):
        inspect(claiming(data, 99_999), name="a.fits")


def claiming(data, side):
    for axis, length in ((b"NAXIS1", 33), (b"NAXIS2", 25)):
        data = data.replace(b"%-8s= %20d" % (axis, length), b"%-8s= %20d" % (axis, side))
    return data


def test_fits_is_written_only_from_fits():
    with pytest.raises(OutputError, match="cannot become FITS"):
        encode(image_of(noise(4, 4, 1)), format="fits")
