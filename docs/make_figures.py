"""Make the before and after images of the front page again, from free photographs.

Run: python docs/make_figures.py   (needs scikit-image, whose wheel carries the photographs:
coffee and chelsea are CC0, the others are public domain of NASA)
"""

from pathlib import Path

import imageio.v3 as iio
import torch
from skimage import data
from torch import Tensor, nn

from restore_cli import restore
from restore_cli.data.noise import correlated_noise
from restore_cli.imaging.codecs.jpeg import through_jpeg
from restore_cli.imaging.resize import resize_matlab

HERE = Path(__file__).parent
GAP = 8  # pixels between before and after
SHOT, READ = 0.012, 0.002  # variances of the added noise in white and in black


def photo(name: str, top: int, left: int, height: int = 240, width: int = 360) -> Tensor:
    """Return a crop of a photograph of scikit-image, (3, H, W) in [0, 1]."""
    pixels = getattr(data, name)()[top : top + height, left : left + width]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255


def beside(before: Tensor, after: Tensor) -> Tensor:
    gap = torch.ones(3, before.shape[1], GAP)
    return torch.cat([before, gap, after], dim=2).clamp(0, 1)


def denoised() -> Tensor:
    clean = photo("coffee", 60, 120)
    noisy = correlated_noise(clean, SHOT, READ, torch.Generator().manual_seed(5)).clamp(0, 1)
    return beside(noisy, restore("denoise", noisy))


def enlarged() -> Tensor:
    """Return an enlargement by four without (pixels repeated) and with the network."""
    small = resize_matlab(photo("chelsea", 40, 100), 60, 90).clamp(0, 1)
    repeated = nn.functional.interpolate(small[None], scale_factor=4, mode="nearest")[0]
    return beside(repeated, restore("upscale", small, scale=4, model="mirnet"))


def enlarged_photo() -> Tensor:
    """Return the same for a small JPEG of low quality, by the weights for photographs."""
    small = through_jpeg(resize_matlab(photo("astronaut", 20, 90), 60, 90).clamp(0, 1), 60)
    repeated = nn.functional.interpolate(small[None], scale_factor=4, mode="nearest")[0]
    return beside(repeated, restore("upscale", small, scale=4, weights="mirnet.real_x4"))


FIGURES = {"denoise": denoised, "upscale": enlarged, "upscale_photo": enlarged_photo}


def main() -> None:
    for name, figure in FIGURES.items():
        pixels = (figure() * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        iio.imwrite(HERE / f"{name}_before_after.jpg", pixels, quality=90)


if __name__ == "__main__":
    main()
