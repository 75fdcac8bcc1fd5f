"""From what a user asks for to an image, by whichever generator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, get_args

import torch
from torch import Tensor

from restore_cli.checkpoints.classes import ClassWeights, number_of
from restore_cli.checkpoints.load import Checkpoint, load_checkpoint
from restore_cli.errors import OutOfMemory, UsageError
from restore_cli.inference.device import is_out_of_memory, pick_device
from restore_cli.inference.samplers.diffusion import (
    FiTRequest,
    FiTSampler,
    FlowRule,
    OnProgress,
    UNetRequest,
    UNetSampler,
    read_vae,
    vae_sha256,
)
from restore_cli.networks.fit.model import FiT, RopeMode

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: Mapping[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
FIT_STEPS = {True: 25, False: 250}  # of a FiTv2, of a FiT
UNET_SAMPLERS = {"ddim": 0.0, "ddpm": 1.0}  # the noise that each adds again
BEYOND = 2  # times the trained side: what ScaleCrafter is for


@dataclass(frozen=True)
class GenerateRequest:
    """What a user asks of an image; None: as the network does it best."""

    prompt: str  # a class, or its number; for text models a text
    size: tuple[int, int] | None = None  # (H, W) in pixels
    steps: int | None = None
    guidance: float | None = None
    negative: str | None = None  # what to go away from
    sampler: str | None = None
    rope: str | None = None
    direct: bool = False
    freeu: bool = False
    disperse: bool = False
    synchronise: bool = False


class Request(Protocol):
    """All that decides an image; see FiTRequest, UNetRequest, PromptRequest."""

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def steps(self) -> int: ...


@dataclass(frozen=True)
class GeneratorOptions:
    """How a generator is to be loaded and run."""

    vae: Path | None = None  # folder of an AutoencoderKL, for a FiT of latents
    device: str = "auto"
    precision: Precision | Literal["auto"] = "auto"


@dataclass(frozen=True)
class ImageGenerator:
    """A generator that is ready to run."""

    model: str
    weights: str
    sha256: str | None  # None: many files, of which nobody has said what they should be
    device: torch.device
    precision: Precision
    settle: Callable[[GenerateRequest], Any]  # to a request; raises UsageError
    sample: Callable[..., Tensor]
    autocast: bool = True  # where `precision` is below float32
    notes: tuple[str, ...] = ()  # for people: what was chosen for them
    vae_sha256: str | None = None  # of a VAE that came on its own

    def __call__(self, request: Any, seed: int, *, on_progress: OnProgress | None = None) -> Tensor:
        """One image (3, H, W) in [0, 1]. Raises UsageError, OutOfMemory, BrokenOutput.

        Never several at once: so each depends on its own seed alone, to the bit.
        """
        low = self.autocast and self.precision != "fp32"
        try:
            with torch.autocast(self.device.type, DTYPES[self.precision], enabled=low):
                images = self.sample(replace(request, seed=seed), on_progress=on_progress)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            height, width = request.size
            raise OutOfMemory(
                f"{width}x{height} does not fit into the memory of {self.device}",
                hint="try a smaller --size",
            ) from error
        return images[0]


Own = TypeVar("Own")  # a request


def as_asked(request: Own, **wanted: Any) -> Own:
    """The request with what a user wanted of it; None: as it is."""
    given = {name: value for name, value in wanted.items() if value is not None}
    record: Any = request
    changed: Own = replace(record, **given)
    return changed


def settings_of(request: Any) -> dict[str, object]:
    """What decides an image besides its prompt, seed and size, for its record."""
    own = {"prompt", "label", "seed", "count", "size"}
    return {name: value for name, value in asdict(request).items() if name not in own}


def load_class_generator(chosen: ClassWeights, options: GeneratorOptions) -> ImageGenerator:
    """The generator of some weights for classes. Raises WeightsError, DeviceError, UsageError."""
    device = pick_device(options.device)
    checkpoint = load_checkpoint(chosen.weights)
    names = chosen.classes
    if checkpoint.spec.arch == "scalecrafter":
        _refuse(vae=options.vae, arch="the UNet for classes")
        unet = UNetSampler(checkpoint.module, device=device)
        return _ready(
            checkpoint, device, options, lambda asked: _unet_request(asked, unet, names), unet
        )
    if checkpoint.spec.arch not in ("fitv2", "fitv1"):
        raise UsageError(
            f"{checkpoint.name} is for {checkpoint.spec.arch}, which makes no images",
            hint="generators: fitv2, scalecrafter",
        )
    vae = None if options.vae is None else read_vae(options.vae)
    assert isinstance(checkpoint.module, FiT)
    fit = FiTSampler(checkpoint.module, vae=vae, device=device)
    ready = _ready(checkpoint, device, options, lambda asked: _fit_request(asked, fit, names), fit)
    return ready if vae is None else replace(ready, vae_sha256=vae_sha256(vae))


def _ready(
    checkpoint: Checkpoint,
    device: torch.device,
    options: GeneratorOptions,
    settle: Callable[[GenerateRequest], Any],
    sample: Callable[..., Tensor],
) -> ImageGenerator:
    # These networks are small: on no device does half precision save what it may cost.
    precision = "fp32" if options.precision == "auto" else options.precision
    arch = checkpoint.spec.arch
    return ImageGenerator(
        arch, checkpoint.name, checkpoint.sha256, device, precision, settle, sample
    )


def _fit_request(asked: GenerateRequest, fit: FiTSampler, names: Sequence[str]) -> FiTRequest:
    config = fit.network.config
    _refuse(
        arch="FiT",
        direct=asked.direct,
        freeu=asked.freeu,
        disperse=asked.disperse,
        synchronise=asked.synchronise,
    )
    side = math.isqrt(config.context_size) * fit.unit
    rules = get_args(FlowRule) if config.use_sit else ()
    request = FiTRequest(
        label=_label(asked.prompt, names),
        size=asked.size or (side, side),
        steps=asked.steps or FIT_STEPS[config.use_sit],
        negative=None if asked.negative is None else _label(asked.negative, names),
        rope=_one_of(asked.rope, ("auto", *get_args(RopeMode)), "auto", option="--rope"),
        rule=_one_of(asked.sampler, rules, "midpoint", option="--sampler"),
    )
    return as_asked(request, guidance=asked.guidance)


def _unet_request(
    asked: GenerateRequest, sampler: UNetSampler, names: Sequence[str]
) -> UNetRequest:
    _refuse(
        arch="the UNet for classes",
        rope=asked.rope,
        freeu=asked.freeu,
        disperse=asked.disperse,
        synchronise=asked.synchronise,
    )
    side = BEYOND * sampler.unet.config.sample_size
    ways = tuple(UNET_SAMPLERS)
    request = UNetRequest(
        label=_label(asked.prompt, names),
        size=asked.size or (side, side),
        negative=None if asked.negative is None else _label(asked.negative, names),
        eta=UNET_SAMPLERS[_one_of(asked.sampler, ways, "ddim", option="--sampler")],
        direct=asked.direct,
    )
    return as_asked(request, steps=asked.steps, guidance=asked.guidance)


def _label(prompt: str, names: Sequence[str]) -> int:
    number = number_of(prompt, names)
    if number is None:
        raise UsageError(f"no class is called {prompt!r}", hint="restore generate --list-classes")
    return number


Word = TypeVar("Word", bound=str)


def _one_of(word: str | None, words: Sequence[Word], usual: Word, *, option: str) -> Word:
    """`word` if it is one of `words`, `usual` if there is none. Raises UsageError."""
    if word is None:
        return usual
    for known in words:
        if word == known:
            return known
    hint = f"one of: {', '.join(words)}" if words else "leave it out"
    raise UsageError(f"{option} {word} is unknown to this network", hint=hint)


def _refuse(*, arch: str, **choices: object) -> None:
    """Options that a network has no use for. Raises UsageError."""
    for name, choice in choices.items():
        if choice not in (None, False):
            raise UsageError(f"--{name} has no effect on {arch}", hint="leave it out")
