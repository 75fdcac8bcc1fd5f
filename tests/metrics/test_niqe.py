import json

import pytest
import torch
from skimage import data

from restore_cli.errors import ImageTooSmall
from restore_cli.metrics.niqe import niqe
from tests.cli.invoke import restore, rows

BASICSR = {"camera": 3.155215748805634, "coffee": 4.115241615372862, "chelsea": 2.6255243812915023}


def photograph(name):
    """(C, H, W) in [0, 1]."""
    pixels = torch.from_numpy(getattr(data, name)()).double() / 255
    return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1)


# BasicSR 1.4.2, calculate_niqe(image, 0), which gives what MATLAB does on its example.
@pytest.mark.parametrize("name", BASICSR)
def test_values_are_those_of_another_implementation(name):
    assert niqe(photograph(name)) == pytest.approx(BASICSR[name], rel=5e-4)


def test_a_block_of_one_colour_counts_as_in_the_other_implementation():
    flat = photograph("camera")
    flat[:, :100, :100] = 128 / 255
    flat[:, 50, 50] = 130 / 255  # products of neighbours have one sign there
    assert niqe(flat) == pytest.approx(3.129688401720155, rel=5e-4)


def test_noise_and_blur_raise_the_value():
    clean = photograph("chelsea")
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    noisy = [niqe((clean + sigma / 255 * noise).clamp(0, 1)) for sigma in (0, 10, 20, 40)]
    blurred = [
        niqe(torch.nn.functional.avg_pool2d(clean, size, 1, size // 2)) for size in (1, 3, 7)
    ]
    assert noisy == sorted(noisy)
    assert blurred == sorted(blurred)


def test_grey_and_three_equal_channels_have_one_value():
    grey = photograph("camera")
    assert niqe(grey) == pytest.approx(niqe(grey.expand(3, -1, -1)))


def test_an_image_without_texture_has_no_value():
    assert niqe(torch.full((3, 200, 200), 0.5)) is None


def test_a_side_below_two_blocks_is_refused():
    with pytest.raises(ImageTooSmall):
        niqe(torch.rand(3, 191, 300))


@pytest.fixture
def photographs(tmp_path):
    """A folder of a photograph, one that is too small, and a file that is no image."""
    from restore_cli import write_image
    from restore_cli.imaging.image import Image

    for name, size in (("large", 300), ("sub/small", 100)):
        image = Image(photograph("chelsea")[:, :size, :size].float())
        write_image(image, tmp_path / "photos" / f"{name}.png")
    return tmp_path / "photos"


def test_a_folder_is_measured_without_references(photographs):
    result = restore("eval", photographs, "--metric", "niqe", "--json")
    assert result.exit_code == 0, result.stderr
    large, small, means = rows(result)
    assert large["restored"] == str(photographs / "large.png")
    assert large["niqe"] == means["niqe"] > 1
    assert small["niqe"] is None
    assert {row["reference"] for row in rows(result)} == {None}
    assert {row["psnr"] for row in rows(result)} == {None}
    assert (means["images"], means["failed"]) == (2, 0)


def test_one_image_gives_one_line_without_reference(photographs):
    path = photographs / "large.png"
    result = restore("eval", path, "--metric", "niqe")
    assert result.stdout == f"{path}  NIQE {niqe(photograph('chelsea')[:, :300, :300]):.4f}\n"


def test_a_file_that_fails_is_counted(photographs):
    (photographs / "broken.png").write_bytes(b"no image")
    result = restore("eval", photographs, "--metric", "niqe", "--json")
    assert result.exit_code == 6
    assert rows(result)[-1]["failed"] == 1
    assert "broken.png" in result.stderr


@pytest.mark.parametrize("options", [(), ("--metric", "lpips,niqe"), ("--metric", "vif")])
def test_metrics_that_compare_are_refused_without_reference(photographs, options):
    result = restore("eval", photographs, *options)
    assert result.exit_code == 2
    assert "without a reference" in result.stderr


def test_a_pair_has_the_value_of_the_restored_image(photographs):
    path = photographs / "large.png"
    alone = restore("eval", path, "--metric", "niqe", "--json")
    paired = restore("eval", path, path, "--metric", "niqe", "--json")
    assert rows(paired)[0]["niqe"] == rows(alone)[0]["niqe"]
    assert rows(paired)[0]["psnr"] == "inf"
    assert json.loads(paired.stdout.splitlines()[-1])["pairs"] == 1
