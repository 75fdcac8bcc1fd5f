"""Pairs of test sets, wherever and however they lie."""

import numpy as np
import pytest
from PIL import Image

from restore_cli.data.public_sets import SETS, find_set
from restore_cli.data.sets import folder_pairs, load_pair, public_pairs
from restore_cli.errors import InputError, NothingToDo, UsageError


def put(folder, *names, size=(8, 6)):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (100, 120, 140)).save(path)


def names_of(pairs):
    return [(pair.degraded.name, pair.clean.name) for pair in pairs.pairs]


@pytest.mark.parametrize(
    ("degraded", "clean", "task"),
    [
        ("noisy", "clean", "denoise"),
        ("low", "high", "enhance"),
        ("rainy", "clean", "derain"),
        ("noisy25", "original", "denoise"),
    ],
)
def test_the_names_of_two_folders_say_what_is_done(tmp_path, degraded, clean, task):
    put(tmp_path, f"{degraded}/a.png", f"{clean}/a.png")
    (pairs,) = folder_pairs(tmp_path)
    assert (pairs.task, pairs.scale, names_of(pairs)) == (task, 1, [("a.png", "a.png")])


def test_the_task_of_input_and_target_has_to_be_named(tmp_path):
    put(tmp_path, "input/a.png", "target/a.jpg")
    with pytest.raises(UsageError, match="task of input/ and target/ is not known"):
        folder_pairs(tmp_path)
    (pairs,) = folder_pairs(tmp_path, "derain")
    assert (pairs.task, names_of(pairs)) == ("derain", [("a.png", "a.jpg")])


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ("x2/LR/img_1_SRF_2_LR.png", "x2/HR/img_1_SRF_2_HR.png"),
        ("LR_x2/0801x2.png", "HR/0801.png"),
        ("LR/a.png", "HR/a.png"),
        ("input/a.png", "target/a.png"),
    ],
)
def test_truths_of_twice_the_size_are_for_upscaling(tmp_path, low, high):
    put(tmp_path, low, size=(8, 6))
    put(tmp_path, high, size=(16, 12))
    (pairs,) = folder_pairs(tmp_path)
    assert (pairs.task, pairs.scale, pairs.protocol) == ("upscale", 2, "sr_x2")


def test_sizes_that_do_not_fit_are_refused(tmp_path):
    put(tmp_path, "LR/a.png", size=(8, 6))
    put(tmp_path, "HR/a.png", size=(17, 12))
    with pytest.raises(InputError, match="17x12"):
        folder_pairs(tmp_path)


def test_an_image_without_a_counterpart_is_left_out_and_named(tmp_path, caplog):
    put(tmp_path, "low/a.png", "low/b.png", "high/a.png")
    (pairs,) = folder_pairs(tmp_path)
    assert len(pairs.pairs) == 1
    assert "b.png has no counterpart" in caplog.text


def test_a_folder_without_pairs_says_what_it_should_hold(tmp_path):
    put(tmp_path, "a.png")
    with pytest.raises(NothingToDo) as caught:
        folder_pairs(tmp_path)
    assert "input/ target/" in caught.value.hint


def test_a_public_set_has_its_parts(tmp_path):
    names = ("rain100l-005.png", "irr-01.png")
    put(tmp_path, *(f"derain-test/{side}/{name}" for side in ("input", "target") for name in names))
    (pairs,) = public_pairs(SETS["derain-test"], tmp_path)
    assert [pair.part for pair in pairs.pairs] == ["irr", "rain100l"]
    assert pairs.protocol == "y_float"


def test_a_part_of_a_public_set_can_be_had_alone(tmp_path):
    names = ("rain100l-005.png", "irr-01.png")
    put(tmp_path, *(f"derain-test/{side}/{name}" for side in ("input", "target") for name in names))
    known, part = find_set("rain100l")
    (pairs,) = public_pairs(known, tmp_path, part)
    assert (pairs.name, names_of(pairs)) == (
        "derain-test/rain100l",
        [("rain100l-005.png", "rain100l-005.png")],
    )
    with pytest.raises(NothingToDo, match="no pairs of rain100h"):
        public_pairs(known, tmp_path, "rain100h")


def test_a_public_set_has_all_its_scales(tmp_path):
    put(tmp_path, *(f"set5/x{n}/{side}/a_{side}.png" for n in (2, 4) for side in ("LR", "HR")))
    assert [pairs.scale for pairs in public_pairs(SETS["set5"], tmp_path)] == [2, 4]


@pytest.mark.parametrize("name", SETS)
def test_a_set_that_is_not_there_says_where_it_comes_from(tmp_path, name):
    with pytest.raises(NothingToDo) as caught:
        public_pairs(SETS[name], tmp_path)
    assert SETS[name].source in caught.value.hint
    assert SETS[name].layout in caught.value.hint


def test_clean_images_get_the_same_noise_each_time(tmp_path):
    put(tmp_path, "kodak/kodim01.png", size=(64, 64))
    (pairs,) = public_pairs(SETS["kodak"], tmp_path)
    noisy, clean = load_pair(pairs, 0)
    assert float((noisy - clean).std() * 255) == pytest.approx(25, rel=0.05)
    assert np.array_equal(noisy, load_pair(pairs, 0)[0])
