import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from restore_cli.data.degrade import unchanged
from restore_cli.data.pairs import (
    Pairs,
    crop,
    load_pairs,
    load_photos,
    low_resolution,
    reduced,
    turned,
)
from restore_cli.errors import InputError, NothingToDo
from restore_cli.imaging.colour import luma
from restore_cli.imaging.resize import resize_matlab


def photo(height, width, channels=1):
    return torch.randint(256, (channels, height, width), dtype=torch.uint8)


def smooth_photo(height, width):
    """A photograph so smooth that its reduction loses nothing, except at the borders."""
    waves = [torch.linspace(0, 3, size).sin() for size in (height, width)]
    return (torch.outer(*waves) * 200 + 20).round().to(torch.uint8)[None]


def pairs(photos, **options):
    settings = {"patch": 8, "seed": 1, "length": 20, **options}
    return Pairs(photos, unchanged, **settings)


def differing(degraded, generator):
    return torch.rand(degraded.shape, generator=generator)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_clean_is_so_many_times_as_large_as_degraded(scale):
    degraded, clean = pairs([photo(50, 41, channels=3)], scale=scale)[0]
    assert degraded.shape == (3, 8, 8)
    assert clean.shape == (3, 8 * scale, 8 * scale)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_both_halves_show_the_same_place_in_the_same_turn(scale):
    many = pairs([smooth_photo(97, 120)], scale=scale, patch=12)
    for degraded, clean in (many[index] for index in range(20)):
        enlarged = resize_matlab(degraded, 12 * scale, 12 * scale)
        inner = (..., slice(2 * scale, -2 * scale), slice(2 * scale, -2 * scale))
        assert_close(enlarged[inner], clean[inner], atol=2 / 255, rtol=0)


def test_without_a_scale_a_pair_begins_with_one_image():
    degraded, clean = pairs([photo(20, 20)])[3]
    assert torch.equal(degraded, clean)


def test_a_scene_is_in_both_halves_of_a_pair():
    degraded, clean = pairs([photo(30, 30)], scene=differing)[0]
    plain, _ = pairs([photo(30, 30)])[0]
    assert torch.equal(degraded, clean)
    assert not torch.equal(clean, plain)


def test_a_pair_depends_on_seed_and_index_alone():
    photos = [photo(30, 30), photo(40, 20)]
    first = Pairs(photos, differing, patch=8, seed=5, length=9, scale=2)
    second = Pairs(photos, differing, patch=8, seed=5, length=99, scale=2)
    first[3], first[8]  # what was drawn before does not matter
    assert_close(first[7], second[7], atol=0, rtol=0)
    assert not torch.equal(first[7][0], first[6][0])


def test_of_many_candidates_the_busy_crop_is_taken():
    sky = torch.full((1, 64, 64), 100, dtype=torch.uint8)
    sky[:, 40:48, 40:48] = photo(8, 8)
    taken = pairs([sky], candidates=200)[0][1]
    assert taken.std() > 0.2


def test_a_photo_smaller_than_the_patch_repeats_its_border():
    degraded, clean = pairs([photo(6, 40)], scale=2)[0]
    assert (degraded.shape, clean.shape) == ((1, 8, 8), (1, 16, 16))
    assert torch.equal(crop(photo(1, 1) * 0 + 51, 0, 0, 4), torch.full((1, 4, 4), 0.2))


def test_the_eight_turns_are_different():
    image = torch.arange(6.0).view(1, 2, 3)
    assert len({str(turned(image, turn).tolist()) for turn in range(8)}) == 8


def test_low_resolution_is_the_reduced_photograph_cut_to_a_multiple():
    original = photo(32, 45)
    low, high = low_resolution(original, 3)
    assert torch.equal(high, original[:, :30, :45])
    assert low.shape == (1, 10, 15)
    exact = resize_matlab(high.float() / 255, 10, 15, rounding="uint8") * 255
    assert torch.equal(low.float(), exact.round())


@pytest.mark.parametrize(("factor", "size"), [(1, (30, 40)), (1.25, (24, 32)), (100, (1, 1))])
def test_reduced_is_never_empty(factor, size):
    assert reduced(photo(30, 40), factor).shape == (1, *size)


@pytest.fixture
def folder(tmp_path):
    for index in range(9):
        levels = np.random.default_rng(index).integers(256, size=(5, 6, 3), dtype=np.uint8)
        Image.fromarray(levels).save(tmp_path / f"{index}.png")
    return tmp_path


def test_every_twentieth_photo_is_held_out(folder):
    training, held_out = load_photos(folder)
    assert (len(training), len(held_out)) == (8, 1)
    assert all(p.shape == (3, 5, 6) and p.dtype == torch.uint8 for p in training)


def test_grey_is_the_luma_of_the_benchmarks(folder):
    colour, grey = load_photos(folder)[0][0], load_photos(folder, grey=True)[0][0]
    assert grey.shape == (1, 5, 6)
    assert_close(grey.float() / 255, luma(colour.float() / 255), atol=0.5 / 255 + 1e-6, rtol=0)


def test_too_few_photos_are_refused(tmp_path):
    with pytest.raises(NothingToDo, match="at least 8 photographs are needed, 0 found"):
        load_photos(tmp_path)


def test_photographs_are_taken_in_each_size():
    many = Pairs([photo(64, 64)], unchanged, patch=64, seed=0, length=40, zooms=(1.0, 0.25))
    detail = {clean.std().item() > 0.2 for _, clean in (many[index] for index in range(40))}
    assert detail == {False, True}  # noise loses its contrast by a reduction


def test_photographs_are_reduced_when_they_are_drawn_or_all_at_once():
    many, others = (pairs([photo(40, 40), photo(30, 30)], scale=2) for _ in range(2))
    others.sizes = many.sizes
    assert not many.cached
    many.prepare()
    assert len(many.cached) == 2
    assert_close(many[3], others[3], atol=0, rtol=0)
    assert len(others.cached) == 1


# Pairs of one's own


def save(levels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).save(path)


@pytest.fixture
def folders(tmp_path):
    """Eight pairs, the degraded image half as bright, in folders of a folder."""
    for index in range(8):
        levels = np.random.default_rng(index).integers(128, size=(12, 16, 3), dtype=np.uint8)
        save(levels, tmp_path / "rainy" / f"{index % 2}" / f"{index}.png")
        save(2 * levels, tmp_path / "clean" / f"{index % 2}" / f"{index}.bmp")
    return tmp_path / "rainy", tmp_path / "clean"


def test_own_pairs_are_matched_by_relative_path_without_suffix(folders):
    training, held_out = load_pairs(*folders)
    assert (len(training), len(held_out)) == (7, 1)
    assert all(torch.equal(clean, 2 * rainy) for rainy, clean in training + held_out)


def test_both_halves_of_an_own_pair_are_cut_at_the_same_place_in_the_same_turn(folders):
    many = pairs(load_pairs(*folders)[0])
    for rainy, clean in (many[index] for index in range(20)):
        assert rainy.shape == (3, 8, 8)
        assert_close(clean, 2 * rainy, atol=1e-6, rtol=0)


@pytest.mark.parametrize("grey", [False, True])
def test_own_pairs_of_two_sizes_are_cut_by_the_factor(tmp_path, grey):
    for index in range(8):
        high = (smooth_photo(97, 120) + index)[0].numpy()
        low = low_resolution(torch.from_numpy(high)[None], 2)[0][0].numpy()
        save(low, tmp_path / "low" / f"{index}.png")
        save(high, tmp_path / "high" / f"{index}.png")  # odd: a row is left over
    training, _ = load_pairs(tmp_path / "low", tmp_path / "high", scale=2, grey=grey)
    many = pairs(training, scale=2, patch=12)
    for low, high in (many[index] for index in range(20)):
        assert low.shape[0] == (1 if grey else 3)
        enlarged = resize_matlab(low, 24, 24)
        assert_close(enlarged[..., 4:-4, 4:-4], high[..., 4:-4, 4:-4], atol=2 / 255, rtol=0)


@pytest.mark.parametrize("lonely", [0, 1], ids=["clean", "degraded"])
def test_an_image_without_its_counterpart_is_named(folders, lonely):
    missing = next(folders[lonely].rglob("3.*"))
    missing.unlink()
    with pytest.raises(InputError, match=r"no counterpart for 3\.(png|bmp)$"):
        load_pairs(*folders)


def test_of_many_images_without_counterparts_some_are_named(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="and 3 more"):
        load_pairs(folders[0], tmp_path / "empty")


def test_two_images_of_one_name_are_refused(folders):
    path = next(folders[0].rglob("3.png"))
    Image.open(path).save(path.with_suffix(".bmp"))
    with pytest.raises(InputError, match=r"3\.bmp and .*3\.png"):
        load_pairs(*folders)


def test_a_pair_of_two_sizes_is_refused_with_both(folders):
    with pytest.raises(InputError, match=r"16x12 pixels, not 2 times as large .*: 16x12") as caught:
        load_pairs(*folders, scale=2)
    assert all(str(folder) in caught.value.message for folder in folders)
    assert "--scale" in caught.value.hint


def test_a_folder_that_does_not_exist_is_said_to_be_missing(tmp_path):
    with pytest.raises(NothingToDo, match="photos: no such folder"):
        load_photos(tmp_path / "photos")


def test_too_few_own_pairs_are_refused(folders):
    for path in [*folders[0].rglob("3.*"), *folders[1].rglob("3.*")]:
        path.unlink()
    with pytest.raises(NothingToDo, match="at least 8 pairs are needed, 7 found"):
        load_pairs(*folders)
