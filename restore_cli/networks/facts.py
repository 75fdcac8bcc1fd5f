"""Types in which a network states its facts, without torch.

Each paper's `spec.py` has a `SPEC` or several `SPECS` of them. Every number in it is checked by a
test that runs the network (tests/test_registry.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from restore_cli.tasks import TaskName

# Preprocessing: how an image becomes the input of a network, and its output an image again.
# inference/preprocessing.py implements each type.


@dataclass(frozen=True)
class Rgb:
    """RGB in [0, 1]."""


@dataclass(frozen=True)
class Grey:
    """Each channel by itself, as a grey image in [0, 1]."""


@dataclass(frozen=True)
class BicubicFirst:
    """RGB, enlarged by bicubic before a network that keeps the size."""

    scale: int


@dataclass(frozen=True)
class Standardized:
    """RGB, each channel with mean 0 and std 1 over the whole image."""

    reflect: int = 32  # pixels of reflection padding


@dataclass(frozen=True)
class Luma:
    """BT.601 luma alone; bicubic enlarges the chroma."""

    scale: int
    border: int  # pixels of mirrored padding


@dataclass(frozen=True)
class Ycbcr:
    """The full-range YCbCr of JPEG."""

    scale: int
    border: int  # pixels of mirrored padding


@dataclass(frozen=True)
class FixedSize:
    """One size in ImageNet's normalisation; a guided filter carries the change to the image."""

    height: int
    width: int


@dataclass(frozen=True)
class Stretched:
    """One size in ImageNet's normalisation; the output itself is resized to the image."""

    height: int
    width: int


@dataclass(frozen=True)
class Normalized:
    """RGB in ImageNet's normalisation, at the size of the image."""


Preprocessing = (
    Rgb | Grey | BicubicFirst | Standardized | Luma | Ycbcr | FixedSize | Stretched | Normalized
)
# "discouraged": only if the memory does not hold the whole image.
Tiling = Literal["exact", "approximate", "discouraged", "never"]


@dataclass(frozen=True)
class Facts:
    """Facts of a network in one configuration."""

    receptive_radius: int | None  # in input pixels; None: it sees the whole image
    overlap: int  # default context around a tile, in input pixels (docs/tiling.md)
    bytes_per_pixel: int  # of a tile, working memory in float32, by benchmarks/memory.py
    tiling: Tiling
    preprocessing: Preprocessing
    scale: int = 1  # output size / input size, of images
    channels: int = 3  # of the input
    multiple: int = 1  # sizes are padded to a multiple of this
    # Receptive radius apart from layers.GlobalAverage, of a network that is one block for exact
    # tiles; None: its blocks name their own `radius`, or it has no exact tiles.
    local_radius: int | None = None
    precisions: tuple[str, ...] = ("fp32", "tf32", "bf16", "fp16")  # that it works in
    faster_in_16_bit: bool = True  # on a GPU than in TF32, by benchmarks/gpu.py
    channels_last: bool = True  # False: its tensors must be contiguous
    upright: bool = False  # trained on upright images only

    @property
    def network_scale(self) -> int:
        """Output size / input size of the network alone."""
        return 1 if isinstance(self.preprocessing, BicubicFirst) else self.scale

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """Size (H, W) of a network that works at one size."""
        resize = self.preprocessing
        if not isinstance(resize, FixedSize | Stretched):
            return None
        return resize.height, resize.width


@dataclass(frozen=True)
class Restoration:
    """A network that restores images."""

    arch: str
    model: str  # "package.module:Class"; Class(Config(**config)) builds it
    config: str  # name of the config dataclass in the same module
    weights: Mapping[TaskName, str]  # default weights of each of its tasks
    paper: str
    facts: Callable[..., Facts]  # of the fields of the config, as keyword arguments
    official: str | None = None  # "package.module:LAYOUT" of the published code
    # Largest numbers of a configuration, where the shapes of the weights do not bound them.
    limits: Mapping[str, int] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.weights)

    @property
    def default_weights(self) -> str:
        return next(iter(self.weights.values()))

    @property
    def own_weights(self) -> tuple[str, ...]:
        """Names of the weights of all its tasks."""
        return tuple(dict.fromkeys(self.weights.values()))


@dataclass(frozen=True)
class Generation:
    """A network that generates images."""

    arch: str
    model: str
    config: str
    default_weights: str
    paper: str
    official: str | None = None
    latents: bool = False  # it may generate latents of a VAE
    limits: Mapping[str, int] = field(default_factory=dict)
    tasks: tuple[str, ...] = ("generate",)

    @property
    def own_weights(self) -> tuple[str, ...]:
        return (self.default_weights,)
