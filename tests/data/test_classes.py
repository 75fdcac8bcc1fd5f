"""Folders of classes, and the sizes that a generator learns from."""

import pytest
import torch

from restore_cli.data.classes import fit_area, fit_square, load_classes
from restore_cli.errors import NothingToDo
from restore_cli.imaging.image import Image
from restore_cli.imaging.io import write


@pytest.fixture
def folder(tmp_path):
    """Two classes of eight grey images each; an image's level tells its number."""
    for name in ("b_dark", "a_light"):
        (tmp_path / name).mkdir()
        for index in range(8):
            image = torch.full((3, 4, 6), index / 8)
            write(Image(image), tmp_path / name / f"{index}.png")
    return tmp_path


def test_classes_are_folders_in_alphabetical_order(folder):
    training, held_out = load_classes(folder, lambda image: image)
    assert training.names == held_out.names == ("a_light", "b_dark")
    assert training.labels == (0,) * 7 + (1,) * 7


def test_one_of_twenty_images_of_each_class_is_held_out(folder):
    _, held_out = load_classes(folder, lambda photo: photo)
    assert held_out.labels == (0, 1)
    assert [image.unique().tolist() for image in held_out.images] == [[223], [223]]  # 7 / 8


def test_images_are_kept_small_and_in_eight_bit(folder):
    training, _ = load_classes(folder, lambda photo: photo[..., :2, :2] * 2)
    assert {tuple(image.shape) for image in training.images} == {(3, 2, 2)}
    assert training.images[6].dtype == torch.uint8
    assert training.images[6].max() == 255  # beyond 1, cut off


def test_a_folder_without_classes_is_refused(tmp_path):
    with pytest.raises(NothingToDo, match="no folders of classes"):
        load_classes(tmp_path, lambda image: image)


def test_a_class_with_too_few_images_is_named(folder):
    (folder / "b_dark" / "3.png").unlink()
    with pytest.raises(NothingToDo, match="b_dark: 7 images"):
        load_classes(folder, lambda image: image)


@pytest.mark.parametrize(
    ("height", "width", "result"),
    [
        (96, 96, (64, 64)),
        (72, 128, (48, 84)),  # 48 x 85.3 has the area and the aspect
        (128, 72, (84, 48)),
        (64, 64, (64, 64)),
        (50, 63, (48, 60)),  # smaller: only rounded down
        (3, 3, (4, 4)),
        (2, 900, (4, 900)),
        (1, 9000, (4, 1024)),
    ],
)
def test_an_image_keeps_its_aspect_within_an_area(height, width, result):
    assert fit_area(torch.rand(3, height, width), 64, 4).shape[-2:] == result


@pytest.mark.parametrize(("height", "width"), [(96, 64), (64, 96), (5, 7)])
def test_a_square_is_the_middle_of_an_image(height, width):
    image = torch.zeros(3, height, width)
    square = min(height, width)
    top, left = (height - square) // 2, (width - square) // 2
    image[:, top : top + square, left : left + square] = 1
    result = fit_square(image, 8)
    assert result.shape == (3, 8, 8)
    assert result.min() > 0.999
