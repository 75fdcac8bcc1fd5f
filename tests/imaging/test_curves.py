"""Curves between values and [0, 1]: invertible, onto [0, 1], and sRGB where they can be."""

import numpy as np
import pytest

from restore_cli.imaging.curves import AsinhCurve, LightCurve, RangeCurve, srgb_of

LIGHT = np.concatenate([[0], np.geomspace(1e-7, 60_000, 4001)]).astype(np.float32)


@pytest.mark.parametrize("peak", [2.0**-9, 0.5, 1, 2, 64, 65536])
def test_light_comes_back_from_its_curve(peak):
    curve = LightCurve(peak)
    light = LIGHT[peak >= LIGHT]
    unit = curve.to_unit(light)
    assert unit.dtype == np.float32
    assert (unit.min(), unit.max() <= 1) == (0, True)
    assert (np.diff(unit) > -1e-7).all()
    np.testing.assert_allclose(curve.from_unit(unit), light, rtol=4e-6, atol=1e-9)


def test_the_curve_reaches_one_at_its_peak_and_is_smooth_at_white():
    curve = LightCurve(64)
    assert curve.to_unit(np.float32([64]))[0] == pytest.approx(1)
    below, white, above = curve.to_unit(np.float32([0.99, 1, 1.01]))
    assert (white - below) / (above - white) == pytest.approx(1, abs=0.02)


def test_light_up_to_white_is_plain_srgb():
    light = np.linspace(0, 1, 101, dtype=np.float32)
    assert LightCurve.of(light) == LightCurve(1)
    np.testing.assert_array_equal(LightCurve(1).to_unit(light), srgb_of(light))
    assert LightCurve(1).to_unit(np.float32([0.5]))[0] == pytest.approx(0.735357, abs=1e-5)


@pytest.mark.parametrize(
    ("highest", "peak"), [(0, 1), (0.3, 0.5), (1, 1), (1.01, 2), (40, 64), (65504, 65536)]
)
def test_the_peak_is_the_next_power_of_two(highest, peak):
    assert LightCurve.of(np.float32([0, highest])).peak == peak


def test_a_display_clips_light_above_white():
    curve = LightCurve(8)
    shown = curve.displayed(curve.to_unit(np.float32([0, 0.5, 1, 5])))
    np.testing.assert_allclose(shown, [0, 0.735357, 1, 1], atol=1e-5)


@pytest.mark.parametrize("ends", [(-1024, 3071), (3071, -1024), (7, 7)], ids=str)
def test_a_range_comes_back_exactly(ends):
    values = np.arange(min(ends), max(ends) + 1)
    curve = RangeCurve(*ends)
    np.testing.assert_array_equal(np.rint(curve.from_unit(curve.to_unit(values))), values)


def test_stars_and_their_background_come_back():
    sky = np.random.default_rng(0).normal(300, 12, (50, 60))
    sky[10, 10], sky[0, 0] = 60_000, -500
    curve = AsinhCurve.of(sky)
    unit = curve.to_unit(sky)
    assert (unit.min(), unit.max()) == (0, 1)
    assert unit.std() > 0.01  # the noise is not lost beside the star
    np.testing.assert_allclose(curve.from_unit(unit), sky, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("values", [np.zeros((3, 3)), np.full((2, 2), -7.0)], ids=str)
def test_a_flat_image_has_a_stretch(values):
    curve = AsinhCurve.of(values)
    np.testing.assert_array_equal(curve.from_unit(curve.to_unit(values)), values)
