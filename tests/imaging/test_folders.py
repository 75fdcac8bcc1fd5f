from pathlib import Path

import pytest

from restore_cli.imaging.folders import image_files, images_by_name


@pytest.fixture
def folder(tmp_path):
    names = ["b.png", "a.JPG", "notes.txt", ".hidden.png", "inner/c.tif", ".cache/d.png"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "folder.png").mkdir()
    return tmp_path


def test_visible_image_files_of_a_folder_are_found_in_order(folder):
    assert image_files(folder) == [folder / "a.JPG", folder / "b.png"]


def test_subfolders_are_searched_but_for_hidden_ones(folder):
    wanted = [Path("a.JPG"), Path("b.png"), Path("inner/c.tif")]
    assert image_files(folder, recursive=True) == [folder / name for name in wanted]
    assert list(images_by_name(folder)) == ["a", "b", "inner/c"]
