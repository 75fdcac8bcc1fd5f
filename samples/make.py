"""Make the sample images again, and the image of the README.

Free photographs in synthetic rain; one of them with what the bundled weights make of it.
Run: python samples/make.py   (needs scikit-image, whose wheel carries the photographs)
"""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from skimage import data

from restore_cli import restore
from restore_cli.data.degrade import HEAVY, LIGHT, MEDIUM, MISTY, RainStyle, add_rain

HERE = Path(__file__).parent
BEFORE_AFTER = HERE.parent / "docs" / "before_after.jpg"
SAMPLES: dict[str, tuple[RainStyle, int]] = {
    "astronaut": (LIGHT, 1),
    "chelsea": (HEAVY, 2),
    "coffee": (MEDIUM, 3),
    "rocket": (MISTY, 4),
}


def rainy(name: str) -> torch.Tensor:
    """(3, H, W) in [0, 1]."""
    style, seed = SAMPLES[name]
    photo = getattr(data, name)()[:400, :560]
    clean = torch.from_numpy(photo.copy()).permute(2, 0, 1) / 255
    return add_rain(clean, style, torch.Generator().manual_seed(seed))


def as_uint8(image: torch.Tensor) -> np.ndarray:
    return (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def main() -> None:
    for name in SAMPLES:
        sample = as_uint8(rainy(name)[:, :300, :450])  # part of it, which keeps the wheel small
        iio.imwrite(HERE / f"{name}_rain.jpg", sample, quality=92, subsampling=0, optimize=True)
    before = rainy("astronaut")
    gap = torch.ones(3, before.shape[1], 8)
    both = torch.cat([before, gap, restore("derain", before)], dim=2)
    iio.imwrite(BEFORE_AFTER, as_uint8(both), quality=90)


if __name__ == "__main__":
    main()
