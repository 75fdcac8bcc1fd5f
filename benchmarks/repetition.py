"""Measure the repetition of objects by the bundled UNet beyond its training size.

    python benchmarks/repetition.py --weights scalecrafter.default --ratio 2 --seeds 4
    python benchmarks/repetition.py --ratio 4 --seeds 3 --keep images --image grid.png

Methods: `direct` (the plain sampler at the large size), `scalecrafter`, `enlarged` (generated at
the trained size, then bicubic) and `drawn` (training images drawn at that size). For each:
- the mean number of objects (1 is right), and the share of images with exactly one;
- the repetition score;
- KID to other drawn images, all reduced to the trained size, of the features of the classifier of
  class_accuracy.py: shapes and positions;
- the sliced Wasserstein distance to them at full size: texture alone.
With 95 % intervals. Balls are left out: their belt divides a large one. KEEP stores the images, so
an interrupted run can be continued.
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
from restore_cli.inference.samplers.request import GenerateRequest
from restore_cli.inference.samplers.unet import UNetSampler

METHODS = ("direct", "scalecrafter", "enlarged", "drawn")
CLASSES = tuple(name for name in DRAWERS if name != "ball")
SHOWN = 2  # seeds of a class in the contact sheet
REFERENCES = 24  # drawn images of each class for comparison
REFERENCE_SEED = 50_000


def draw(name: str, side: int, seeds: Sequence[int]) -> list[Tensor]:
    return [draw_object(name, (side, side), Generator().manual_seed(seed)) for seed in seeds]


def generate(
    sampler: UNetSampler, label: int, name: str, method: str, side: int, options: argparse.Namespace
) -> list[Tensor]:
    """Generate an image (3, side, side) for each seed."""
    if method == "drawn":
        return draw(name, side, range(options.seed, options.seed + options.seeds))
    trained = sampler.unet.config.sample_size
    request = GenerateRequest(
        str(label),
        size=(trained, trained) if method == "enlarged" else (side, side),
        steps=options.steps,
        guidance=options.guidance,
        direct=method == "direct",
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
        images = sampler(request, seed=options.seed, count=options.seeds)
    return [
        resize_matlab(one, side, side).clamp(0, 1) if method == "enlarged" else one
        for one in images
    ]


def load_or_generate(options: argparse.Namespace) -> dict[str, list[Tensor]]:
    """Return the images of each method, class by class; generate those that KEEP does not have."""
    sampler = UNetSampler(load_checkpoint(options.weights).module)
    names = class_weights(options.weights).classes
    side = options.ratio * sampler.unet.config.sample_size
    methods: dict[str, list[Tensor]] = {method: [] for method in METHODS}
    for name in options.classes:
        for method in METHODS:
            files = [
                (options.keep or Path()) / f"{options.ratio}_{method}_{name}_{options.seed + i}.png"
                for i in range(options.seeds)
            ]
            if options.keep and all(file.exists() for file in files):
                methods[method] += [read(file).pixels for file in files]
                continue
            images = generate(sampler, names.index(name), name, method, side, options)
            if options.keep:
                for image, file in zip(images, files, strict=True):
                    write(Image(image), file, overwrite=True)
            methods[method] += images
            print(f"{name}, {method}: {len(images)} images", flush=True)
    return methods


def with_interval(values: Sequence[float]) -> str:
    """Format the mean and half of its 95 % interval."""
    std = statistics.stdev(values) if len(values) > 1 else math.nan
    return f"{statistics.mean(values):.2f} ± {1.96 * std / math.sqrt(len(values)):.2f}"


@torch.inference_mode()
def features(network: nn.Module, images: Sequence[Tensor], trained: int) -> Tensor:
    """Return the features of the classifier before its last layer, (N, D)."""
    reduced = torch.stack([resize_matlab(one, trained, trained).clamp(0, 1) for one in images])
    output: Tensor = network[:-1](shapes(reduced))
    return output


def table(methods: Mapping[str, Sequence[Tensor]], classes: Sequence[str], trained: int) -> str:
    """Return Markdown, a line for each method."""
    side = methods["drawn"][0].shape[-1]
    seeds = range(REFERENCE_SEED, REFERENCE_SEED + REFERENCES)
    reference = [image for name in classes for image in draw(name, side, seeds)]
    network = classifier(Generator().manual_seed(0))
    seen = features(network, reference, trained)
    scale = seen.square().mean().sqrt()  # the kernel must not depend on the scale
    lines = [
        "| area | method | images | objects | one object | repetition | KID | sliced Wasserstein |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for method, images in methods.items():
        objects = [count_objects(one, trained=trained) for one in images]
        scores = [repetition(one, trained=trained) for one in images]
        kid, half = kernel_distance(features(network, images, trained) / scale, seen / scale)
        texture = sliced_wasserstein(
            torch.stack(list(images)), torch.stack(reference), Generator().manual_seed(0)
        )
        lines.append(
            f"| {(side // trained) ** 2}x | {method} | {len(images)} | {with_interval(objects)} "
            f"| {sum(n == 1 for n in objects) / len(objects):.0%} | {with_interval(scores)} "
            f"| {kid:.2f} ± {half:.2f} | {texture:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="scalecrafter.default")
    parser.add_argument("--ratio", type=int, default=2, help="large side / trained side")
    parser.add_argument("--seeds", type=int, default=4, help="seeds per class")
    parser.add_argument("--seed", type=int, default=1000, help="first seed")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--classes", nargs="+", default=CLASSES, choices=DRAWERS)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder that stores the images")
    parser.add_argument(
        "--image", type=Path, help="contact sheet: a row per class, two images of each method"
    )
    options = parser.parse_args()
    methods = load_or_generate(options)
    if options.image:
        columns = min(SHOWN, options.seeds)
        shown = [
            image
            for index in range(len(options.classes))
            for method in METHODS
            for image in methods[method][index * options.seeds :][:columns]
        ]
        write(Image(contact_sheet(shown, columns * len(METHODS))), options.image, overwrite=True)
    trained = methods["drawn"][0].shape[-1] // options.ratio
    print(table(methods, options.classes, trained))


if __name__ == "__main__":
    main()
