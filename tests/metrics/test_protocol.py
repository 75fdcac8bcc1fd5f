import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from restore_cli.errors import ImageTooSmall, InputError
from restore_cli.imaging.colour import luma, quantize
from restore_cli.imaging.io import read
from restore_cli.imaging.resize import resize_matlab
from restore_cli.metrics import PROTOCOLS, Scores, measure, psnr, ssim

SHARED = Path(__file__).parents[3] / "shared"
GOLDEN = SHARED / "golden" / "metrics"
EXPECTED = GOLDEN / "expected.json"
CASES = json.loads(EXPECTED.read_text())["cases"] if EXPECTED.exists() else []
NO_MS_SSIM = {"numpy_wang2003_symmetric_pool": None}

golden_cases = pytest.mark.parametrize("case", CASES, ids=[case["ref"] for case in CASES])


def levels(*shape):
    """An image of random 8-bit levels."""
    return torch.randint(256, shape) / 255


def golden_scores(case, name, **changes):
    protocol = replace(PROTOCOLS[name], **changes)
    return measure(read(GOLDEN / case["test"]).pixels, read(GOLDEN / case["ref"]).pixels, protocol)


@golden_cases
def test_rgb_gives_the_recorded_numbers(case):
    scores, expected = golden_scores(case, "rgb"), case["metrics"]
    assert scores.psnr == pytest.approx(expected["psnr_rgb"]["numpy"], abs=1e-3)
    assert scores.ssim == pytest.approx(expected["ssim_rgb_gaussian11"]["skimage"], abs=1e-4)


@golden_cases
def test_y_gives_the_recorded_numbers(case):
    scores, expected = golden_scores(case, "y"), case["metrics"]
    multi = expected.get("ms_ssim_y", NO_MS_SSIM)["numpy_wang2003_symmetric_pool"]
    assert scores.psnr == pytest.approx(expected["psnr_y_bt601_uint8"]["numpy"], abs=1e-3)
    assert scores.ssim == pytest.approx(expected["ssim_y_gaussian11"]["skimage"], abs=1e-4)
    assert scores.ms_ssim == (None if multi is None else pytest.approx(multi, abs=1e-4))


@golden_cases
def test_a_cut_border_gives_the_recorded_psnr(case):
    scores = golden_scores(case, "y", border=case["border_for_cropped_psnr"])
    expected = case["metrics"]["psnr_y_bt601_uint8"]["numpy_border_cropped"]
    assert scores.psnr == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if not any(side % 16 for side in case["size_hw"])],
    ids=lambda case: case["ref"],
)
def test_ms_ssim_of_rgb_is_the_recorded_one_on_multiples_of_16(case):
    expected = case["metrics"]["ms_ssim_rgb"]["pytorch_msssim"]
    assert golden_scores(case, "rgb").ms_ssim == pytest.approx(expected, abs=1e-4)


@pytest.mark.skipif(not (SHARED / "data").exists(), reason="needs the test images")
@pytest.mark.parametrize(
    ("scale", "published"), [(2, 33.64), (3, 30.39), (4, 28.42)], ids=["x2", "x3", "x4"]
)
def test_bicubic_reaches_its_published_psnr_on_set5(scale, published):
    def bicubic_psnr(path):
        hr = read(path).pixels
        lr = read(path.parent.parent / "LR" / path.name.replace("_HR", "_LR")).pixels
        upscaled = resize_matlab(lr, *hr.shape[-2:], rounding="uint8")
        return measure(upscaled, hr, PROTOCOLS[f"sr_x{scale}"]).psnr

    scores = [bicubic_psnr(path) for path in (SHARED / f"data/set5/x{scale}/HR").iterdir()]
    assert sum(scores) / 5 == pytest.approx(published, abs=0.02)


@pytest.mark.parametrize("name", ["rgb", "y", "y_float"])
def test_eight_bit_protocols_round_before_they_compare(name):
    x, y = levels(3, 20, 30), levels(3, 20, 30)
    assert measure(x + 0.4 / 255, y, PROTOCOLS[name]) == measure(x, y, PROTOCOLS[name])


def test_rgb_float_sees_less_than_a_level():
    y = torch.full((3, 20, 30), 0.5, dtype=torch.float64)
    assert measure(y + 1e-4, y, PROTOCOLS["rgb_float"]).psnr == pytest.approx(80)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_values_outside_the_range_are_clamped(name):
    x, y = levels(3, 20, 30), levels(3, 20, 30)
    x[:, 10], y[:, 15] = 1, 0
    beyond = x.clone()
    beyond[:, 10] = 1.7
    assert measure(beyond, y, PROTOCOLS[name]) == measure(x, y, PROTOCOLS[name])


def test_y_rounds_luma_and_y_float_does_not():
    x, y = (quantize(levels(3, 20, 30).double()) for _ in range(2))
    rounded = psnr(quantize(luma(x)), quantize(luma(y))).item()
    exact = psnr(luma(x), luma(y)).item()
    assert measure(x, y, PROTOCOLS["y"]).psnr == pytest.approx(rounded, abs=1e-9)
    assert measure(x, y, PROTOCOLS["y_float"]).psnr == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_super_resolution_cuts_as_many_pixels_as_the_scale(scale):
    x, y = levels(3, 30, 25), levels(3, 30, 25)
    inner = (..., slice(scale, -scale), slice(scale, -scale))
    cut = measure(x[inner], y[inner], PROTOCOLS["y"])
    assert measure(x, y, PROTOCOLS[f"sr_x{scale}"]) == cut


@pytest.mark.parametrize("name", PROTOCOLS)
def test_gray_against_rgb_counts_as_three_equal_channels(name):
    gray, rgb = levels(1, 20, 30), levels(3, 20, 30)
    expected = measure(gray.expand(3, -1, -1), rgb, PROTOCOLS[name])
    assert measure(gray, rgb, PROTOCOLS[name]) == expected
    assert measure(rgb, gray, PROTOCOLS[name]) == expected


def test_identical_images_are_infinitely_good():
    x = levels(3, 170, 161)
    scores = measure(x, x, PROTOCOLS["rgb"])
    assert scores == Scores(math.inf, pytest.approx(1), pytest.approx(1))


@pytest.mark.parametrize(
    ("size", "has"),
    [
        ((1, 1), (False, False)),
        ((10, 200), (False, False)),
        ((11, 11), (True, False)),
        ((160, 300), (True, False)),
        ((161, 161), (True, True)),
    ],
    ids=str,
)
def test_small_images_have_only_the_metrics_that_fit(size, has):
    scores = measure(levels(3, *size), levels(3, *size), PROTOCOLS["rgb"])
    assert math.isfinite(scores.psnr)
    assert (scores.ssim is not None, scores.ms_ssim is not None) == has


def test_ssim_is_computed_in_float64():
    x, y = levels(3, 40, 50), levels(3, 40, 50)
    exact = ssim(quantize(x.double()), quantize(y.double())).item()
    assert measure(x, y, PROTOCOLS["rgb"]).ssim == exact


def test_different_sizes_are_refused_with_both():
    with pytest.raises(InputError, match=r"30x20, its reference 20x30"):
        measure(levels(3, 20, 30), levels(3, 30, 20), PROTOCOLS["rgb"])


def test_a_border_that_leaves_nothing_is_refused():
    with pytest.raises(ImageTooSmall, match="4 px"):
        measure(levels(3, 8, 20), levels(3, 8, 20), PROTOCOLS["sr_x4"])
