"""Recipe of a training: with the same data and seed, it gives the same weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch.optim import Adam, Optimizer

from restore_cli.data.pairs import Degrade, IsUsable
from restore_cli.training.objectives import Objective, Preprocessing, rgb, supervised
from restore_cli.training.schedule import BY_STEPS, GENERATIVE, Schedule


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings that all trainings share."""

    arch: str
    batch: int  # images
    steps: int
    learning_rate: float  # of the optimizer, at its peak
    schedule: Schedule = BY_STEPS  # of the learning rate; BY_CLOCK where a time ends the training
    ema: float = 0.999  # decay of the averaged weights that are validated and kept
    validate_every: int = 500  # steps
    config: Mapping[str, Any] = field(default_factory=dict)  # of the network


@dataclass(frozen=True, kw_only=True)
class RestorationRecipe(Recipe):
    """Training of a network that restores photographs."""

    degrade: Degrade
    loss: str  # a key of losses.LOSSES
    patch: int  # side of the network's input, pixels
    optimizer: Callable[[list[dict[str, Any]]], Optimizer] = Adam  # of parameter groups
    validation_patch: int = 128  # side of the crop of a held-out photograph, pixels
    scale: int = 1  # above 1: the input is the photograph reduced by this factor
    pre_upscaled: bool = False  # and enlarged again, for a network that keeps the size
    grey: bool = False  # train on luma
    zooms: tuple[float, ...] = (1.0,)  # sizes in which photographs are used
    last_layer: str | None = None  # solved if the loss is mse; only a pixel shuffle follows it
    last_layer_rate: float = 1.0  # its learning rate between the solutions, relative to the others
    candidates: int = 1  # random crops, of which the one with the highest contrast is used
    preprocessing: Preprocessing = rgb
    objective: Objective = supervised
    whole_size: tuple[int, int] | None = None  # (H, W) of whole photographs, stretched: no crops
    scene: Degrade | None = None  # added to photographs first, so that the target has it too
    is_usable: IsUsable | None = None  # photographs of which it is false are left out
    freeze_norms_at: float = 1.0  # progress from which batch norms keep their statistics
    paired: bool = True  # False: `degrade` changes nothing, since no clean image is known


@dataclass(frozen=True, kw_only=True)
class GeneratorRecipe(Recipe):
    """Training of a class-conditional generator."""

    schedule: Schedule = GENERATIVE
    ema: float = 0.9995
    validate_every: int = 1000
    label_drop: float = 0.1  # share of labels that become the null class
    betas: tuple[float, float] = (0.9, 0.999)  # of AdamW
    weight_decay: float = 0.0
    undecayed: tuple[str, ...] = ()  # last parts of the names of parameters without decay
    trainable: tuple[str, ...] = ()  # parts of names of the parameters that learn; (): all learn
