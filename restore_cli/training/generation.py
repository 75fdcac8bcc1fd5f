"""Training of the generators, on a folder of images for each class.

The images are small and few enough to lie on the device as a whole, so there is no loader: a
batch is a choice of rows. The random numbers of a step depend on the seed and the step alone, so a
resumed training equals an uninterrupted one.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Generator, Tensor, nn

from restore_cli import registry
from restore_cli.checkpoints.classes import class_weights
from restore_cli.checkpoints.load import load
from restore_cli.data.classes import ClassImages, fit_area, fit_square, load_classes
from restore_cli.errors import UsageError, WeightsMismatch
from restore_cli.inference.samplers.unet import pixel_scheduler
from restore_cli.networks.fit.model import FiTConfig, grid_of, patchify
from restore_cli.networks.scalecrafter.unet import UNetConfig
from restore_cli.training.recipe import GeneratorRecipe
from restore_cli.training.trainer import (
    STATE_FILE,
    TrainingOptions,
    Validation,
    initialize_from,
    open_state,
    run_training,
    start_budget,
)

VALIDATION_SEED = 2003


class GeneratorObjective(Protocol):
    """Images and loss of a generator."""

    count: int  # images, including mirrored ones

    def loss(self, network: nn.Module, rows: Tensor, drop: float, generator: Generator) -> Tensor:
        """Return the mean loss over the images `rows`.

        drop: share of labels that become the null class. generator: of the device of the images.
        """


class RectifiedFlow:
    """Velocities of straight lines from noise to patches of images of any aspect ratio (FiTv2)."""

    def __init__(self, data: ClassImages, patch: int, device: torch.device):
        tokens, sizes = [], []
        for image in data.images:
            for mirrored in (image, image.flip(-1)):
                tokens.append(patchify(mirrored[None], patch)[0])
                sizes.append([side // patch for side in mirrored.shape[-2:]])
        self.count = len(tokens)
        # (2 M, N, F) uint8, padded at the end
        self.tokens = nn.utils.rnn.pad_sequence(tokens, batch_first=True).to(device)
        self.sizes = torch.tensor(sizes, device=device)
        self.labels = torch.tensor(data.labels, device=device).repeat_interleave(2)
        self.null = len(data.names)
        grids = {size: grid_of(*size).T for size in {(h, w) for h, w in sizes}}
        self.grids = nn.utils.rnn.pad_sequence(
            [grids[h, w] for h, w in sizes], batch_first=True
        ).to(device)  # (2 M, N, 2)

    def loss(self, network: nn.Module, rows: Tensor, drop: float, generator: Generator) -> Tensor:
        sizes = self.sizes[rows]
        lengths = sizes.prod(1)
        longest = int(lengths.max())
        mask = torch.arange(longest, device=rows.device) < lengths[:, None]  # (B, N)
        data = self.tokens[rows, :longest].float() / 127.5 - 1
        t = _normal((len(rows),), generator).sigmoid()
        noise = _normal(data.shape, generator)
        x = torch.lerp(noise, data, t[:, None, None])
        labels = _drop_labels(self.labels[rows], drop, self.null, generator)
        grid = self.grids[rows, :longest].transpose(1, 2)
        velocity: Tensor = network(x, t, labels, grid, mask.float(), sizes)
        squared = (velocity.float() - (data - noise)).square().mean(2) * mask
        return torch.mean(squared.sum(1) / lengths)


class NoiseVelocity:
    """Velocities from square images to noise, at any step of a DDPM.

    Salimans and Ho, 2022 (arXiv 2202.00512). In a short training, place and outline of an object,
    which are decided at high noise, are learned sooner than by predicting the noise.
    """

    def __init__(self, data: ClassImages, device: torch.device):
        self.images = torch.stack(data.images).to(device)
        self.labels = torch.tensor(data.labels, device=device)
        self.null = len(data.names)
        self.count = 2 * len(data.images)
        self.alphas = pixel_scheduler().alphas_cumprod.to(device)

    def loss(self, network: nn.Module, rows: Tensor, drop: float, generator: Generator) -> Tensor:
        mirrored = (rows % 2 == 1)[:, None, None, None]
        images = self.images[rows // 2]
        images = torch.where(mirrored, images.flip(-1), images).float() / 127.5 - 1
        t = torch.randint(len(self.alphas), rows.shape, generator=generator, device=rows.device)
        noise = _normal(images.shape, generator)
        alpha = self.alphas[t][:, None, None, None]
        noisy = alpha.sqrt() * images + (1 - alpha).sqrt() * noise
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * images
        labels = _drop_labels(self.labels[rows // 2], drop, self.null, generator)
        output: Tensor = network(noisy, t, class_labels=labels, return_dict=False)[0]
        loss: Tensor = (output.float() - velocity).square().mean()
        return loss


def _normal(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def _drop_labels(labels: Tensor, share: float, null: int, generator: Generator) -> Tensor:
    dropped = torch.rand(labels.shape, generator=generator, device=labels.device) < share
    return labels.masked_fill(dropped, null)


def load_objectives(
    recipe: GeneratorRecipe, data: Path, device: torch.device
) -> tuple[GeneratorObjective, GeneratorObjective, tuple[str, ...]]:
    """Return the objectives of training and validation, and the names of the classes."""
    if recipe.arch == "fitv2":
        fit = FiTConfig(**recipe.config)
        patch = fit.patch_size
        area = math.isqrt(fit.context_size) * patch
        parts = load_classes(data, lambda image: fit_area(image, area, patch))
        flows = [RectifiedFlow(part, patch, device) for part in parts]
        return flows[0], flows[1], parts[0].names
    side = UNetConfig(**recipe.config).sample_size
    parts = load_classes(data, lambda image: fit_square(image, side))
    noises = [NoiseVelocity(part, device) for part in parts]
    return noises[0], noises[1], parts[0].names


@torch.inference_mode()
def validation_loss(
    network: nn.Module, held_out: GeneratorObjective, batch: int, device: torch.device
) -> float:
    """Return the loss over held-out images, with the same noise every time."""
    losses = []
    for index, rows in enumerate(torch.split(torch.arange(held_out.count, device=device), batch)):
        generator = Generator(device).manual_seed(VALIDATION_SEED + index)
        losses.append(held_out.loss(network, rows, 0.0, generator) * len(rows))
    return (torch.stack(losses).sum() / held_out.count).item()


def train_generator(recipe: GeneratorRecipe, data: Path, options: TrainingOptions) -> Path:
    """Train by `recipe` on the classes in `data`; return the path of the averaged weights.

    The weights are those of the last validation: the loss of a generator says little about its
    images, so it selects none. The names of the classes are stored with the weights.
    Raises UsageError for a recipe that trains weights further where `init` names none; also the
    errors of start_budget, open_state, load_classes and run_training.
    """
    budget = start_budget(recipe, options)
    torch.manual_seed(options.seed)
    device = options.device
    objective, held_out, names = load_objectives(recipe, data, device)
    recipe = replace(recipe, config={**recipe.config, "num_classes": len(names)})
    network = build_network(recipe, options, names)
    state = open_state(network, lambda net: optimizer_of(recipe, net), options, budget)

    def batch_loss(progress: float) -> Tensor:
        generator = Generator(device).manual_seed(options.seed * 1_000_003 + state.step)
        rows = torch.randint(objective.count, (recipe.batch,), generator=generator, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
            return objective.loss(state.network, rows, recipe.label_drop, generator)

    def validate() -> Validation:
        loss = validation_loss(state.average, held_out, recipe.batch, device)
        record = {"classes": list(names), "validation_loss": loss}
        return Validation({"validation_loss": loss}, record, score=None)

    if options.time_limit is not None:  # its duration has to be known
        began = budget.now()
        validate()
        budget.validated(began)
    return run_training(recipe, state, options, budget, batch_loss, validate)


def optimizer_of(recipe: GeneratorRecipe, network: nn.Module) -> torch.optim.AdamW:
    """Return the optimizer of the trainable parameters; the others are frozen."""
    for name, parameter in network.named_parameters():
        trainable = not recipe.trainable or any(part in name for part in recipe.trainable)
        parameter.requires_grad_(trainable)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, weight_decay=0.0)


def build_network(
    recipe: GeneratorRecipe, options: TrainingOptions, names: tuple[str, ...]
) -> nn.Module:
    """Return a new network with the initial weights, if any. Raises UsageError, WeightsError."""
    network = registry.build(recipe.arch, **recipe.config)
    if options.init is not None:
        initial = load(options.init)
        if recipe.trainable:
            _refuse_other_layers(network, initial, options.init, names)
        initialize_from(network, initial)
    elif recipe.trainable and not (options.out / STATE_FILE).exists():
        raise UsageError("this preset trains weights further", hint="name them: --init NAME|FILE")
    return network


def _refuse_other_layers(
    network: nn.Module, initial: nn.Module, name: str, classes: tuple[str, ...]
) -> None:
    """Raise WeightsMismatch unless the initial weights fit, since some of them never change."""
    shapes, initial_shapes = (
        {key: value.shape for key, value in module.state_dict().items()}
        for module in (network, initial)
    )
    if initial_shapes != shapes or class_weights(name).classes not in ((), classes):
        raise WeightsMismatch(
            f"{name} has other layers or classes than this training",
            hint="start from weights of the same preset, trained on the same classes",
        )
