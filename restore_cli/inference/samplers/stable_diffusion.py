"""Stable Diffusion and its kin, from a folder, a single file or a hub, ready for ScaleCrafter.

Text models need transformers, which restore works without; it is looked for before anything else.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from restore_cli.assets import environment
from restore_cli.errors import FetchError, MissingExtra, UsageError, WeightsError, WeightsMissing
from restore_cli.inference.device import free_memory, pick_device
from restore_cli.inference.generator import (
    DTYPES,
    GenerateRequest,
    GeneratorOptions,
    ImageGenerator,
    Precision,
    as_asked,
)
from restore_cli.inference.samplers.diffusion import OnProgress, PromptRequest, ScaleCrafterSampler

TEXT_PACKAGES = ("transformers", "accelerate")
SINGLE_FILES = (".safetensors", ".ckpt")
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDIMScheduler",  # with its noise added again, as the paper used it
    "dpm": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}
# Estimates, from the shapes of the largest features, of how many numbers are alive at once: in the
# UNet for each latent pixel, in the VAE for each pixel.
UNET_NUMBERS = 64 * 320 * 2
VAE_NUMBERS = 4 * 256
TILES_SAVE = 8  # times less for the VAE
RESERVE = 0.9  # of the free memory, that is planned with

Offload = Literal["none", "model", "sequential"]


@dataclass(frozen=True)
class MemoryPlan:
    """How a pipeline is kept within the free memory."""

    offload: Offload = "none"  # which of its parts lie on the GPU: all, one model, one layer
    tiles: bool = False  # the VAE decodes in tiles
    slices: bool = False  # attention in slices: slower, and only where nothing else is left

    def words(self) -> str:
        chosen = {
            "one model at a time on the GPU": self.offload == "model",
            "one layer at a time on the GPU": self.offload == "sequential",
            "VAE in tiles": self.tiles,
            "attention in slices": self.slices,
        }
        return ", ".join(what for what, is_so in chosen.items() if is_so) or "all at once"


PLANS = (  # the fastest first
    MemoryPlan(),
    MemoryPlan(tiles=True),
    MemoryPlan("model"),
    MemoryPlan("model", tiles=True),
    MemoryPlan("sequential", tiles=True, slices=True),
)
LAST_ON_CPU = MemoryPlan(tiles=True, slices=True)  # nothing to offload from


def plan_memory(
    free: int, models: Sequence[int], size: tuple[int, int], *, width: int, on_gpu: bool
) -> MemoryPlan:
    """The fastest plan that fits into `free` bytes, else the one that needs least.

    models: bytes of the weights of each; size: (H, W) of the image; width: bytes of a number.
    """
    pixels = size[0] * size[1]
    unet, vae = UNET_NUMBERS * width * pixels / 64, VAE_NUMBERS * width * pixels
    plans = PLANS if on_gpu else (*PLANS[:2], LAST_ON_CPU)
    for plan in plans[:-1]:
        weights = sum(models) if plan.offload == "none" else max(models)
        features = max(unet, vae / TILES_SAVE if plan.tiles else vae)
        if weights + features <= free * RESERVE:
            return plan
    return plans[-1]


def apply_plan(pipe: Any, plan: MemoryPlan, device: torch.device) -> None:
    if plan.tiles:
        pipe.vae.enable_tiling()
    if plan.slices:
        pipe.enable_attention_slicing()
    if plan.offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif plan.offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.to(device)


def load_text_generator(
    base: str, asked: Sequence[GenerateRequest], options: GeneratorOptions
) -> ImageGenerator:
    """ScaleCrafter over the pipeline in `base`: a folder, a file, or the name of one on a hub.

    asked: what will be made, for the memory to be enough. Raises MissingExtra, WeightsError,
    FetchError, DeviceError, UsageError.
    """
    if options.vae is not None:
        raise UsageError("--vae has no effect on --base", hint="put it into the folder as vae/")
    device = pick_device(options.device)
    precision = _precision(options.precision, device)
    pipe = read_pipeline(base, DTYPES[precision])
    requests = [_settle(one, pipe) for one in asked]
    largest = max((request.size for request in requests), key=lambda size: size[0] * size[1])
    plan = plan_memory(
        free_memory(device),
        _model_bytes(pipe),
        largest,
        width=DTYPES[precision].itemsize,
        on_gpu=device.type == "cuda",
    )
    apply_plan(pipe, plan, device)
    pipe.set_progress_bar_config(disable=True)
    return ImageGenerator(
        "scalecrafter",
        base,
        None,
        device,
        precision,
        lambda one: _settle(one, pipe),
        _sampler(pipe),
        autocast=False,  # the weights themselves have that precision
        notes=(f"memory: {plan.words()}",),
    )


def read_pipeline(base: str, dtype: torch.dtype) -> Any:
    """A text-to-image pipeline of diffusers with a UNet. Raises MissingExtra, WeightsError."""
    missing = [package for package in TEXT_PACKAGES if find_spec(package) is None]
    if missing:
        raise MissingExtra(
            f"text models need {' and '.join(missing)}", hint=f"pip install {' '.join(missing)}"
        )
    path = Path(os.path.expanduser(base))
    try:
        with _quiet_libraries():
            pipe = _open(base, path, dtype)
    # diffusers and transformers raise any of these for a part that is missing or does not fit.
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        raise WeightsError(
            f"{base}: no pipeline that can be read: {_first_line(error)}",
            hint=f"wanted is all of one, text encoders too: {_download(base, path)}",
        ) from error
    if not hasattr(getattr(pipe, "unet", None), "config") or not hasattr(pipe, "vae"):
        raise UsageError(
            f"{base} is a {type(pipe).__name__}, which has no UNet",
            hint="ScaleCrafter works on Stable Diffusion 1.5, 2.1 and XL",
        )
    return pipe


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """diffusers and transformers tell of each file that they load, and of their own future."""
    import transformers.utils.logging as of_transformers
    from diffusers.utils import logging as of_diffusers

    for talk in (of_transformers, of_diffusers):
        talk.set_verbosity_error()
        talk.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _open(base: str, path: Path, dtype: torch.dtype) -> Any:
    from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline

    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise WeightsMissing(
                f"{base} holds no model_index.json, so it is no folder of a pipeline",
                hint=f"get one: {_download(base, path)}",
            )
        return DiffusionPipeline.from_pretrained(path, torch_dtype=dtype, local_files_only=True)
    if path.suffix.lower() in SINGLE_FILES:
        if not path.is_file():
            raise WeightsMissing(f"there is no file {base}", hint="check the name")
        kind = StableDiffusionXLPipeline if _is_xl(path) else StableDiffusionPipeline
        return kind.from_single_file(
            str(path), torch_dtype=dtype, local_files_only=environment().offline
        )
    if base.count("/") != 1 or base.startswith((".", "/", "~")):
        raise WeightsMissing(
            f"{base} is no folder, no file, and no name on a hub",
            hint=f"to get a folder: {_download(base, path)}",
        )
    offline = environment().offline
    try:
        return DiffusionPipeline.from_pretrained(base, torch_dtype=dtype, local_files_only=offline)
    except OSError as error:
        why = "not in the cache, and RESTORE_OFFLINE is set" if offline else _first_line(error)
        raise FetchError(
            f"{base}: {why}", hint=f"or get it yourself: {_download(base, path)}"
        ) from error


def _is_xl(path: Path) -> bool:
    """Whether a single file holds the second text encoder of SDXL."""
    if path.suffix.lower() != ".safetensors":
        return "xl" in path.stem.lower()
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return any(key.startswith("conditioner.embedders.1.") for key in file.keys())  # noqa: SIM118


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _download(base: str, path: Path) -> str:
    """The command that gets a whole pipeline to where it was looked for."""
    if base.count("/") == 1 and not path.exists() and not base.startswith((".", "/", "~")):
        return f"hf download {base} --local-dir {path.name}"
    folder = path if not path.suffix else path.with_suffix("")
    return f"hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --local-dir {folder}"


def _precision(wanted: Precision | Literal["auto"], device: torch.device) -> Precision:
    """Half where there is a GPU: these networks were published so."""
    if wanted != "auto":
        return wanted
    return "fp16" if device.type in ("cuda", "mps") else "fp32"


def _model_bytes(pipe: Any) -> list[int]:
    """Of the weights of each model in a pipeline."""
    models = (part for part in pipe.components.values() if isinstance(part, torch.nn.Module))
    return [sum(p.numel() * p.element_size() for p in model.parameters()) for model in models]


def _settle(asked: GenerateRequest, pipe: Any) -> PromptRequest:
    if asked.rope is not None:
        raise UsageError("--rope has no effect on --base", hint="leave it out")
    if asked.sampler is not None and asked.sampler not in SCHEDULERS:
        raise UsageError(
            f"--sampler {asked.sampler} is unknown to this network",
            hint=f"one of: {', '.join(SCHEDULERS)}; without it, the pipeline's own",
        )
    sample = pipe.unet.config.sample_size
    sides = (sample, sample) if isinstance(sample, int) else tuple(sample)
    height, width = (side * pipe.vae_scale_factor for side in sides)
    request = PromptRequest(
        prompt=asked.prompt,
        size=asked.size or (height, width),
        negative=asked.negative or "",
        scheduler=asked.sampler,
        eta=1.0 if asked.sampler == "ddpm" else 0.0,
        direct=asked.direct,
        freeu=asked.freeu,
        disperse=asked.disperse,
        synchronise=asked.synchronise,
    )
    return as_asked(request, steps=asked.steps, guidance=asked.guidance)


def _sampler(pipe: Any) -> Callable[..., Tensor]:
    """Takes requests, each with the scheduler that it names."""
    import diffusers

    own = pipe.scheduler
    sampler = ScaleCrafterSampler(pipe)

    def sample(request: PromptRequest, *, on_progress: OnProgress | None = None) -> Tensor:
        if request.scheduler is None:
            pipe.scheduler = own
        else:
            kind = getattr(diffusers, SCHEDULERS[request.scheduler])
            pipe.scheduler = kind.from_config(own.config)
        return sampler(request, on_progress=on_progress)

    return sample
