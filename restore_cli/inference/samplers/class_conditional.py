"""Classes and initial noise of the samplers of class-conditional networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from restore_cli.checkpoints.classes import class_number
from restore_cli.inference.samplers.request import GenerateRequest


def class_numbers(request: GenerateRequest, classes: Sequence[str], null: int) -> tuple[int, int]:
    """Return the class of a request and the one to guide away from, by default the null class.

    classes: names in the order of their numbers. Raises UsageError.
    """
    label = class_number(request.prompt, classes, null)
    if request.negative is None:
        return label, null
    return label, class_number(request.negative, classes, null)


def class_labels(
    request: GenerateRequest, classes: Sequence[str], null: int, count: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the numbers of `class_numbers` for a batch, (count,) each."""
    label, negative = class_numbers(request, classes, null)
    labels = torch.full((count,), label, device=device)
    return labels, torch.full_like(labels, negative)


def seeded_generators(seed: int, count: int) -> list[torch.Generator]:
    """Return a generator on the CPU for each image, seeded from `seed` on."""
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


def draw_noise(
    shape: tuple[int, ...], generators: Sequence[torch.Generator], device: torch.device
) -> Tensor:
    """Draw noise (B, *shape) on the CPU, so that a seed gives the same image on each device."""
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(
        device
    )
