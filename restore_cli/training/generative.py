"""Training of the generators, on a folder of pictures for each class.

The pictures are small and few enough to lie on the device whole, so there is no loader: a batch
is a choice of rows. What a step draws depends on the seed and its number alone, so a resumed
training sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn

from restore_cli import registry
from restore_cli.data.classes import ClassImages, fit_area, fit_square, load_classes
from restore_cli.errors import UsageError
from restore_cli.models.fit import grid_of, patchify
from restore_cli.pipelines.generator import pixel_scheduler
from restore_cli.training.loop import (
    STATE_FILE,
    Course,
    Progress,
    State,
    Verdict,
    descend,
    refuse_another,
    refuse_finished,
)

VALIDATION_SEED = 2003


@dataclass(frozen=True)
class GenerativeRecipe:
    """One training of a generator, complete."""

    arch: str
    side: int  # of the square whose area a picture may have
    batch: int
    steps: int
    learning_rate: float
    warm_up: int = 1000  # steps; then constant, and linear to zero in the last 15 %
    ema: float = 0.9995  # decay of the averaged weights that are validated and kept
    label_drop: float = 0.1  # share of labels that become the null class
    validate_every: int = 1000  # steps
    config: Mapping[str, object] = field(default_factory=dict)


FITV2 = GenerativeRecipe(
    # About 8 million parameters; patches of 4 x 4 pixels, so 256 tokens at 64 x 64.
    arch="fitv2",
    side=64,
    batch=512,
    steps=40_000,
    learning_rate=4e-4,
    config={
        "in_channels": 3,
        "patch_size": 4,
        "hidden_size": 256,
        "depth": 8,
        "num_heads": 4,
        "adaln_lora_dim": 64,
    },
)
UNET = GenerativeRecipe(
    # About 5.5 million parameters, with the layer names of Stable Diffusion.
    arch="scalecrafter",
    side=64,
    batch=256,
    steps=40_000,
    learning_rate=2e-4,
)
RECIPES: Mapping[str, Mapping[str, GenerativeRecipe]] = MappingProxyType(
    {
        "fitv2": {
            "default": FITV2,
            # Two CPU cores in an hour: a quarter of the pixels, patches of 2 x 2.
            "quick": replace(
                FITV2,
                side=32,
                batch=32,
                steps=4_000,
                warm_up=200,
                ema=0.999,
                validate_every=400,
                config={**FITV2.config, "patch_size": 2, "depth": 6},
            ),
            # The project's own set of objects, in less than an hour of one core.
            "objects": replace(
                FITV2,
                side=32,
                batch=16,
                steps=4_000,
                learning_rate=8e-4,
                warm_up=200,
                ema=0.998,
                validate_every=500,
                config={
                    **FITV2.config,
                    "hidden_size": 192,
                    "depth": 6,
                    "adaln_lora_dim": 48,
                    "context_size": 64,
                    "ori_max_pe_len": 8,
                },
            ),
        },
        "unet": {
            "default": UNET,
            "quick": replace(
                UNET,
                side=32,
                batch=16,
                steps=6_000,
                learning_rate=3e-4,
                warm_up=200,
                ema=0.998,
                validate_every=500,
                # Attention at the deepest level alone: what sees the whole picture at once would
                # hide what happens to convolutions beyond the trained size.
                config={"sample_size": 32, "attention_levels": 1},
            ),
        },
    }
)


def find_generative(name: str, preset: str | None = None) -> GenerativeRecipe:
    """The recipe `name` in its variant `preset`. Raises UsageError."""
    presets = RECIPES[name]
    if (preset or "default") not in presets:
        raise UsageError(
            f"no preset of {name} is called {preset!r}", hint=f"one of: {', '.join(presets)}"
        )
    return presets[preset or "default"]


def rate_at(recipe: GenerativeRecipe, step: int, steps: int) -> float:
    """Linear warm-up, then constant, then linear to zero over the last 15 % of the steps."""
    rising = (step + 1) / min(recipe.warm_up, max(1, steps // 10))
    falling = (steps - step) / max(1, math.ceil(0.15 * steps))
    return recipe.learning_rate * min(1.0, rising, falling)


class Objective(Protocol):
    """What a step of a generator learns from."""

    count: int  # pictures, mirrored ones included

    def loss(self, network: nn.Module, rows: Tensor, drop: float, generator: Generator) -> Tensor:
        """The mean loss over the pictures `rows`; generator: of their device."""


class RectifiedFlow:
    """Velocities of straight lines from noise to patches of pictures of any aspect (FiTv2)."""

    def __init__(self, data: ClassImages, patch: int, device: torch.device):
        tokens, sizes = [], []
        for image in data.images:
            for view in (image, image.flip(-1)):
                tokens.append(patchify(view[None], patch)[0])
                sizes.append([side // patch for side in view.shape[-2:]])
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
        labels = _dropped(self.labels[rows], drop, self.null, generator)
        grid = self.grids[rows, :longest].transpose(1, 2)
        velocity: Tensor = network(x, t, labels, grid, mask.float(), sizes)
        squared = (velocity.float() - (data - noise)).square().mean(2) * mask
        return torch.mean(squared.sum(1) / lengths)


class NoiseVelocity:
    """Velocities from square pictures to noise, at any of the steps of a DDPM.

    As Salimans and Ho, 2022 (arXiv 2202.00512): in a short training the place and outline of an
    object, which are decided where nearly all is noise, come out sooner than by predicting noise.
    """

    def __init__(self, data: ClassImages, device: torch.device):
        self.images = torch.stack(data.images).to(device)
        self.labels = torch.tensor(data.labels, device=device)
        self.null = len(data.names)
        self.count = 2 * len(data.images)
        self.kept = pixel_scheduler().alphas_cumprod.to(device)

    def loss(self, network: nn.Module, rows: Tensor, drop: float, generator: Generator) -> Tensor:
        mirrored = (rows % 2 == 1)[:, None, None, None]
        images = self.images[rows // 2]
        images = torch.where(mirrored, images.flip(-1), images).float() / 127.5 - 1
        t = torch.randint(len(self.kept), rows.shape, generator=generator, device=rows.device)
        noise = _normal(images.shape, generator)
        kept = self.kept[t][:, None, None, None]
        noisy = kept.sqrt() * images + (1 - kept).sqrt() * noise
        velocity = kept.sqrt() * noise - (1 - kept).sqrt() * images
        labels = _dropped(self.labels[rows // 2], drop, self.null, generator)
        answer: Tensor = network(noisy, t, class_labels=labels, return_dict=False)[0]
        loss: Tensor = (answer.float() - velocity).square().mean()
        return loss


def _normal(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def _dropped(labels: Tensor, share: float, null: int, generator: Generator) -> Tensor:
    gone = torch.rand(labels.shape, generator=generator, device=labels.device) < share
    return labels.masked_fill(gone, null)


def _objectives(
    recipe: GenerativeRecipe, data: Path, device: torch.device
) -> tuple[Objective, Objective, tuple[str, ...]]:
    """What to train on, what to validate on, and the names of the classes."""
    if recipe.arch == "fitv2":
        patch = recipe.config["patch_size"]
        assert isinstance(patch, int)
        parts = load_classes(data, lambda picture: fit_area(picture, recipe.side, patch))
        flows = [RectifiedFlow(part, patch, device) for part in parts]
        return flows[0], flows[1], parts[0].names
    parts = load_classes(data, lambda picture: fit_square(picture, recipe.side))
    noises = [NoiseVelocity(part, device) for part in parts]
    return noises[0], noises[1], parts[0].names


@torch.inference_mode()
def validate(network: nn.Module, held_out: Objective, batch: int, device: torch.device) -> float:
    """The loss over held-out pictures, each with the same noise every time."""
    losses = []
    for index, rows in enumerate(torch.split(torch.arange(held_out.count, device=device), batch)):
        generator = Generator(device).manual_seed(VALIDATION_SEED + index)
        losses.append(held_out.loss(network, rows, 0.0, generator) * len(rows))
    return (torch.stack(losses).sum() / held_out.count).item()


def take_step(
    state: State,
    recipe: GenerativeRecipe,
    objective: Objective,
    steps: int,
    *,
    seed: int,
    bf16: bool,
) -> Tensor:
    """One update of the weights and of their average; the loss."""
    device = next(state.network.parameters()).device
    generator = Generator(device).manual_seed(seed * 1_000_003 + state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = rate_at(recipe, state.step, steps)
    rows = torch.randint(objective.count, (recipe.batch,), generator=generator, device=device)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        loss = objective.loss(state.network, rows, recipe.label_drop, generator)
    return descend(state, loss, recipe.ema)


def fit_classes(
    recipe: GenerativeRecipe,
    data: Path,
    out: Path,
    *,
    steps: int | None = None,
    time_limit: float | None = None,
    resume: bool = False,
    device: torch.device,
    bf16: bool = False,
    seed: int = 0,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Train by `recipe` on the classes in `data`; the path of the averaged weights in `out`.

    As loop.fit, but the weights are those of the last validation: the loss of a flow says little
    of its pictures, so it chooses none. The names of the classes stand in the weights' record.
    """
    steps = steps or recipe.steps
    began = time.monotonic()
    torch.manual_seed(seed)
    refuse_another(out, resume=resume)
    objective, held_out, names = _objectives(recipe, data, device)
    config = {**recipe.config, "num_classes": len(names)}
    state = _open(recipe.arch, config, out / STATE_FILE, device)
    refuse_finished(state, out, steps)

    def losses() -> Iterator[Tensor]:
        while True:
            yield take_step(state, recipe, objective, steps, seed=seed, bf16=bf16)

    def judge() -> Verdict:
        score = validate(state.average, held_out, recipe.batch, device)
        record = {"classes": list(names), "validation_loss": score}
        return Verdict({"validation_loss": score}, better=True, record=record)

    course = Course(
        recipe.arch,
        config,
        state,
        out,
        steps,
        recipe.validate_every,
        seed,
        time_limit,
        on_progress,
    )
    return course.run(losses(), judge, began)


def _open(arch: str, config: Mapping[str, Any], path: Path, device: torch.device) -> State:
    """A new state, or the one in `path`. Raises WeightsMismatch."""
    network = registry.build(arch, **config).to(device)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    state = State(network, average, torch.optim.AdamW(network.parameters(), weight_decay=0.0))
    if path.exists():
        state.resume(path, device)
    return state
