"""How each bundled weight file is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from torch.optim import Adam, Optimizer

from restore_cli.data.degrade import nothing, random_rain
from restore_cli.data.degrade_real import PhotoDegradation, random_jpeg
from restore_cli.data.lowlight import random_exposure, random_low_light
from restore_cli.data.noise import random_any_noise, random_noise
from restore_cli.data.pairs import Degrade, IsUsable
from restore_cli.data.scenes import random_scene
from restore_cli.data.whole_images import is_normal
from restore_cli.errors import UsageError
from restore_cli.training.losses import LOSSES
from restore_cli.training.objectives import (
    Feed,
    LossStep,
    imagenet,
    plain,
    self_supervised,
    standardized,
    standardized_together,
    supervised,
    supervised_blind_too,
)
from restore_cli.training.schedule import BY_STEPS, Schedule
from restore_cli.training.soap import SOAP

T = TypeVar("T")


@dataclass(frozen=True)
class Recipe:
    """One training, complete: the same recipe, data and seed give the same weights."""

    arch: str
    degrade: Degrade
    loss: str  # a key of losses.LOSSES
    patch: int  # pixels, of what the network is given
    batch: int
    steps: int
    learning_rate: float  # of the optimizer at its peak
    optimizer: Callable[[list[dict[str, Any]]], Optimizer] = Adam  # of groups of parameters
    schedule: Schedule = BY_STEPS  # of the learning rate; BY_CLOCK where a time ends the training
    ema: float = 0.999  # decay of the averaged weights that are validated and kept
    validate_every: int = 500  # steps
    validation_patch: int = 128  # pixels, of a held-out photograph
    config: Mapping[str, object] = field(default_factory=dict)
    scale: int = 1  # above 1: the network is given photographs reduced so many times
    pre_upscaled: bool = False  # and enlarged again, for a network that keeps the size
    grey: bool = False  # train on luma
    zooms: tuple[float, ...] = (1.0,)  # photographs are taken in these sizes
    last_layer: str | None = None  # followed by a pixel shuffle alone: solved, if the loss is mse
    last_pace: float = 1.0  # times the learning rate, between the solutions
    candidates: int = 1  # random crops, of which the one with the highest contrast is taken
    feed: Feed = plain  # how images reach the network
    loss_step: LossStep = supervised
    view: tuple[int, int] | None = None  # (H, W) that whole photographs are stretched to: no crops
    scene: Degrade | None = None  # put into photographs first, so that the target has it too
    is_usable: IsUsable | None = None  # photographs of which it is false are left out
    norms_settle: float = 1.0  # from this share of the steps on, batch norm keeps its statistics
    paired: bool = True  # False: `degrade` leaves images as they are, nothing clean is known


# On a GPU, whose steps are too short to renew the directions of each layer at every tenth.
SELDOM_SOAP = partial(SOAP, every=100)

DPENET = Recipe(
    # The paper trains one model per set; this one is meant for any rain, so it sees the mix.
    arch="dpenet",
    degrade=random_rain,
    scene=random_scene,
    loss="log_error",
    patch=128,  # streaks are up to 95 px long
    batch=16,
    steps=10_000,
    learning_rate=1.5e-3,
    optimizer=SELDOM_SOAP,
    validation_patch=256,
    zooms=(1.0, 0.7),  # smaller copies have no traces of JPEG, so they are clean
)
DPENET_ADAM = replace(
    DPENET, loss="l1", learning_rate=1e-3, optimizer=Adam, validation_patch=128, zooms=(1.0,)
)

ESPCN = Recipe(
    # Mean squared error as in the paper; SOAP instead of its hand-made steps of plain descent.
    arch="espcn",
    degrade=nothing,
    loss="mse",
    patch=48,  # the paper: 17; at the border of a crop the network sees zeros, as in no photograph
    batch=16,
    steps=20_000,
    learning_rate=3e-3,
    optimizer=SOAP,
    validate_every=500,
    config={"scale": 3},
    scale=3,
    grey=True,
    zooms=(1.0, 0.8, 0.6),  # smaller copies have sharper edges, and no traces of JPEG
    candidates=2,
    last_layer="subpixel",
    last_pace=0.1,  # sec. 3.2
)

CBSN = Recipe(
    # The paper's: noisy photographs alone, none of them clean, each network learns its camera.
    arch="cbsn",
    degrade=nothing,
    loss="l1",
    patch=120,  # a multiple of both strides
    batch=4,
    steps=20_000,
    learning_rate=3e-4,
    validation_patch=120,
    config={"channels": 32, "num_module": 5},
    loss_step=self_supervised,
    paired=False,
)

# With clean photographs and made noise, for weights that suit any camera; learning from one's own
# noisy photographs may go on from there.
CBSN_CAMERA = replace(
    CBSN,
    degrade=random_noise,
    learning_rate=1e-3,
    validation_patch=128,
    feed=standardized,
    loss_step=supervised,
    paired=True,
)

CBSN_FAST = replace(
    # 173 thousand multiply-adds a pixel of the 3.65 million of the published size. Channels not
    # divisible by 16 gave a gradient of NaN in bfloat16 on a CPU (torch 2.13).
    CBSN_CAMERA,
    degrade=random_any_noise,
    loss="log_error",
    patch=80,
    batch=6,
    steps=10_000,
    learning_rate=2e-3,
    optimizer=SOAP,
    validation_patch=256,
    config={"channels": 32, "num_module": 6},
    zooms=(1.0, 0.7, 1.4),  # enlarged: as soft as photographs are in their full size
    feed=standardized_together,
    loss_step=supervised_blind_too,
)

MIRNET = Recipe(
    # Official training script: patches of 128 px, batch 16, Adam, Charbonnier loss; it clamps the
    # output before the loss, which leaves what is out of range without a gradient. A network of
    # a twelfth of the size learns from a higher rate than its 2e-4.
    arch="mirnet",
    degrade=random_noise,
    loss="charbonnier",
    patch=128,
    batch=16,
    steps=40_000,
    learning_rate=5e-4,
    validate_every=1_000,
    # 2.66 M parameters, 5.1 MiB in half precision; 620 thousand multiply-adds a pixel of the
    # 7.3 million of the published size.
    config={"n_feat": 32, "n_RRG": 2, "n_MSRB": 1},
    zooms=(1.0, 0.7),  # smaller copies have no traces of JPEG, so they are clean
)
# 0.67 M parameters, 156 thousand multiply-adds a pixel: for a CPU.
MIRNET_SMALL = {"n_feat": 16, "n_RRG": 2, "n_MSRB": 1}


def _mirnet_upscaling(scale: int) -> Recipe:
    """The network sees about 128 px of the enlarged image."""
    patch = MIRNET.patch // scale // 4 * 4  # enlarged, still a multiple of 4
    return replace(
        MIRNET,
        degrade=nothing,
        scale=scale,
        pre_upscaled=True,
        patch=patch,
        validation_patch=patch,
        config={**MIRNET.config, "scale": scale},
        zooms=ESPCN.zooms,
        candidates=ESPCN.candidates,
    )


def _mirnet_subpixel(scale: int) -> Recipe:
    """The network sees 48 px of the low-resolution image: 16 times as fast per output at x4."""
    return replace(
        _mirnet_upscaling(scale),
        pre_upscaled=False,
        patch=48,
        validation_patch=48,
        learning_rate=3e-3,
        optimizer=SOAP,
        validate_every=250,
        # 1.5 M parameters, 350 thousand multiply-adds per low-resolution pixel.
        config={"n_feat": 24, "n_RRG": 2, "n_MSRB": 1, "scale": scale, "upsampler": "subpixel"},
    )


def _mirnet_real(scale: int) -> Recipe:
    """Of the sub-pixel network, whose weights are where to begin (--init)."""
    return replace(
        _mirnet_subpixel(scale),
        degrade=PhotoDegradation(),
        loss="photo",
        learning_rate=1e-3,
        zooms=(0.7, 0.5),  # photographs in full size have traces of JPEG themselves
    )


MIRNET_TASKS = {
    "denoise": MIRNET,
    "enhance": replace(MIRNET, degrade=random_low_light),
    "sr_x2": _mirnet_upscaling(2),
    "sr_x3": _mirnet_upscaling(3),
    "sr_x4": _mirnet_upscaling(4),
}


def _small(recipe: Recipe) -> Recipe:
    return replace(
        recipe,
        learning_rate=2e-3,
        optimizer=SELDOM_SOAP,
        validation_patch=2 * recipe.patch,
        validate_every=250,
        config={**recipe.config, **MIRNET_SMALL},
    )


MIRNET_SMALL_TASKS = {f"{task}_small": _small(recipe) for task, recipe in MIRNET_TASKS.items()}
MIRNET_SMALL_TASKS["denoise_small"] = replace(
    MIRNET_SMALL_TASKS["denoise_small"], degrade=random_any_noise, loss="log_error"
)

TML = Recipe(
    # Both models at once, each of their outputs against the photograph. A network of a quarter of
    # the published size learns from a higher rate than the 1e-4 that are usual for such.
    arch="tml",
    degrade=random_exposure,
    loss="smooth_l1",
    patch=160,
    batch=4,
    steps=4_000,
    learning_rate=1e-3,
    ema=0.99,
    validate_every=100,
    validation_patch=160,
    # 5.4 M parameters, 10.2 MiB in half precision. A square is as far from upright images as
    # from wide ones.
    config={"pm_stem": 32, "em_stem": 16, "nominal_size": (160, 160)},
    feed=imagenet,
    view=(160, 160),
    is_usable=is_normal,
    # How bright an image is must not be taken from the others of its batch.
    norms_settle=0.4,
)


def _tml_of_size(nominal: tuple[int, int], pm_stem: int = 32, em_stem: int = 16) -> Recipe:
    config = {"pm_stem": pm_stem, "em_stem": em_stem, "nominal_size": nominal}
    height, width = nominal
    return replace(
        TML, batch=8, patch=width, validation_patch=width, view=(height, width), config=config
    )


RECIPES: Mapping[str, Mapping[str, Recipe]] = MappingProxyType(
    {
        "dpenet": {
            "default": DPENET,
            # Two CPU cores in half an hour: smaller patches, fewer steps.
            "quick": replace(DPENET_ADAM, patch=64, batch=4, steps=2_000, validate_every=200),
            # Official training script: batch 18 of 128 x 128, 100 epochs of 1800 pairs.
            "paper": replace(DPENET_ADAM, loss="ssim_edge", batch=18),
        },
        "espcn": {
            "default": ESPCN,
        },
        "cbsn": {
            "default": CBSN,
            # Its rate halves every 100,000 steps; here as the schedule has it.
            "paper": replace(CBSN, learning_rate=1e-4, steps=500_000, config={}),
            "camera": CBSN_CAMERA,
            "fast": CBSN_FAST,
            # For a GPU: 10 minutes.
            "c64m8": replace(
                CBSN_FAST,
                patch=120,
                batch=12,
                optimizer=SELDOM_SOAP,
                config={"channels": 64, "num_module": 8},
            ),
        },
        "mirnet": {
            "default": MIRNET,
            **MIRNET_TASKS,
            **MIRNET_SMALL_TASKS,
            **{f"sr_x{scale}_sub": _mirnet_subpixel(scale) for scale in (2, 3, 4)},
            **{f"real_x{scale}": _mirnet_real(scale) for scale in (2, 4)},
            "jpeg": replace(
                MIRNET,
                degrade=random_jpeg,
                patch=96,
                batch=8,
                learning_rate=3e-3,
                optimizer=SOAP,
                validate_every=250,
                config={**MIRNET.config, **MIRNET_SMALL},
                zooms=(0.7, 0.5),
            ),
            # The network of the paper on its patches; it took 60 epochs of 96,000 of them.
            "paper": replace(MIRNET, config={}, learning_rate=2e-4, steps=360_000),
        },
        "tml": {
            "default": TML,
            # A quarter of the pixels: two CPU cores in half an hour. Its weights are a beginning
            # for the default's (--init).
            "quick": _tml_of_size((80, 80)),
            # The published widths and size.
            "paper": replace(
                _tml_of_size((400, 640), pm_stem=64, em_stem=32),
                learning_rate=1e-4,
                steps=100_000,
            ),
        },
    }
)


def find_recipe(
    name: str, *, preset: str | None = None, loss: str | None = None, scale: int | None = None
) -> Recipe:
    """The recipe `name` in its variant `preset`, with another loss or scale if one is named."""
    presets = _choose(RECIPES, name, "recipe")
    recipe = _choose(presets, preset or "default", f"preset of {name}")
    if scale is not None:
        if recipe.scale == 1:
            enlarging = ", ".join(key for key, other in presets.items() if other.scale > 1)
            raise UsageError(
                f"{name} does not change the size" + (f" by preset {preset}" if preset else ""),
                hint=f"--preset, one of: {enlarging}" if enlarging else "leave --scale out",
            )
        recipe = replace(recipe, scale=scale, config={**recipe.config, "scale": scale})
    if loss is not None:
        _choose(LOSSES, loss, "loss")
        recipe = replace(recipe, loss=loss)
    return recipe


def _choose(table: Mapping[str, T], name: str, what: str) -> T:
    if name not in table:
        raise UsageError(f"no {what} is called {name!r}", hint=f"one of: {', '.join(table)}")
    return table[name]
