"""Folders of small images to train on."""

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from restore_cli.imaging.image import Image
from restore_cli.imaging.io import write


def smooth(seed, size=(40, 32)):
    """A random smooth image as an array of uint8; size: (W, H)."""
    coarse = np.random.default_rng(seed).integers(30, 200, (3, 4, 3), dtype=np.uint8)
    return np.asarray(PillowImage.fromarray(coarse).resize(size))


def save(levels, path):
    PillowImage.fromarray(np.clip(levels, 0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Nine clean images, of which the eighth is held out."""
    folder = tmp_path_factory.mktemp("photos")
    for index in range(9):
        save(smooth(index), folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Nine noisy images, of which the eighth is held out."""
    folder = tmp_path_factory.mktemp("noisy")
    for index in range(9):
        noise = np.random.default_rng(index + 100).normal(0, 12, (30, 40, 3))
        save(smooth(index, (40, 30)) + noise, folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def pair_folders(tmp_path_factory):
    """Eight pairs of noisy and clean images: (noisy, clean)."""
    noisy, clean = (tmp_path_factory.mktemp(name) for name in ("noisy", "clean"))
    for index in range(8):
        levels = np.clip(smooth(index), 60, 200)
        save(levels, clean / f"{index}.png")
        noise = np.random.default_rng(index + 100).integers(-40, 40, levels.shape)
        save(levels + noise, noisy / f"{index}.png")
    return noisy, clean


@pytest.fixture(scope="module")
def class_folder(tmp_path_factory):
    """Red images and blue ones, landscape and portrait."""
    root = tmp_path_factory.mktemp("classes")
    for channel, name in ((0, "red"), (2, "blue")):
        (root / name).mkdir()
        for index in range(8):
            image = torch.zeros(3, *((8, 12) if index % 2 else (12, 8)))
            image[channel] = 1
            write(Image(image), root / name / f"{index}.png")
    return root
