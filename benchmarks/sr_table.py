"""Upscaling on the public sets, as the Markdown table of the model card.

    python benchmarks/sr_table.py ../shared/data --weights weights/espcn.x{scale}.safetensors \
        --weights ../shared/weights-official/espcn_ycbcr_x{scale}.safetensors

DATA holds set5/, set14/ or urban100/: x4/HR/ and x4/LR/, or HR/ and LR_x4/ (those of SelfExSR);
{scale} in a name of weights stands for 2, 3 and 4. PSNR / SSIM of luma (BT.601, 16 to 235) of the
8-bit RGB result, `scale` px cut off each side: protocols sr_x2, sr_x3, sr_x4.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from restore_cli.imaging.files import read
from restore_cli.imaging.resize import resize_matlab
from restore_cli.metrics import PROTOCOLS, Scores, measure
from restore_cli.pipelines.restorer import RunOptions, load_restorer

SETS = ("set5", "set14", "urban100")
SCALES = (2, 3, 4)
PAPER = {  # ESPCN of ImageNet, tanh; x3 is quoted from memory by others
    ("set5", 3): "33.13",
    ("set14", 3): "29.49",
    ("set5", 4): "30.90",
    ("set14", 4): "27.73",
}

Enlarge = Callable[[Tensor, int], Tensor]


def bicubic(pixels: Tensor, scale: int) -> Tensor:
    height, width = (side * scale for side in pixels.shape[-2:])
    return resize_matlab(pixels, height, width).clamp(0, 1)


def lanczos(pixels: Tensor, scale: int) -> Tensor:
    """Pillow's, of 8-bit pixels: what a user has for nothing."""
    levels = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).squeeze(-1).numpy()
    small = Pillow.fromarray(levels)
    large = small.resize((small.width * scale, small.height * scale), Pillow.Resampling.LANCZOS)
    array = np.atleast_3d(np.asarray(large, dtype=np.float32))
    return torch.from_numpy(array).permute(2, 0, 1) / 255


def network(weights: str, options: RunOptions) -> Enlarge:
    restorers = {}

    def enlarge(pixels: Tensor, scale: int) -> Tensor:
        if scale not in restorers:
            chosen = weights.replace("{scale}", str(scale))
            restorers[scale] = load_restorer(
                "upscale",
                RunOptions("espcn", chosen, device=options.device, precision=options.precision),
            )
        return restorers[scale].run(pixels)

    return enlarge


def pairs_of(folder: Path, scale: int) -> list[tuple[Path, Path]]:
    """(low, high) of each picture: x4/LR beside x4/HR, or LR_x4 beside HR."""
    lows = sorted([*folder.glob(f"x{scale}/LR/*.png"), *folder.glob(f"LR_x{scale}/*.png")])
    return [(low, low.parent.with_name("HR") / low.name.replace("_LR", "_HR")) for low in lows]


def scores_of(enlarge: Enlarge, pairs: list[tuple[Path, Path]], scale: int) -> list[Scores]:
    protocol = PROTOCOLS[f"sr_x{scale}"]
    return [
        measure(enlarge(read(low).pixels, scale), read(high).pixels, protocol)
        for low, high in pairs
    ]


def cell(scores: list[Scores]) -> str:
    psnr = sum(score.psnr for score in scores) / len(scores)
    ssim = sum(score.ssim or 0 for score in scores) / len(scores)
    return f"{psnr:.2f} / {ssim:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", action="append", default=[], metavar="NAME|FILE")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    given = parser.parse_args()
    options = RunOptions(device=given.device, precision=given.precision)
    methods = {"bicubic": bicubic, "Lanczos": lanczos}
    methods |= {Path(name).stem: network(name, options) for name in given.weights}
    print(f"| set | scale | {' | '.join(methods)} | paper |")
    print("|" + "---|" * (len(methods) + 3))
    for name in SETS:
        for scale in SCALES:
            if pairs := pairs_of(given.data / name, scale):
                cells = [cell(scores_of(enlarge, pairs, scale)) for enlarge in methods.values()]
                paper = PAPER.get((name, scale), "")
                print(f"| {name} | x{scale} | {' | '.join(cells)} | {paper} |", flush=True)


if __name__ == "__main__":
    main()
