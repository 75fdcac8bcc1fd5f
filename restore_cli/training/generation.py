"""Training of the generators, on a folder of images for each class.

The images are small and few enough to lie on the device whole, so there is no loader: a batch
is a choice of rows. What a step draws depends on the seed and its number alone, so a resumed
training sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
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
from restore_cli.inference.samplers.diffusion import UNetConfig, pixel_scheduler
from restore_cli.networks.fit.model import FiTConfig, grid_of, high_resolution, patchify
from restore_cli.training.schedule import GENERATIVE, Budget, Schedule
from restore_cli.training.trainer import (
    STATE_FILE,
    Progress,
    Run,
    State,
    Verdict,
    begin_with,
    refuse_another,
    refuse_finished,
)

VALIDATION_SEED = 2003
# What FiTv2 learns beyond its trained size, by parts of names; LN means adaLN. 14 % of FiTv2-XL/2.
HIGH_RESOLUTION = ("x_embedder", "bias", "LN", "final_layer")


@dataclass(frozen=True)
class GenerativeRecipe:
    """One training of a generator, complete."""

    arch: str
    batch: int
    steps: int
    learning_rate: float
    schedule: Schedule = GENERATIVE
    ema: float = 0.9995  # decay of the averaged weights that are validated and kept
    label_drop: float = 0.1  # share of labels that become the null class
    validate_every: int = 1000  # steps
    config: Mapping[str, Any] = field(default_factory=dict)
    only: tuple[str, ...] = ()  # learns what has one of these in its name, the rest stays; (): all


def warmed_up_by(progress: float) -> Schedule:
    return replace(GENERATIVE, warm_up=progress)


def at_high_resolution(recipe: GenerativeRecipe, **changes: Any) -> GenerativeRecipe:
    """How FiTv2-HR is made of what `recipe` made: twice the side, and few parameters learn.

    The released recipe draws those anew; here they go on from what they are.
    """
    before = FiTConfig(**recipe.config)
    after = asdict(high_resolution(before))
    changed = {name: value for name, value in after.items() if value != getattr(before, name)}
    return replace(recipe, config={**recipe.config, **changed}, only=HIGH_RESOLUTION, **changes)


FITV2 = GenerativeRecipe(
    # About 8 million parameters; patches of 4 x 4 pixels, so 256 tokens at 64 x 64.
    arch="fitv2",
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
    batch=256,
    steps=40_000,
    learning_rate=2e-4,
)
FITV2_OBJECTS = replace(
    # The project's own set of objects, in less than an hour of one core.
    FITV2,
    batch=16,
    steps=4_000,
    learning_rate=8e-4,
    schedule=warmed_up_by(0.05),
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
)
RECIPES: Mapping[str, Mapping[str, GenerativeRecipe]] = MappingProxyType(
    {
        "fitv2": {
            "default": FITV2,
            # Two CPU cores in an hour: a quarter of the pixels, patches of 2 x 2.
            "quick": replace(
                FITV2,
                batch=32,
                steps=4_000,
                schedule=warmed_up_by(0.05),
                ema=0.999,
                validate_every=400,
                config={**FITV2.config, "patch_size": 2, "depth": 6},
            ),
            "objects": FITV2_OBJECTS,
            # As many tokens a step as before.
            "hr": at_high_resolution(
                FITV2, batch=128, steps=10_000, learning_rate=1e-4, schedule=warmed_up_by(0.0)
            ),
            "objects_hr": at_high_resolution(FITV2_OBJECTS, steps=4_000),
        },
        "unet": {
            "default": UNET,
            "quick": replace(
                UNET,
                batch=16,
                steps=6_000,
                learning_rate=3e-4,
                schedule=warmed_up_by(0.033),
                ema=0.998,
                validate_every=500,
                # Attention at the deepest level alone: what sees the whole image at once would
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


class Objective(Protocol):
    """What a step of a generator learns from."""

    count: int  # images, mirrored ones included

    def loss(self, network: nn.Module, rows: Tensor, drop: float, generator: Generator) -> Tensor:
        """The mean loss over the images `rows`; generator: of their device."""


class RectifiedFlow:
    """Velocities of straight lines from noise to patches of images of any aspect (FiTv2)."""

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
    """Velocities from square images to noise, at any of the steps of a DDPM.

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
def validate(network: nn.Module, held_out: Objective, batch: int, device: torch.device) -> float:
    """The loss over held-out images, each with the same noise every time."""
    losses = []
    for index, rows in enumerate(torch.split(torch.arange(held_out.count, device=device), batch)):
        generator = Generator(device).manual_seed(VALIDATION_SEED + index)
        losses.append(held_out.loss(network, rows, 0.0, generator) * len(rows))
    return (torch.stack(losses).sum() / held_out.count).item()


def fit_classes(
    recipe: GenerativeRecipe,
    data: Path,
    out: Path,
    *,
    steps: int | None = None,
    time_limit: float | None = None,
    began: float | None = None,
    resume: bool = False,
    init: str | None = None,
    device: torch.device,
    bf16: bool = False,
    seed: int = 0,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Train by `recipe` on the classes in `data`; the path of the averaged weights in `out`.

    As loop.fit, but the weights are those of the last validation: the loss of a flow says little
    of its images, so it chooses none. The names of the classes stand in the weights' record.
    Raises UsageError for a recipe that trains weights further, where `init` names none.
    """
    if steps is None and time_limit is None:
        steps = recipe.steps
    budget = Budget(
        steps, time_limit, recipe.validate_every, time.monotonic() if began is None else began
    )
    torch.manual_seed(seed)
    refuse_another(out, resume=resume)
    objective, held_out, names = _objectives(recipe, data, device)
    config = {**recipe.config, "num_classes": len(names)}
    state = _open(replace(recipe, config=config), out / STATE_FILE, device, init, names)
    refuse_finished(state, out, steps)

    def loss_at(progress: float) -> Tensor:
        draws = Generator(device).manual_seed(seed * 1_000_003 + state.step)
        rows = torch.randint(objective.count, (recipe.batch,), generator=draws, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return objective.loss(state.network, rows, recipe.label_drop, draws)

    def judge() -> Verdict:
        score = validate(state.average, held_out, recipe.batch, device)
        record = {"classes": list(names), "validation_loss": score}
        return Verdict({"validation_loss": score}, better=True, record=record)

    if time_limit is not None:
        first = budget.now()
        validate(state.average, held_out, recipe.batch, device)
        budget.validated(first)
    run = Run(recipe.arch, config, state, out, budget, seed, on_progress)
    return run.train(recipe, loss_at, judge)


def _open(
    recipe: GenerativeRecipe,
    path: Path,
    device: torch.device,
    init: str | None,
    names: tuple[str, ...],
) -> State:
    """A new state, or the one in `path`. Raises UsageError, WeightsError."""
    network = registry.build(recipe.arch, **recipe.config)
    if init is not None:
        _begin(recipe, network, init, names)
    elif recipe.only and not path.exists():
        raise UsageError("this preset trains weights further", hint="name them: --init NAME|FILE")
    network.to(device)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        parameter.requires_grad = not recipe.only or any(part in name for part in recipe.only)
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    state = State(network, average, torch.optim.AdamW(learning, weight_decay=0.0))
    if path.exists():
        state.resume(path)
    return state


def _begin(recipe: GenerativeRecipe, network: nn.Module, init: str, names: tuple[str, ...]) -> None:
    """Give `network` the weights `init`: where some will never learn, they must all fit."""
    other = load(init)
    if recipe.only:
        shapes, own = (
            {key: value.shape for key, value in module.state_dict().items()}
            for module in (other, network)
        )
        if shapes != own or class_weights(init).classes not in ((), names):
            raise WeightsMismatch(
                f"{init} has other layers or classes than this training",
                hint="begin with weights of the same preset, trained on the same classes",
            )
    begin_with(network, other)
