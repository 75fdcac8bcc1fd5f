"""Measure low light on pairs against simple methods, as the Markdown table of the model card.

    python benchmarks/enhance_table.py ../shared/data/lowlight-test/pairs --weights tml.default

PAIRS holds low/ and high/ with the same file names; the part of a name before the first "_" is
its set. PSNR / SSIM / MS-SSIM of the 8-bit RGB output, not scaled to the brightness of the
reference.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from skimage import color, exposure
from torch import Tensor

from restore_cli.imaging.io import read
from restore_cli.inference.options import Resize, RunOptions
from restore_cli.inference.restorer import load_restorer
from restore_cli.metrics import PROTOCOLS, Scores, measure

Enhance = Callable[[Tensor], Tensor]


def on_lightness(pixels: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Change L of LAB, in [0, 1], of `pixels` (3, H, W); colours stay unchanged."""
    lab = color.rgb2lab(pixels.permute(1, 2, 0).numpy())
    lab[..., 0] = change(lab[..., 0] / 100) * 100
    return torch.from_numpy(color.lab2rgb(lab)).float().permute(2, 0, 1).clamp(0, 1)


def clahe(pixels: Tensor) -> Tensor:
    """Equalize adaptively in 8 x 8 fields with the default clip limit of scikit-image."""
    fields = (pixels.shape[-2] // 8, pixels.shape[-1] // 8)
    return on_lightness(pixels, lambda x: exposure.equalize_adapthist(x, kernel_size=fields))


def equalised(pixels: Tensor) -> Tensor:
    return on_lightness(pixels, exposure.equalize_hist)


def to_middle_grey(pixels: Tensor) -> Tensor:
    """Apply the gamma curve that brings the mean brightness to 0.5."""
    mean = pixels.mean().clamp(1e-3, 1 - 1e-3)
    return pixels ** (torch.tensor(0.5).log() / mean.log())


METHODS: dict[str, Enhance] = {
    "input": lambda pixels: pixels,
    "CLAHE": clahe,
    "histogram equalisation": equalised,
    "gamma 0.5": lambda pixels: pixels**0.5,
    "gamma to mean 0.5": to_middle_grey,
}


def network(weights: str, resize: Resize) -> Enhance:
    options = RunOptions(weights=weights, precision="fp32", device="cpu", resize=resize)
    return load_restorer("enhance", options).run


def cell(scores: list[Scores]) -> str:
    count = len(scores)
    psnr, ssim, ms_ssim = (
        sum(getattr(score, name) for score in scores) / count
        for name in ("psnr", "ssim", "ms_ssim")
    )
    return f"{psnr:.2f} / {ssim:.4f} / {ms_ssim:.4f}"


def row(enhance: Enhance, folder: Path) -> dict[str, str]:
    scores = defaultdict(list)
    for low in sorted((folder / "low").iterdir()):
        high = read(folder / "high" / low.name).pixels
        score = measure(enhance(read(low).pixels), high, PROTOCOLS["rgb"])
        for name in (low.stem.split("_")[0], "all"):
            scores[name].append(score)
    return {name: cell(scores[name]) for name in sorted(scores, reverse=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--weights", action="append", default=[], metavar="NAME|FILE")
    parser.add_argument("--resize", action="append", choices=("detail", "fit", "native"))
    given = parser.parse_args()
    methods = dict(METHODS)
    for name in given.weights:
        for resize in given.resize or ("detail",):
            methods[f"{Path(name).stem}, {resize}"] = network(name, resize)
    for index, (name, enhance) in enumerate(methods.items()):
        cells = row(enhance, given.pairs)
        if index == 0:
            print(f"| | {' | '.join(cells)} |\n|{'---|' * (len(cells) + 1)}")
        print(f"| {name} | {' | '.join(cells.values())} |", flush=True)


if __name__ == "__main__":
    main()
