"""Small pairs, and weights that were never trained."""

import numpy as np
import pytest
from PIL import Image


def image(path, height, width, *, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(levels).save(path)


@pytest.fixture
def rainy(tmp_path):
    """A folder of two pairs that are to be derained, 24 x 18 px."""
    folder = tmp_path / "rainy-pairs"
    for seed, name in enumerate(("a.png", "b.png")):
        image(folder / "rainy" / name, 18, 24, seed=seed)
        image(folder / "clean" / name, 18, 24, seed=seed + 9)
    return folder


@pytest.fixture
def doubled(tmp_path):
    """A folder of one pair that is to be enlarged by 2."""
    folder = tmp_path / "sr"
    image(folder / "LR" / "img_1_LR.png", 12, 15, seed=1)
    image(folder / "HR" / "img_1_HR.png", 24, 30, seed=2)
    return folder


@pytest.fixture
def doubler(tmp_path):
    """(param, bin) of ncnn: a 1x1 convolution and a pixel shuffle that repeat each pixel 2 x 2."""
    param, weights = tmp_path / "doubler.param", tmp_path / "doubler.bin"
    param.write_text(
        "7767517\n"
        "3 3\n"
        "Input        in    0 1 rgb\n"
        "Convolution  conv  1 1 rgb features 0=12 1=1 5=0 6=36\n"
        "PixelShuffle up    1 1 features enlarged 0=2\n"
    )
    matrix = np.repeat(np.eye(3, dtype="<f4"), 4, axis=0)  # (outputs, inputs)
    weights.write_bytes(bytes(4) + matrix.tobytes())  # tag 0: float32
    return param, weights
