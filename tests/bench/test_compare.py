import pytest

from restore_cli.bench.compare import Tolerance, changes

ROW = {
    **{"task": "derain", "weights": "dpenet.default", "set": "rain", "scale": 1},
    **{"protocol": "y_float", "precision": "fp32", "images": 5, "failed": 0, "error": None},
    **{"psnr": 30.0, "ssim": 0.9, "ms_ssim": None, "seconds": 2.0, "peak_memory_mb": 500.0},
}
TOLERANCE = Tolerance(psnr=0.01, ssim=0.001, slower=None, memory=None)


def found(new, old=ROW, tolerance=TOLERANCE):
    return [(each.text, each.is_regression) for each in changes([old], new, tolerance)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"psnr": 29.98}, [("psnr 30.000 -> 29.980 (-0.020 dB)", True)]),
        ({"psnr": 29.995}, [("psnr 30.000 -> 29.995 (-0.005 dB)", False)]),
        ({"psnr": 31.0}, [("psnr 30.000 -> 31.000 (+1.000 dB)", False)]),
        ({"psnr": "inf"}, [("psnr 30.000 -> inf", False)]),
        ({"psnr": None}, [("psnr 30.000 -> none", True)]),
        ({"ssim": 0.89}, [("ssim 0.90000 -> 0.89000 (-0.01000)", True)]),
        ({"failed": 1}, [("failed images 0 -> 1", True)]),
        ({"images": 6}, [("images 5 -> 6", False)]),
        ({"error": {"message": "no memory"}}, [("failed: no memory", True)]),
        ({"seconds": 9.0, "peak_memory_mb": 900.0}, []),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, dict) else "",
)
def test_a_figure_that_became_worse_is_a_regression(change, expected):
    assert found([ROW | change]) == expected


def test_identical_images_that_no_longer_are_identical_are_a_regression():
    assert found([ROW], old=ROW | {"psnr": "inf"}) == [("psnr inf -> 30.000", True)]


def test_time_and_memory_are_compared_on_request():
    slower = Tolerance(psnr=0, ssim=0, slower=0.1, memory=0.1)
    new = ROW | {"seconds": 2.3, "peak_memory_mb": 540.0}
    assert found([new], tolerance=slower) == [
        ("seconds 2.000 -> 2.300 (+0.300 s)", True),
        ("peak_memory_mb 500 -> 540 (+40 MB)", False),
    ]


@pytest.mark.parametrize("field", ["task", "weights", "set", "scale", "protocol"])
def test_a_row_without_a_counterpart_is_a_regression(field):
    assert found([ROW | {field: "other"}]) == [("not measured", True)]


def test_a_row_that_failed_before_cannot_become_worse():
    failed = ROW | {"psnr": None, "error": {"message": "no memory"}}
    assert found([failed], old=failed) == [("failed: no memory", False)]
    assert found([ROW], old=failed) == []


def test_precisions_of_one_network_are_rows_of_their_own():
    old = ROW | {"times_plain": 1.0}
    assert found([old | {"precision": "bf16"}], old=old) == [("not measured", True)]
