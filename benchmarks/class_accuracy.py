"""Are generated things what they should be? A small classifier of shapes says.

    python benchmarks/class_accuracy.py fitv2.default scalecrafter.default --count 8
    python benchmarks/class_accuracy.py fitv2.default --side 64

It is trained here, within a minute, on drawn images (restore_cli.data.objects) in grey and of
normal contrast: colours would tell the classes apart by themselves. Measured: the share of images
that it takes for the class they were made for, of images drawn anew and of generated ones, and
how many objects they hold. It sees larger images reduced to its own size.
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
from restore_cli.inference.samplers.diffusion import (
    FiTRequest,
    FiTSampler,
    UNetRequest,
    UNetSampler,
)
from restore_cli.networks.fit.model import FiT

SIDE = 32
CLASSES = tuple(DRAWERS)
NOISE = 0.1  # at most, of the images that it learns: generated ones are not quite clean


def shapes(images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H, W), distance of each pixel from the ground, deviation 1."""
    ground = images.flatten(2).median(2).values[..., None, None]
    distance = (images - ground).norm(dim=1, keepdim=True)
    return distance / distance.std((1, 2, 3), keepdim=True).clamp(min=1e-3)


def drawn(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """(images, labels), `count` of each class; half of them mirrored."""
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
        spread = NOISE * torch.rand(batch, 1, 1, 1, generator=generator)
        noise = spread * torch.randn((batch, 3, SIDE, SIDE), generator=generator)
        loss = F.cross_entropy(network(shapes(images[rows] + noise)), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def generated(weights: str, count: int, seed: int, side: int) -> tuple[Tensor, Tensor]:
    """(images, labels) with the settings that `restore generate` takes by itself."""
    size = side, side
    module = load_checkpoint(weights).module
    names = class_weights(weights).classes
    made = []
    for label, _ in enumerate(names):
        if isinstance(module, FiT):
            made.append(FiTSampler(module)(FiTRequest(label, size, count, seed)))
        else:
            made.append(UNetSampler(module)(UNetRequest(label, size, count, seed)))
    labels = torch.tensor([CLASSES.index(name) for name in names]).repeat_interleave(count)
    return torch.cat(made), labels


@torch.inference_mode()
def line(what: str, network: nn.Module, images: Tensor, labels: Tensor) -> str:
    reduced = torch.stack([resize_matlab(one, SIDE, SIDE).clamp(0, 1) for one in images])
    right = network(shapes(reduced)).argmax(1) == labels
    worst = min(CLASSES, key=lambda name: right[labels == CLASSES.index(name)].float().mean())
    share = right[labels == CLASSES.index(worst)].float().mean()
    whole = [image for image, label in zip(images, labels, strict=True) if label]  # no balls
    one = sum(count_objects(image, trained=SIDE) == 1 for image in whole) / len(whole)
    return (
        f"| {what} | {len(images)} | {right.float().mean():.0%} | {worst} {share:.0%} | {one:.0%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="+")
    parser.add_argument("--count", type=int, default=8, help="of images of each class")
    parser.add_argument("--seed", type=int, default=2000)
    parser.add_argument("--side", type=int, default=SIDE, help="of the generated images, pixels")
    options = parser.parse_args()
    network = classifier(Generator().manual_seed(0))
    print("| images of | images | taken for their class | worst class | one object |")
    print("| --- | --- | --- | --- | --- |")
    print(line("the set, drawn anew", network, *drawn(20, Generator().manual_seed(1))))
    for weights in options.weights:
        images, labels = generated(weights, options.count, options.seed, options.side)
        print(line(f"{weights}, {options.side}x{options.side}", network, images, labels))


if __name__ == "__main__":
    main()
