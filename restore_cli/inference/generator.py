"""Image generators: weights, a base pipeline or a class name to images."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from restore_cli.checkpoints.classes import class_weights
from restore_cli.checkpoints.load import load_checkpoint
from restore_cli.errors import OutOfMemory, UsageError, WeightsMismatch
from restore_cli.files import sha256_of
from restore_cli.imaging.contact_sheet import columns_for, contact_sheet
from restore_cli.imaging.image import Image
from restore_cli.imaging.io import contents, decode
from restore_cli.inference.device import DTYPES, compute_in, pick_device, refuse_precision
from restore_cli.inference.report import Report, Restored, StepReport
from restore_cli.inference.samplers import pipelines
from restore_cli.inference.samplers.dimr import DiMRSampler
from restore_cli.inference.samplers.fit import FiTSampler
from restore_cli.inference.samplers.memory import apply_plan, plan_for
from restore_cli.inference.samplers.request import (
    GenerateRequest,
    GeneratorOptions,
    InputImage,
    Lora,
    OnProgress,
    Sampler,
    default,
    resolved,
)
from restore_cli.inference.samplers.stable_diffusion import StableDiffusionSampler
from restore_cli.inference.samplers.unet import UNetSampler
from restore_cli.inference.samplers.vae import read_vae, vae_sha256
from restore_cli.memory import is_out_of_memory
from restore_cli.registry import GENERATORS

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
# Of each network of registry.GENERATORS; `vae` is for those that may generate latents.
SAMPLERS: Mapping[str, Callable[..., Sampler]] = MappingProxyType(
    {
        "fitv2": FiTSampler,
        "fitv1": FiTSampler,
        "scalecrafter": UNetSampler,
        "dimr": DiMRSampler,
    }
)


@dataclass(frozen=True)
class AddedWeights:
    """A LoRA or a ControlNet beside the weights of a base pipeline."""

    role: str  # lora or controlnet
    name: str  # of the file or folder
    sha256: str
    scale: float = 1.0


@dataclass(frozen=True)
class Generator:
    """A generator of images on its device."""

    sampler: Sampler
    model: str
    weights: str
    sha256: str  # of the weight file, or of all weights of a pipeline
    device: torch.device
    precision: Precision
    autocast: bool = True  # run a network in float32 in `precision`
    vae_sha256: str | None = None  # of a VAE that is no part of the weights
    memory: str | None = None  # measures to fit into the memory
    added: tuple[AddedWeights, ...] = ()

    def __call__(
        self,
        what: str | int,
        *,
        size: tuple[int, int] | None = None,
        count: int = 1,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        negative: str | None = None,
        sampler: str | None = None,
        rope: str | None = None,
        direct: bool = False,
        freeu: bool = False,
        disperse: bool = False,
        synchronise: bool = False,
        init_image: str | Path | None = None,
        init_strength: float | None = None,
        mask: str | Path | None = None,
        control_image: str | Path | None = None,
        on_progress: OnProgress | None = None,
    ) -> Restored:
        """Generate an image of a class, by its name or number, or of a text.

        size: (H, W) in pixels. count: images on a contact sheet; image i has the seed `seed` + i.
        init_image: begins with this image, of which init_strength, up to 1, changes more; mask:
        is white where it is changed. control_image: for the ControlNet of the generator.
        None: the default of the network. Raises UsageError, OutOfMemory, BrokenOutput.
        """
        if count < 1:
            raise UsageError(f"count is {count}, wanted 1 or more")
        if seed < 0:
            raise UsageError(f"seed is {seed}, wanted 0 or more")
        request = self.resolve(
            GenerateRequest(
                str(what),
                size=size,
                steps=steps,
                guidance=guidance,
                negative=negative,
                sampler=sampler,
                rope=rope,
                direct=direct,
                freeu=freeu,
                disperse=disperse,
                synchronise=synchronise,
                init_image=None if init_image is None else read_input(init_image),
                init_strength=init_strength,
                mask=None if mask is None else read_input(mask),
                control_image=None if control_image is None else read_input(control_image),
            )
        )
        began = time.monotonic()
        images = []
        for index in range(count):
            images.append(self.sample(request, seed + index, on_progress=on_progress))
        report = self.report(request, time.monotonic() - began)
        return Restored(Image(contact_sheet(images, columns_for(count))), report)

    def resolve(self, request: GenerateRequest) -> GenerateRequest:
        """Fill in the defaults of the network. Raises UsageError."""
        return self.sampler.resolve(request)

    def sample(
        self, request: GenerateRequest, seed: int, *, on_progress: OnProgress | None = None
    ) -> Tensor:
        """Generate one image (3, H, W) in [0, 1] from a resolved request.

        Images are generated one at a time, so that each depends on its own seed alone, to the bit.
        Raises OutOfMemory, BrokenOutput.
        """
        try:
            with compute_in(self.precision, self.device, autocast=self.autocast):
                images = self.sampler(request, seed=seed, on_progress=on_progress)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            height, width = resolved(request.size)
            raise OutOfMemory(
                f"{width}x{height} does not fit into the memory of {self.device}",
                hint="try a smaller --size",
            ) from error
        return images[0]

    def report(self, request: GenerateRequest, seconds: float) -> Report:
        """Return the report on images of a resolved request."""
        height, width = resolved(request.size)
        step = StepReport(
            self.model,
            self.weights,
            self.sha256,
            None,
            self.precision,
            height,
            width,
            seconds,
        )
        return Report((step,))


def read_input(path: str | Path) -> InputImage:
    """Read an image that steers the sampling. Raises InputError."""
    path = _expanded(path)
    data = contents(path)
    return InputImage(path.name, sha256_of(data), decode(data, name=str(path)).pixels)


def load_generator(
    model: str | None = None,
    *,
    weights: str | None = None,
    base: str | None = None,
    vae: Path | None = None,
    loras: Sequence[Lora] = (),
    controlnet: str | Path | None = None,
    controlnet_scale: float | None = None,
    device: str = "auto",
    precision: Precision | Literal["auto"] = "auto",
    size: tuple[int, int] | None = None,
) -> Generator:
    """Load a generator by the name of its network, by its weights or by a base pipeline.

    base: a Stable Diffusion for ScaleCrafter: a folder, a file, or a name on the hub.
    loras, controlnet: files of LoRA and the folder of a ControlNet for that base, which adds
    controlnet_scale times its features, by default once.
    vae: the folder of an AutoencoderKL, for a network of latents.
    size: (H, W) in pixels, with `base`, of the largest image that the memory has to hold.
    Raises UsageError, WeightsError, DeviceError, MissingExtra, FetchError.
    """
    options = GeneratorOptions(
        model, weights, base, vae, loras, controlnet, controlnet_scale, device
    )
    return load(options, precision, size)


def load(
    options: GeneratorOptions,
    precision: Precision | Literal["auto"] = "auto",
    size: tuple[int, int] | None = None,
) -> Generator:
    """Load a generator by its options; see load_generator."""
    device = pick_device(options.device)
    refuse_precision(precision, device)
    if options.base is not None:
        return _load_pipeline(options.base, options, device, precision, size)
    if options.model is not None and options.model not in GENERATORS:
        raise UsageError(
            f"{options.model!r} is not a generator", hint=f"one of: {', '.join(GENERATORS)}"
        )
    # bf16 saves up to half of the time (docs/generate.md), and changes the image of a seed.
    return _load_weights(options, device, "fp32" if precision == "auto" else precision)


def _load_weights(
    options: GeneratorOptions, device: torch.device, precision: Precision
) -> Generator:
    weights = options.weights
    if weights is None:
        weights = GENERATORS[options.model or next(iter(GENERATORS))].default_weights
    checkpoint = load_checkpoint(weights)
    arch = checkpoint.spec.arch
    if arch not in GENERATORS:
        raise UsageError(
            f"{checkpoint.name} holds {arch}, which generates no images",
            hint=f"generators: {', '.join(GENERATORS)}",
        )
    if options.model not in (None, arch):
        raise WeightsMismatch(f"{checkpoint.name} holds {arch}, not {options.model}")
    keywords, checksum = {}, None
    if options.vae is not None:
        if not GENERATORS[arch].latents:
            raise UsageError(f"--vae has no effect on {arch}", hint="leave it out")
        keywords["vae"] = vae = read_vae(options.vae.expanduser())
        checksum = vae_sha256(vae)
    classes = class_weights(weights).classes
    sampler = SAMPLERS[arch](checkpoint.module, classes, device=device, **keywords)
    return Generator(
        sampler,
        arch,
        checkpoint.name,
        checkpoint.sha256,
        device,
        precision,
        vae_sha256=checksum,
    )


def _load_pipeline(
    base: str,
    options: GeneratorOptions,
    device: torch.device,
    precision: Precision | Literal["auto"],
    size: tuple[int, int] | None,
) -> Generator:
    if precision == "auto":  # these networks were published in half precision
        precision = "fp16" if device.type in ("cuda", "mps") else "fp32"
    pipe = pipelines.read_pipeline(base, DTYPES[precision])
    checksum, added, net = pipelines.weights_sha256(pipe), [], None
    for lora in options.loras:
        pipelines.fuse_lora(pipe, lora)
        file = _expanded(lora.file)
        added.append(AddedWeights("lora", file.name, sha256_of(file), lora.scale))
    controlnet_scale = default(options.controlnet_scale, 1.0)
    if options.controlnet is not None:
        folder = _expanded(options.controlnet)
        net = pipelines.read_controlnet(folder, pipe.unet, DTYPES[precision])
        name, net_sha256 = folder.resolve().name, pipelines.weights_sha256(net)
        added.append(AddedWeights("controlnet", name, net_sha256, controlnet_scale))
    pipes = pipelines.pipelines(pipe, net)
    plan = plan_for(next(iter(pipes.values())), size, device)
    return Generator(
        StableDiffusionSampler(
            pipes,
            lambda pipe: apply_plan(pipe, plan, device),
            controlnet_scale=controlnet_scale,
        ),
        "scalecrafter",
        base,
        checksum,
        device,
        precision,
        autocast=False,  # the weights are in that precision
        memory=str(plan),
        added=tuple(added),
    )


def outline(options: GeneratorOptions) -> Sampler | None:
    """Return a sampler that resolves requests as the generator with these options would.

    Of a pipeline in a folder, no weights are read; of another one, a file or a name on a hub, there
    is none. Raises the errors of `load` that need no weights of a pipeline.
    """
    if options.base is None:
        return load(options).sampler
    pick_device(options.device)
    for lora in options.loras:
        pipelines.lora_shapes(lora)
    pipe = pipelines.outline(options.base, text_encoders=bool(options.loras))
    if pipe is None:
        return None
    for lora in options.loras:
        pipelines.outline_lora(pipe, lora)
    net = None
    if options.controlnet is not None:
        net = pipelines.outline_controlnet(_expanded(options.controlnet), pipe.unet)
    return StableDiffusionSampler(pipelines.pipelines(pipe, net))


def _expanded(path: str | Path) -> Path:
    return Path(os.path.expanduser(path))
