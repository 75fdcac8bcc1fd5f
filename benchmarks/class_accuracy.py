"""Measure the class accuracy of generated images by a small classifier of shapes.

    python benchmarks/class_accuracy.py fitv2.default scalecrafter.default --count 8
    python benchmarks/class_accuracy.py fitv2.default --side 64

The classifier is trained within a minute on drawn images (drawn_objects.py) in grey and of
standardized contrast, since colours alone would identify the classes. Measured for newly drawn and
for generated images: the share classified as their class, and the number of objects. Larger images
are reduced to the size of the classifier.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from drawn_objects import DRAWERS, draw_object
from object_count import count_objects
from torch import Generator, Tensor, nn

from restore_cli.checkpoints.classes import class_weights
from restore_cli.checkpoints.load import load_checkpoint
from restore_cli.imaging.resize import resize_matlab
from restore_cli.inference.generator import SAMPLERS
from restore_cli.inference.samplers.request import GenerateRequest

SIDE = 32
CLASSES = tuple(DRAWERS)
NOISE = 0.1  # at most, in the training images: generated images are not quite clean


def shapes(images: Tensor) -> Tensor:
    """Return the distance of each pixel of (B, 3, H, W) from the background, std 1."""
    ground = images.flatten(2).median(2).values[..., None, None]
    distance = (images - ground).norm(dim=1, keepdim=True)
    return distance / distance.std((1, 2, 3), keepdim=True).clamp(min=1e-3)


def drawn(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw (images, labels), `count` of each class; half of them mirrored."""
    images = [draw_object(name, (SIDE, SIDE), generator) for name in CLASSES for _ in range(count)]
    labels = torch.arange(len(CLASSES)).repeat_interleave(count)
    return torch.stack([p.flip(-1) if i % 2 else p for i, p in enumerate(images)]), labels


def classifier(generator: Generator, steps: int = 300, batch: int = 64) -> nn.Module:
    images, labels = drawn(80, generator)
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * (SIDE // 8) ** 2, len(CLASSES)),
    )
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(steps):
        rows = torch.randint(len(images), (batch,), generator=generator)
        sigma = NOISE * torch.rand(batch, 1, 1, 1, generator=generator)
        noise = sigma * torch.randn((batch, 3, SIDE, SIDE), generator=generator)
        loss = F.cross_entropy(network(shapes(images[rows] + noise)), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def generated(weights: str, count: int, seed: int, side: int) -> tuple[Tensor, Tensor]:
    """Generate (images, labels) with the default settings of `restore generate`."""
    size = side, side
    checkpoint = load_checkpoint(weights)
    names = class_weights(weights).classes
    sampler = SAMPLERS[checkpoint.spec.arch](checkpoint.module)
    images = [
        sampler(GenerateRequest(str(label), size), seed=seed, count=count)
        for label, _ in enumerate(names)
    ]
    labels = torch.tensor([CLASSES.index(name) for name in names]).repeat_interleave(count)
    return torch.cat(images), labels


@torch.inference_mode()
def row(title: str, network: nn.Module, images: Tensor, labels: Tensor) -> str:
    reduced = torch.stack([resize_matlab(one, SIDE, SIDE).clamp(0, 1) for one in images])
    right = network(shapes(reduced)).argmax(1) == labels
    worst = min(CLASSES, key=lambda name: right[labels == CLASSES.index(name)].float().mean())
    share = right[labels == CLASSES.index(worst)].float().mean()
    whole = [image for image, label in zip(images, labels, strict=True) if label]  # no balls
    one = sum(count_objects(image, trained=SIDE) == 1 for image in whole) / len(whole)
    accuracy = right.float().mean()
    return f"| {title} | {len(images)} | {accuracy:.0%} | {worst} {share:.0%} | {one:.0%} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="+")
    parser.add_argument("--count", type=int, default=8, help="images per class")
    parser.add_argument("--seed", type=int, default=2000)
    parser.add_argument(
        "--side", type=int, default=SIDE, help="side of the generated images, pixels"
    )
    options = parser.parse_args()
    network = classifier(Generator().manual_seed(0))
    print("| images of | images | classified correctly | worst class | one object |")
    print("| --- | --- | --- | --- | --- |")
    print(row("the set, drawn anew", network, *drawn(20, Generator().manual_seed(1))))
    for weights in options.weights:
        images, labels = generated(weights, options.count, options.seed, options.side)
        print(row(f"{weights}, {options.side}x{options.side}", network, images, labels))


if __name__ == "__main__":
    main()
