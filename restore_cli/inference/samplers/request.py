"""Options of a generator, request for an image, and the checks that all samplers share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from restore_cli.errors import BrokenOutput, UsageError

if TYPE_CHECKING:
    from torch import Tensor

OnProgress = Callable[[int, int], None]  # steps done, steps in all


@dataclass(frozen=True)
class InputImage:
    """An image that steers the sampling."""

    name: str  # of its file
    sha256: str
    pixels: Tensor = field(compare=False, repr=False)  # (1 or 3, H, W) in [0, 1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.pixels.shape[-2:]
        return height, width


@dataclass(frozen=True)
class GenerateRequest:
    """An image to generate. A sampler resolves None to the default of its network."""

    prompt: str  # a class or its number; a text for Stable Diffusion
    size: tuple[int, int] | None = None  # (H, W) in pixels
    steps: int | None = None
    guidance: float | None = None  # scale of classifier-free guidance; 1: none
    guidance_power: float | None = None  # of FiT's power-cosine schedule; 0: constant
    negative: str | None = None  # prompt to guide away from
    sampler: str | None = None
    rope: str | None = None  # FiT: position embedding
    direct: bool = False  # without ScaleCrafter
    freeu: bool = False
    disperse: bool = False  # ScaleCrafter: dispersed kernels
    synchronise: bool = False  # decode in tiles that share their statistics
    init_image: InputImage | None = None  # to begin with, instead of noise alone
    init_strength: float | None = None  # from 0, which keeps that image, to 1
    mask: InputImage | None = None  # white where the image is generated anew
    control_image: InputImage | None = None  # for a ControlNet


@dataclass(frozen=True)
class Lora:
    """A file of low-rank changes of weights, and how much of them to add."""

    file: str | Path
    scale: float = 1.0


@dataclass(frozen=True)
class GeneratorOptions:
    """Weights of a generator, by the name of its network, by their own or by a base pipeline.

    Raises UsageError for options that contradict each other.
    """

    model: str | None = None
    weights: str | None = None
    base: str | None = None  # a Stable Diffusion for ScaleCrafter: a folder, a file, or on the hub
    vae: Path | None = None  # folder of an AutoencoderKL, for a network of latents
    loras: Sequence[Lora] = ()  # for the base
    controlnet: str | Path | None = None  # folder of a ControlNet for the base
    controlnet_scale: float | None = None  # of its features; None: 1
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.controlnet_scale is not None:
            if self.controlnet is None:
                raise UsageError(
                    "--controlnet-scale has no effect without --controlnet",
                    hint="add --controlnet FOLDER",
                )
            if not 0 <= self.controlnet_scale <= MOST_CONTROL:
                raise UsageError(
                    f"--controlnet-scale {self.controlnet_scale:g}: "
                    f"wanted a number from 0 to {MOST_CONTROL:g}"
                )
        if self.base is not None:
            self._refuse_with_base()
        elif self.loras or self.controlnet:
            added = "--lora" if self.loras else "--controlnet"
            raise UsageError(f"{added} has no effect without --base", hint="add --base FOLDER")

    def _refuse_with_base(self) -> None:
        if self.model not in (None, "scalecrafter"):
            raise UsageError(
                f"--base is for ScaleCrafter, not for {self.model}", hint="leave one of them out"
            )
        if self.weights is not None:
            raise UsageError("--base and --weights contradict each other", hint="give one of them")
        if self.vae is not None:
            raise UsageError("--vae has no effect on --base", hint="put it into the folder as vae/")


MOST_CONTROL = 2.0  # largest scale of a ControlNet
MOST_GUIDANCE = 1000.0
SHARED = frozenset({"prompt", "size", "steps", "guidance", "negative", "sampler"})
NEEDS = {"init_strength": "init_image", "mask": "init_image"}  # fields without effect on their own


class Sampler(Protocol):
    """A network with its sampling loop."""

    @property
    def supports(self) -> Collection[str]:
        """Fields of a request that have an effect."""
        ...

    def resolve(self, request: GenerateRequest) -> GenerateRequest:
        """Return the request with all defaults filled in; idempotent.

        Raises UsageError for an unknown class and for a field that has no effect.
        """
        ...

    def __call__(
        self,
        request: GenerateRequest,
        *,
        seed: int = 0,
        count: int = 1,
        on_progress: OnProgress | None = None,
    ) -> Tensor:
        """Generate images (count, 3, H, W) in [0, 1], float32 on the CPU, with seeds from `seed`.

        Raises UsageError, BrokenOutput.
        """
        ...


Value = TypeVar("Value")


def resolved(value: Value | None) -> Value:
    """Return a field of a resolved request."""
    assert value is not None, "the request is not resolved"
    return value


def default(value: Value | None, otherwise: Value) -> Value:
    """Return the value, or the default where it is None."""
    return otherwise if value is None else value


def refuse_unsupported(
    request: GenerateRequest, supports: Collection[str], *, network: str
) -> None:
    """Raise UsageError for a field that was set and has no effect on the network."""
    given = {each.name for each in fields(request) if getattr(request, each.name) != each.default}
    for name in sorted(given - {*supports}):
        raise UsageError(f"{option(name)} has no effect on {network}", hint="leave it out")
    for name, needed in NEEDS.items():
        if name in given and needed not in given:
            raise UsageError(
                f"{option(name)} has no effect without {option(needed)}",
                hint=f"add {option(needed)} FILE",
            )


def option(name: str) -> str:
    """Return the option of the command line that sets a field of a request."""
    return f"--{name.replace('_', '-')}"


def one_of(word: str | None, words: Collection[str], otherwise: str, *, option: str) -> str:
    """Return `word` if it is one of `words`, `otherwise` for None. Raises UsageError."""
    if word is None:
        return otherwise
    if word not in words:
        hint = f"one of: {', '.join(words)}" if words else "leave it out"
        raise UsageError(f"{option} {word}: unknown to this network", hint=hint)
    return word


def guidance_or(guidance: float | None, otherwise: float) -> float:
    """Return the guidance scale, or the default for None. Raises UsageError beyond its range."""
    if guidance is not None and not 1 <= guidance <= MOST_GUIDANCE:
        raise UsageError(
            f"--guidance {guidance:g}: wanted a number from 1 to {MOST_GUIDANCE:g}",
            hint="1 means no guidance",
        )
    return default(guidance, otherwise)


def steps_or(steps: int | None, otherwise: int) -> int:
    """Return the number of steps, or the default for None. Raises UsageError below 1."""
    if steps is not None and steps < 1:
        raise UsageError(f"--steps {steps}: wanted 1 or more")
    return default(steps, otherwise)


def in_units(size: tuple[int, int], unit: int) -> tuple[int, int]:
    """Return a size (H, W) in pixels divided by `unit`. Raises UsageError for a remainder."""
    if min(size) < unit or any(side % unit for side in size):
        nearest = "x".join(str(max(unit, round(side / unit) * unit)) for side in reversed(size))
        raise UsageError(
            f"size {size[1]}x{size[0]}: both sides must be multiples of {unit}",
            hint=f"the nearest is {nearest}",
        )
    return size[0] // unit, size[1] // unit


def to_unit_range(images: Tensor) -> Tensor:
    """Map images (N, C, H, W) from [-1, 1] to [0, 1], clamped. Raises BrokenOutput."""
    if not images.isfinite().all():
        raise BrokenOutput("the network produced NaN or infinity", hint="try --precision fp32")
    return (images.float().cpu() / 2 + 0.5).clamp(0, 1)
