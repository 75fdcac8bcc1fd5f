"""Does ScaleCrafter keep one object one? The bundled UNet beyond its training size, many seeds.

    python benchmarks/repetition.py --weights scalecrafter.default --ratio 2 --seeds 4
    python benchmarks/repetition.py --ratio 4 --seeds 3 --keep images --image grid.png

Arms: `direct` (the plain sampler at the large size), `scalecrafter`, `enlarged` (made at the
trained size, then bicubic) and `drawn` (images of the set itself, drawn so large). For each:
- the mean number of objects (1 is right), and the share of images with exactly one;
- the repetition score;
- KID to other drawn images, all reduced to the trained size: of what the classifier of
  class_accuracy.py sees before it decides, so of shapes and where they are;
- the sliced Wasserstein distance to them at full size: of texture alone.
With 95 % intervals. Balls are left out: a belt cuts a large one in two. KEEP holds the images, so
an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from class_accuracy import classifier, shapes
from distribution import kernel_distance, sliced_wasserstein
from drawn_objects import DRAWERS, draw_object
from object_count import count_objects, repetition
from torch import Generator, Tensor, nn

from restore_cli.checkpoints.classes import class_weights
from restore_cli.checkpoints.load import load_checkpoint
from restore_cli.imaging.contact_sheet import contact_sheet
from restore_cli.imaging.image import Image
from restore_cli.imaging.io import read, write
from restore_cli.imaging.resize import resize_matlab
from restore_cli.inference.samplers.diffusion import UNetRequest, UNetSampler

ARMS = ("direct", "scalecrafter", "enlarged", "drawn")
CLASSES = tuple(name for name in DRAWERS if name != "ball")
SHOWN = 2  # seeds of a class in the image
REFERENCES = 24  # drawn images of each class to compare with
REFERENCE_SEED = 50_000


def draw(name: str, side: int, seeds: Sequence[int]) -> list[Tensor]:
    return [draw_object(name, (side, side), Generator().manual_seed(seed)) for seed in seeds]


def make(
    sampler: UNetSampler, label: int, name: str, arm: str, side: int, options: argparse.Namespace
) -> list[Tensor]:
    """(3, side, side) for each seed."""
    if arm == "drawn":
        return draw(name, side, range(options.seed, options.seed + options.seeds))
    trained = sampler.unet.config.sample_size
    request = UNetRequest(
        label=label,
        size=(trained, trained) if arm == "enlarged" else (side, side),
        count=options.seeds,
        seed=options.seed,
        steps=options.steps,
        guidance=options.guidance,
        direct=arm == "direct",
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
        made = sampler(request)
    return [
        resize_matlab(one, side, side).clamp(0, 1) if arm == "enlarged" else one for one in made
    ]


def kept(options: argparse.Namespace) -> dict[str, list[Tensor]]:
    """Images of each arm, class by class; made where they are not in KEEP yet."""
    sampler = UNetSampler(load_checkpoint(options.weights).module)
    names = class_weights(options.weights).classes
    side = options.ratio * sampler.unet.config.sample_size
    arms: dict[str, list[Tensor]] = {arm: [] for arm in ARMS}
    for name in options.classes:
        for arm in ARMS:
            files = [
                (options.keep or Path()) / f"{options.ratio}_{arm}_{name}_{options.seed + i}.png"
                for i in range(options.seeds)
            ]
            if options.keep and all(file.exists() for file in files):
                arms[arm] += [read(file).pixels for file in files]
                continue
            made = make(sampler, names.index(name), name, arm, side, options)
            if options.keep:
                for image, file in zip(made, files, strict=True):
                    write(Image(image), file, overwrite=True)
            arms[arm] += made
            print(f"{name}, {arm}: {len(made)} images", flush=True)
    return arms


def with_interval(values: Sequence[float]) -> str:
    """Mean and half of its 95 % interval."""
    spread = statistics.stdev(values) if len(values) > 1 else math.nan
    return f"{statistics.mean(values):.2f} ± {1.96 * spread / math.sqrt(len(values)):.2f}"


@torch.inference_mode()
def features(network: nn.Module, images: Sequence[Tensor], trained: int) -> Tensor:
    """What the classifier sees of images of the trained size before it decides, (N, D)."""
    reduced = torch.stack([resize_matlab(one, trained, trained).clamp(0, 1) for one in images])
    seen: Tensor = network[:-1](shapes(reduced))
    return seen


def table(arms: Mapping[str, Sequence[Tensor]], classes: Sequence[str], trained: int) -> str:
    """Markdown, a line for each arm."""
    side = arms["drawn"][0].shape[-1]
    seeds = range(REFERENCE_SEED, REFERENCE_SEED + REFERENCES)
    reference = [image for name in classes for image in draw(name, side, seeds)]
    network = classifier(Generator().manual_seed(0))
    seen = features(network, reference, trained)
    scale = seen.square().mean().sqrt()  # so that the kernel does not depend on the classifier's
    lines = [
        "| area | arm | images | objects | exactly one | repetition | KID | sliced Wasserstein |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for arm, images in arms.items():
        objects = [count_objects(one, trained=trained) for one in images]
        scores = [repetition(one, trained=trained) for one in images]
        kid, half = kernel_distance(features(network, images, trained) / scale, seen / scale)
        texture = sliced_wasserstein(
            torch.stack(list(images)), torch.stack(reference), Generator().manual_seed(0)
        )
        lines.append(
            f"| {(side // trained) ** 2}x | {arm} | {len(images)} | {with_interval(objects)} "
            f"| {sum(n == 1 for n in objects) / len(objects):.0%} | {with_interval(scores)} "
            f"| {kid:.2f} ± {half:.2f} | {texture:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="scalecrafter.default")
    parser.add_argument("--ratio", type=int, default=2, help="of the sides, large to trained")
    parser.add_argument("--seeds", type=int, default=4, help="of each class")
    parser.add_argument("--seed", type=int, default=1000, help="the first one")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--classes", nargs="+", default=CLASSES, choices=DRAWERS)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder of the images, added to")
    parser.add_argument("--image", type=Path, help="a sheet: a line a class, two of each arm")
    options = parser.parse_args()
    arms = kept(options)
    if options.image:
        columns = min(SHOWN, options.seeds)
        shown = [
            image
            for index in range(len(options.classes))
            for arm in ARMS
            for image in arms[arm][index * options.seeds :][:columns]
        ]
        write(Image(contact_sheet(shown, columns * len(ARMS))), options.image, overwrite=True)
    trained = arms["drawn"][0].shape[-1] // options.ratio
    print(table(arms, options.classes, trained))


if __name__ == "__main__":
    main()
