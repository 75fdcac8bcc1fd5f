"""Training of the generators, on a folder of images for each class.

The images are small and few enough to lie on the device as a whole, so there is no loader: a
batch is a choice of rows. The random numbers of a step depend on the seed and the step alone, so a
resumed training equals an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn

from restore_cli import registry
from restore_cli.checkpoints.classes import class_weights
from restore_cli.checkpoints.load import load
from restore_cli.data.classes import ClassImages, fit_area, fit_square, load_classes
from restore_cli.errors import UsageError, WeightsMismatch
from restore_cli.inference.samplers.unet import pixel_scheduler
from restore_cli.networks.dimr.model import STEPS, DiMRConfig, noise_target, noised
from restore_cli.networks.fit.model import FiTConfig, grid_of, patchify
from restore_cli.networks.scalecrafter.unet import UNetConfig
from restore_cli.training.processes import ALONE, Processes
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

    def draw(self, rows: Tensor, drop: float, generator: Generator) -> tuple[Tensor, ...]:
        """Return all that the loss over the images `rows` needs, each tensor a row an image.

        drop: share of labels that become the null class. generator: of the device of the images.
        """

    def loss(self, network: nn.Module, *drawn: Tensor) -> Tensor:
        """Return the mean loss over the drawn images, or some of them."""


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

    def draw(self, rows: Tensor, drop: float, generator: Generator) -> tuple[Tensor, ...]:
        sizes = self.sizes[rows]
        longest = int(sizes.prod(1).max())
        data = self.tokens[rows, :longest].float() / 127.5 - 1
        t = _normal((len(rows),), generator).sigmoid()
        noise = _normal(data.shape, generator)
        labels = _drop_labels(self.labels[rows], drop, self.null, generator)
        return data, t, noise, labels, self.grids[rows, :longest], sizes

    def loss(self, network: nn.Module, *drawn: Tensor) -> Tensor:
        data, t, noise, labels, grids, sizes = drawn
        lengths = sizes.prod(1)
        mask = torch.arange(data.shape[1], device=data.device) < lengths[:, None]  # (B, N)
        x = torch.lerp(noise, data, t[:, None, None])
        grid = grids.transpose(1, 2)
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

    def draw(self, rows: Tensor, drop: float, generator: Generator) -> tuple[Tensor, ...]:
        images = _mirrored_by_parity(self.images, rows)
        t = torch.randint(len(self.alphas), rows.shape, generator=generator, device=rows.device)
        noise = _normal(images.shape, generator)
        return images, t, noise, _drop_labels(self.labels[rows // 2], drop, self.null, generator)

    def loss(self, network: nn.Module, *drawn: Tensor) -> Tensor:
        images, t, noise, labels = drawn
        alpha = self.alphas[t][:, None, None, None]
        noisy = alpha.sqrt() * images + (1 - alpha).sqrt() * noise
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * images
        output: Tensor = network(noisy, t, class_labels=labels, return_dict=False)[0]
        loss: Tensor = (output.float() - velocity).square().mean()
        return loss


class MultiResolutionNoise:
    """Noise of square images at each resolution, at any step of the diffusion (DiMR)."""

    def __init__(self, data: ClassImages, device: torch.device):
        self.images = torch.stack(data.images).to(device)
        self.labels = torch.tensor(data.labels, device=device)
        self.null = len(data.names)
        self.count = 2 * len(data.images)

    def draw(self, rows: Tensor, drop: float, generator: Generator) -> tuple[Tensor, ...]:
        images = _mirrored_by_parity(self.images, rows)
        n = torch.randint(1, STEPS + 1, rows.shape, generator=generator, device=rows.device)
        noise = _normal(images.shape, generator)
        return images, n, noise, _drop_labels(self.labels[rows // 2], drop, self.null, generator)

    def loss(self, network: nn.Module, *drawn: Tensor) -> Tensor:
        images, n, noise, labels = drawn
        terms = multi_resolution_terms(network(noised(images, n, noise), n, labels), noise)
        shares = 4.0 ** torch.arange(1 - terms.shape[1], 1, device=terms.device)
        return (terms @ shares).mean()


def multi_resolution_terms(outputs: Sequence[Tensor], noise: Tensor) -> Tensor:
    """Return the mean squared error of each image at each resolution, (B, resolutions).

    outputs: the predicted noise (B, C, H / r, W / r) of each resolution.
    """
    terms = [
        (output.float() - noise_target(noise, noise.shape[-1] // output.shape[-1])).square()
        for output in outputs
    ]
    return torch.stack([term.mean((1, 2, 3)) for term in terms], dim=1)


def _mirrored_by_parity(images: Tensor, rows: Tensor) -> Tensor:
    """Return images (B, 3, H, W) in [-1, 1]; rows: two of each image, the second mirrored."""
    mirrored = (rows % 2 == 1)[:, None, None, None]
    chosen = images[rows // 2]
    return torch.where(mirrored, chosen.flip(-1), chosen).float() / 127.5 - 1


def _normal(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def _drop_labels(labels: Tensor, share: float, null: int, generator: Generator) -> Tensor:
    dropped = torch.rand(labels.shape, generator=generator, device=labels.device) < share
    return labels.masked_fill(dropped, null)


@dataclass(frozen=True)
class GeneratorTraining:
    """Training of one network; `config` holds the fields of the network's configuration."""

    shrink: Callable[[Tensor, Mapping[str, Any]], Tensor]  # an image to the size of training
    objective: Callable[[ClassImages, Mapping[str, Any], torch.device], GeneratorObjective]
    null_classes: int = 0  # classes that `num_classes` counts beside those of the data


def _fit_area(image: Tensor, config: Mapping[str, Any]) -> Tensor:
    fit = FiTConfig(**config)
    return fit_area(image, math.isqrt(fit.context_size) * fit.patch_size, fit.patch_size)


TRAININGS: Mapping[str, GeneratorTraining] = MappingProxyType(
    {
        "fitv2": GeneratorTraining(
            _fit_area,
            lambda data, config, device: RectifiedFlow(
                data, FiTConfig(**config).patch_size, device
            ),
        ),
        "scalecrafter": GeneratorTraining(
            lambda image, config: fit_square(image, UNetConfig(**config).sample_size),
            lambda data, config, device: NoiseVelocity(data, device),
        ),
        "dimr": GeneratorTraining(
            lambda image, config: fit_square(
                image, DiMRConfig(**config).stage_configs[-1].max_height
            ),
            lambda data, config, device: MultiResolutionNoise(data, device),
            null_classes=1,
        ),
    }
)


def load_objectives(
    recipe: GeneratorRecipe, data: Path, device: torch.device
) -> tuple[GeneratorObjective, GeneratorObjective, tuple[str, ...]]:
    """Return the objectives of training and validation, and the names of the classes."""
    training, config = TRAININGS[recipe.arch], recipe.config
    parts = load_classes(data, lambda image: training.shrink(image, config))
    fitted, held_out = (training.objective(part, config, device) for part in parts)
    return fitted, held_out, parts[0].names


def validation_loss(
    network: nn.Module,
    held_out: GeneratorObjective,
    batch: int,
    device: torch.device,
    processes: Processes = ALONE,
) -> float:
    """Return the loss over held-out images, with the same noise every time."""

    @torch.inference_mode()
    def sum_of_losses(item: tuple[int, Tensor]) -> float:
        index, rows = item
        generator = Generator(device).manual_seed(VALIDATION_SEED + index)
        drawn = held_out.draw(rows, 0.0, generator)
        return held_out.loss(network, *drawn).item() * len(rows)

    rows = torch.split(torch.arange(held_out.count, device=device), batch)
    return sum(processes.map(sum_of_losses, [*enumerate(rows)])) / held_out.count


def train_generator(recipe: GeneratorRecipe, data: Path, options: TrainingOptions) -> Path:
    """Train by `recipe` on the classes in `data`; return the path of the averaged weights.

    The weights are those of the last validation: the loss of a generator says little about its
    images, so it selects none. The names of the classes are stored with the weights.
    Raises UsageError for a recipe that trains weights further where `init` names none; also the
    errors of start_budget, open_state, load_classes and run_training.
    """
    budget = start_budget(recipe, options)
    torch.manual_seed(options.seed)
    device, processes = options.device, options.processes
    share = processes.share(recipe.batch)
    objective, held_out, names = load_objectives(recipe, data, device)
    num_classes = len(names) + TRAININGS[recipe.arch].null_classes
    recipe = replace(recipe, config={**recipe.config, "num_classes": num_classes})
    network = build_network(recipe, options, names)
    state = open_state(network, lambda net: optimizer_of(recipe, net), options, budget)

    def batch_loss(progress: float) -> Tensor:
        generator = Generator(device).manual_seed(options.seed * 1_000_003 + state.step)
        rows = torch.randint(objective.count, (recipe.batch,), generator=generator, device=device)
        drawn = objective.draw(rows, recipe.label_drop, generator)
        local = [tensor[share.rows] for tensor in drawn]
        with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
            return share.weight * objective.loss(state.network, *local)

    def validate() -> Validation:
        loss = validation_loss(state.average, held_out, recipe.batch, device, processes)
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
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            part = undecayed if name.rpartition(".")[2] in recipe.undecayed else decayed
            part.append(parameter)
    groups: list[dict[str, Any]] = [{"params": decayed}]
    if undecayed:
        groups.append({"params": undecayed, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, betas=recipe.betas, weight_decay=recipe.weight_decay)


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
        raise UsageError("this preset needs initial weights", hint="name them: --init NAME|FILE")
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
