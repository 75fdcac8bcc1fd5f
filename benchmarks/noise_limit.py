"""Measure the limit of denoising by the estimated noise, as a Markdown table.

    python benchmarks/noise_limit.py PHOTOS --weights mirnet.denoise

Central crops of the photographs that trainings on PHOTOS hold out, with synthetic noise of several
kinds. Mean and least gain in PSNR (dB) of 8-bit RGB, by the multiple of the noise that bounds the
change.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Generator, Tensor

from restore_cli.checkpoints.load import load_checkpoint
from restore_cli.data.noise import blotched_noise, gaussian_noise, photograph_noise
from restore_cli.data.pairs import VALIDATION_EVERY, VALIDATION_REMAINDER
from restore_cli.imaging.codecs.jpeg import through_jpeg
from restore_cli.imaging.io import read
from restore_cli.inference.noise import limit_to_noise
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import Restorer
from restore_cli.metrics import psnr

CROP = 256  # pixels
LIMITS = (None, 1.0, 1.2, 1.5, 2.0)  # multiples of the noise; None: no limit


def clean_jpeg(clean: Tensor, generator: Generator) -> Tensor:
    return through_jpeg(clean, 85)


def blotched(clean: Tensor, generator: Generator, levels: float) -> Tensor:
    return blotched_noise(clean, levels / 255, generator)


def white(clean: Tensor, generator: Generator) -> Tensor:
    return gaussian_noise(clean, 25 / 255, generator)


KINDS: dict[str, Callable[[Tensor, Generator], Tensor]] = {
    "JPEG 85, no noise": clean_jpeg,
    **{f"noise {levels} of 255": partial(blotched, levels=levels) for levels in (2, 4, 8, 16)},
    "simulated camera": photograph_noise,
    "white, 25": white,
}


def rounded(pixels: Tensor) -> Tensor:
    return (pixels.clamp(0, 1) * 255).round() / 255


def crops_of(folder: Path, limit: int) -> list[Tensor]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg"))
    crops = []
    for path in paths[VALIDATION_REMAINDER::VALIDATION_EVERY][:limit]:
        pixels = read(path).pixels.expand(3, -1, -1)
        top, left = ((side - CROP) // 2 for side in pixels.shape[-2:])
        crops.append(pixels[:, top : top + CROP, left : left + CROP])
    return crops


def gain(clean: Tensor, noisy: Tensor, denoised: Tensor, limit: float | None) -> float:
    if limit is not None:
        denoised = denoised.clone()
        limit_to_noise(noisy, denoised, tolerance=limit)
    before, after = (psnr(rounded(x)[None], clean[None]) for x in (noisy, denoised))
    return (after - before).item()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--limit", type=int, default=10, help="number of photographs")
    chosen = parser.parse_args()
    network = Restorer(load_checkpoint(chosen.weights), RunOptions(device="cpu"))
    crops = crops_of(chosen.photos, chosen.limit)
    gains: dict[float | None, list[str]] = {limit: [] for limit in LIMITS}
    for make in KINDS.values():
        generator = Generator().manual_seed(0)
        triples = []
        for clean in crops:
            noisy = rounded(make(clean, generator))
            triples.append((clean, noisy, network.run(noisy)))
        for limit in LIMITS:
            found = torch.tensor([gain(*triple, limit) for triple in triples])
            gains[limit].append(f"{found.mean():.2f}, {found.min():.2f}")
    print(f"| limit | {' | '.join(KINDS)} |", f"|---|{'---|' * len(KINDS)}", sep="\n")
    for limit, cells in gains.items():
        print(f"| {limit or 'none'} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
