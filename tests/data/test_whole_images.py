import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from restore_cli.data.degrade import unchanged
from restore_cli.data.pairs import load_photos
from restore_cli.data.whole_images import AT_NIGHT, WholeImages, is_normal
from restore_cli.errors import NothingToDo


def shades(height=40, width=60):
    """Dark on the left, bright on the right, uint8."""
    return torch.linspace(0, 255, width).expand(3, height, width).to(torch.uint8)


def crops(degrade=unchanged, size=(16, 24), length=200):
    return WholeImages([shades()], degrade, size=size, seed=0, length=length)


def test_a_view_has_the_size_asked_for_whatever_the_photograph_has():
    degraded, normal = crops()[0]
    assert degraded.shape == normal.shape == (3, 16, 24)


def test_a_view_shows_most_of_a_photograph():
    seen = [crops()[index][1] for index in range(20)]
    assert (
        min((normal.amax() - normal.amin()).item() for normal in seen) > 0.5
    )  # a crop as others train on would show a fifth


def test_the_same_seed_shows_the_same_view():
    for first, second in zip(crops()[7], crops()[7], strict=True):
        assert torch.equal(first, second)


def test_only_one_side_of_a_pair_is_degraded():
    degraded, normal = crops(lambda clean, generator: clean / 2)[3]
    assert_close(degraded, normal / 2)


def test_some_scenes_are_at_night():
    """Black in corners that a photograph has nothing black in."""
    grey = torch.full((3, 40, 60), 128, dtype=torch.uint8)
    seen = WholeImages([grey], unchanged, size=(16, 24), seed=1, length=400)
    night = sum(seen[i][1].amin() < 0.1 for i in range(400)) / 400
    assert night == pytest.approx(AT_NIGHT, abs=0.05)


@pytest.mark.parametrize(("level", "normal"), [(30, False), (120, True), (240, False)])
def test_targets_are_neither_dark_nor_washed_out(level, normal):
    assert is_normal(torch.full((3, 8, 8), level, dtype=torch.uint8)) == normal


def test_a_folder_of_unsuited_photographs_is_refused(tmp_path):
    for index in range(9):
        Image.new("RGB", (20, 20)).save(tmp_path / f"{index}.png")
    with pytest.raises(NothingToDo, match="too few of 9 photographs"):
        load_photos(tmp_path, is_usable=is_normal)


def test_both_halves_of_an_own_pair_are_seen_in_the_same_part():
    dark = (shades() // 2, shades())
    many = WholeImages([dark], unchanged, size=(16, 24), seed=0, length=20)
    for low, normal in (many[index] for index in range(20)):
        assert_close(2 * low, normal, atol=3 / 255, rtol=0)  # of two roundings to 8 bits
