"""Make the sample pictures again: free photographs in synthetic rain.

Run: python samples/make.py   (needs scikit-image, whose wheel carries the photographs)
"""

from pathlib import Path

import imageio.v3 as iio
import torch
from skimage import data

from restore_cli.data.degrade import HEAVY, LIGHT, MEDIUM, MISTY, RainLook, add_rain

HERE = Path(__file__).parent
SAMPLES: dict[str, tuple[RainLook, int]] = {
    "astronaut": (LIGHT, 1),
    "chelsea": (HEAVY, 2),
    "coffee": (MEDIUM, 3),
    "rocket": (MISTY, 4),
}


def main() -> None:
    for name, (look, seed) in SAMPLES.items():
        photo = getattr(data, name)()[:400, :560]
        clean = torch.from_numpy(photo.copy()).permute(2, 0, 1) / 255
        rainy = add_rain(clean, look, torch.Generator().manual_seed(seed))
        pixels = (rainy * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        iio.imwrite(HERE / f"{name}_rain.png", pixels, optimize=True)


if __name__ == "__main__":
    main()
