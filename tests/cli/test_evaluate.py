import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from restore_cli.metrics import PROTOCOLS
from tests.cli.invoke import restore, rows

evaluate = partial(restore, "eval")


@pytest.fixture
def images(tmp_path):
    """Writes images of random levels at the given paths; the same seed, the same image."""

    def write(*names, seed=0, size=(20, 30)):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            levels = np.random.default_rng(seed).integers(256, size=(*size, 3), dtype=np.uint8)
            Image.fromarray(levels).save(path)
        return tmp_path / names[0]

    return write


def pairs(result):
    """(restored, reference) file names of each measured pair."""
    names = [(row["restored"], row["reference"]) for row in rows(result)[:-1]]
    return [tuple(Path(name).name for name in pair) for pair in names]


def test_two_files_give_one_line(images):
    restored, reference = images("a.png", seed=1), images("b.png", seed=2)
    result = evaluate(restored, reference)
    assert result.exit_code == 0, result.stderr
    levels = [np.asarray(Image.open(path)) for path in (restored, reference)]
    db = peak_signal_noise_ratio(*levels, data_range=255)
    assert result.stdout.startswith(f"{restored}  PSNR {db:.2f} dB  SSIM ")
    assert result.stdout.endswith("  MS-SSIM -  (rgb)\n")
    assert result.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("alpha", "told"), [(255, False), (254, True)], ids=["opaque", "nearly opaque"]
)
def test_a_difference_in_alpha_is_told(alpha, told, images, tmp_path):
    opaque = images("a.png")
    with Image.open(opaque) as image:
        image.putalpha(alpha)
        image.save(tmp_path / "b.png")
    result = evaluate(tmp_path / "b.png", opaque)
    assert "PSNR inf dB" in result.stdout
    assert ("1 of 1 pairs differ in alpha, which is not measured" in result.stderr) == told


def test_json_has_a_line_a_pair_and_the_means(images, tmp_path):
    images("out/a.png", "out/b.png", "out/c.png", seed=1)
    images("clean/a.png", seed=2)
    images("clean/b.png", seed=3)
    images("clean/c.png", seed=1)
    result = evaluate(tmp_path / "out", tmp_path / "clean", "--json", "--protocol", "y")
    first, second, third, last = rows(result)
    assert result.exit_code == 0, result.stderr
    assert set(first) == {"restored", "reference", "protocol", "psnr", "ssim", "ms_ssim"}
    assert third["psnr"] == "inf"
    assert last == {
        "restored": None,
        "reference": None,
        "protocol": "y",
        "psnr": pytest.approx((first["psnr"] + second["psnr"]) / 2),
        "ssim": pytest.approx((first["ssim"] + second["ssim"] + third["ssim"]) / 3),
        "ms_ssim": None,
        "pairs": 3,
        "identical": 1,
        "failed": 0,
    }


def test_people_read_a_mean_and_what_it_leaves_out(images, tmp_path):
    images("out/a.png", "out/b.png", "clean/a.png", seed=1)
    images("clean/b.png", seed=2)
    result = evaluate(tmp_path / "out", tmp_path / "clean")
    assert result.stdout.splitlines()[-1].startswith("mean of 2  PSNR ")
    assert "1 of 2 pairs are identical" in result.stderr
    assert "2 of 2 pairs are too small for MS-SSIM" in result.stderr


def test_identical_folders_are_infinitely_good(images, tmp_path):
    images("out/a.png", "out/b.png")
    result = evaluate(tmp_path / "out", tmp_path / "out", "--json")
    assert [float(row["psnr"]) for row in rows(result)] == [math.inf] * 3


@pytest.mark.parametrize("name", PROTOCOLS)
def test_each_protocol_is_named_in_help_and_output(images, name):
    path = images("a.png")
    assert rows(evaluate(path, path, "--json", "--protocol", name))[0]["protocol"] == name
    assert name in evaluate("--help").stdout


@pytest.mark.parametrize(
    ("restored", "reference", "expected"),
    [
        (["a.png", "b.webp"], ["b.png", "a.bmp"], [("a.png", "a.bmp"), ("b.webp", "b.png")]),
        (["a_derained.png"], ["a.png"], [("a_derained.png", "a.png")]),
        (["in/ü.png"], ["in/ü.png", "ü.png"], [("ü.png", "ü.png")]),
        (["a.png", "a_derained.png"], ["a.png"], [("a.png", "a.png")]),
        (["a_denoised.png", "a_derained.png", "b.png"], ["a.png", "b.png"], [("b.png", "b.png")]),
        (["a_1.png", "b.png"], ["a.png", "b.png"], [("b.png", "b.png")]),
        (["a_derained.png"], ["a_derained.png", "a.png"], [("a_derained.png",) * 2]),
    ],
    ids=["suffix", "ending", "tree", "name_first", "two_claims", "other_ending", "same_ending"],
)
def test_images_are_paired_by_name(images, tmp_path, restored, reference, expected):
    images(*(f"out/{name}" for name in restored))
    images(*(f"clean/{name}" for name in reference))
    assert pairs(evaluate(tmp_path / "out", tmp_path / "clean", "--json")) == expected


def test_images_without_reference_are_reported(images, tmp_path):
    images("out/a.png", "out/b.png", "clean/a.png", "clean/c.png", "clean/.hidden.png")
    result = evaluate(tmp_path / "out", tmp_path / "clean", "--quiet")
    assert result.exit_code == 0
    assert f"{tmp_path / 'out' / 'b.png'}: no counterpart to compare with" in result.stderr
    assert f"{tmp_path / 'clean' / 'c.png'}: no counterpart to compare with" in result.stderr
    assert "hidden" not in result.stderr


def test_the_rest_of_a_folder_is_measured_when_some_fail(images, tmp_path):
    images("out/a.png", "out/b.png", "out/c.png", "clean/a.png", "clean/b.png", "clean/c.png")
    images("clean/a.png", size=(21, 30))
    (tmp_path / "out" / "b.png").write_text("no image")
    result = evaluate(tmp_path / "out", tmp_path / "clean", "--json")
    assert result.exit_code == 6
    assert pairs(result) == [("c.png", "c.png")]
    assert rows(result)[-1]["failed"] == 2
    assert f"{tmp_path / 'out' / 'a.png'}: the restored image is 30x20" in result.stderr
    assert f"{tmp_path / 'out' / 'b.png'}" in result.stderr


def test_a_folder_in_which_all_fail_has_no_means(images, tmp_path):
    images("out/a.png", "out/b.png")
    images("clean/a.png", "clean/b.png", size=(21, 30))
    result = evaluate(tmp_path / "out", tmp_path / "clean", "--json")
    assert result.exit_code == 6
    assert [row["psnr"] for row in rows(result)] == [None]


def test_a_single_pair_of_unlike_sizes_is_exit_3_with_both_sizes(images):
    result = evaluate(images("a.png"), images("b.png", size=(21, 31)))
    assert (result.exit_code, result.stdout) == (3, "")
    assert "30x20, its reference 31x21" in result.stderr


def test_a_single_missing_file_is_exit_3(images, tmp_path):
    result = evaluate(images("a.png"), tmp_path / "none.png")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "none.png: no such file or folder" in result.stderr


def test_folders_with_nothing_in_common_are_exit_3(images, tmp_path):
    images("out/a.png", "clean/b.png")
    result = evaluate(tmp_path / "out", tmp_path / "clean")
    assert (result.exit_code, result.stdout) == (3, "")


def test_one_name_with_two_suffixes_is_refused(images, tmp_path):
    images("out/a.png", "out/a.bmp", "clean/a.png")
    result = evaluate(tmp_path / "out", tmp_path / "clean")
    assert result.exit_code == 3
    assert "a.bmp" in result.stderr and "a.png" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [("out", "out/a.png"), ("out", "out", "--protocol", "full_range")],
    ids=["folder_and_file", "unknown_protocol"],
)
def test_wrong_usage_is_exit_2_with_a_hint(images, tmp_path, monkeypatch, arguments):
    images("out/a.png")
    monkeypatch.chdir(tmp_path)
    result = evaluate(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "hint: " in result.stderr


@pytest.mark.parametrize(
    ("protocol", "told"), [("rgb", True), ("rgb_float", False)], ids=["rounded", "float"]
)
def test_rounding_of_16_bit_images_is_reported(tmp_path, protocol, told):
    path = tmp_path / "deep.png"
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100).save(path)
    assert ("rounded to 8 bit" in evaluate(path, path, "--protocol", protocol).stderr) == told


def transparent(path, colours, alpha):
    levels = np.dstack([np.full((20, 30, 3), 90, np.uint8), np.full((20, 30), 255, np.uint8)])
    levels[5:9, 5:9] = [*colours, alpha]
    Image.fromarray(levels).save(path)
    return path


def test_colours_hidden_in_both_images_count_as_equal(tmp_path):
    red, green = ((200, 0, 0), 0), ((0, 200, 0), 0)
    paths = [transparent(tmp_path / f"{i}.png", *it) for i, it in enumerate([red, green])]
    assert rows(evaluate(*paths, "--json"))[0]["psnr"] == "inf"


def test_colours_hidden_in_one_image_count(tmp_path):
    red, green = ((200, 0, 0), 0), ((0, 200, 0), 1)
    paths = [transparent(tmp_path / f"{i}.png", *it) for i, it in enumerate([red, green])]
    assert rows(evaluate(*paths, "--json"))[0]["psnr"] < 30


def test_a_grey_image_with_hidden_pixels_is_compared_with_a_coloured_one(tmp_path):
    colour = transparent(tmp_path / "colour.png", (200, 0, 0), 0)
    grey = tmp_path / "grey.png"
    Image.open(colour).convert("LA").save(grey)
    assert rows(evaluate(grey, colour, "--json"))[0]["psnr"] == "inf"
    assert rows(evaluate(colour, grey, "--json"))[0]["psnr"] == "inf"


def test_an_image_without_a_reference_has_a_score(photo):
    result = restore("eval", photo, "--metric", "niqe", "--json")
    assert result.exit_code == 0, result.stderr
