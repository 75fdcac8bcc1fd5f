"""PSNR and SSIM of upscaled JPEG photographs: python benchmarks/photo_upscaling.py FOLDER

Each image of the folder is reduced by bicubic, saved as JPEG, and enlarged again by each network.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import PIL.Image
import torch

import restore_cli
from restore_cli.imaging.resize import resize_matlab
from restore_cli.metrics.pixel import psnr
from restore_cli.metrics.structure import ssim

WEIGHTS = {2: ["espcn.x2", "mirnet.fast_x2", "mirnet.real_x2"]}
WEIGHTS[4] = ["espcn.x4", "mirnet.fast_x4", "mirnet.real_x4"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--quality", type=int, nargs="+", default=[50, 75, 90])
    options = parser.parse_args()
    clean = [restore_cli.read_image(path).pixels for path in sorted(options.folder.glob("*.png"))]
    for scale in options.scale:
        names = WEIGHTS[scale]
        networks = [
            restore_cli.load_restorer("upscale", scale=scale, weights=name) for name in names
        ]
        for quality in options.quality:
            scores: dict[str, list[tuple[float, float]]] = {}
            for image in clean:
                height, width = (side // scale * scale for side in image.shape[1:])
                whole = image[:, :height, :width]
                reduced = _saved(whole, scale, quality)
                results = {"bicubic": resize_matlab(reduced, height, width).clamp(0, 1)}
                for name, network in zip(names, networks, strict=True):
                    results[name] = network.run(reduced)
                for name, result in results.items():
                    pair = result[None], whole[None]
                    scores.setdefault(name, []).append((float(psnr(*pair)), float(ssim(*pair))))
            for name, measured in scores.items():
                mean = np.mean(measured, axis=0)
                print(f"x{scale}  quality {quality}  {name:15} {mean[0]:.2f} dB  {mean[1]:.4f}")


def _saved(image: torch.Tensor, scale: int, quality: int) -> torch.Tensor:
    height, width = (side // scale for side in image.shape[-2:])
    levels = resize_matlab(image, height, width).clamp(0, 1).mul(255).round().byte()
    file = io.BytesIO()
    PIL.Image.fromarray(levels.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    read = np.array(PIL.Image.open(file))
    return torch.from_numpy(read).permute(2, 0, 1) / 255


if __name__ == "__main__":
    main()
