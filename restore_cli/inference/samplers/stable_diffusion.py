"""Stable Diffusion 1.5, 2.1 and XL through the pipelines of diffusers, with ScaleCrafter.

A pipeline comes from a folder, a single file or a hub. Its text encoders need transformers, an
optional package, which is checked for first.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from restore_cli.assets import environment
from restore_cli.errors import FetchError, MissingExtra, UsageError, WeightsError, WeightsMissing
from restore_cli.inference.device import free_memory
from restore_cli.inference.samplers.presets import family_of, settings_for
from restore_cli.inference.samplers.request import (
    GenerateRequest,
    OnProgress,
    guidance_or,
    in_units,
    one_of,
    refuse_unused,
    resolved,
    steps_or,
    to_unit_range,
)
from restore_cli.networks.scalecrafter.model import (
    Rescaling,
    Settings,
    decode_with_shared_statistics,
    scalecrafter,
)

TEXT_PACKAGES = ("transformers", "accelerate")
SINGLE_FILES = (".safetensors", ".ckpt")
SCHEDULERS: Mapping[str, str] = MappingProxyType(
    {
        "ddim": "DDIMScheduler",
        "ddpm": "DDIMScheduler",  # with eta = 1, as the paper used it
        "dpm": "DPMSolverMultistepScheduler",
        "euler": "EulerDiscreteScheduler",
        "unipc": "UniPCMultistepScheduler",
    }
)
UNUSED = ("rope", "guidance_power")
FREEU: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {  # of the official scripts; diffusers applies them per block, not per number of channels
        "sd1": {"b1": 1.2, "b2": 1.4, "s1": 0.9, "s2": 0.2},
        "sd2": {"b1": 1.1, "b2": 1.2, "s1": 0.9, "s2": 0.2},
        "sdxl": {"b1": 1.1, "b2": 1.2, "s1": 0.6, "s2": 0.4},
    }
)
# Estimated numbers in memory at once, from the shapes of the largest features: of the UNet per
# latent pixel, of the VAE per pixel.
UNET_NUMBERS = 64 * 320 * 2
VAE_NUMBERS = 4 * 256
TILED_VAE = 1 / 8  # share of the VAE's numbers with tiles
USABLE = 0.9  # share of the free memory

Offload = Literal["none", "model", "sequential"]


@dataclass(frozen=True)
class MemoryPlan:
    """Measures that keep a pipeline within the free memory."""

    offload: Offload = "none"  # on the GPU: all of the pipeline, one model, or one layer at a time
    tiles: bool = False  # the VAE decodes in tiles
    slices: bool = False  # attention in slices: slow, so the last resort

    def __str__(self) -> str:
        chosen = {
            "one model at a time on the GPU": self.offload == "model",
            "one layer at a time on the GPU": self.offload == "sequential",
            "VAE in tiles": self.tiles,
            "attention in slices": self.slices,
        }
        return ", ".join(name for name, used in chosen.items() if used) or "all at once"


PLANS = (  # the fastest first
    MemoryPlan(),
    MemoryPlan(tiles=True),
    MemoryPlan("model"),
    MemoryPlan("model", tiles=True),
    MemoryPlan("sequential", tiles=True, slices=True),
)
LAST_ON_CPU = MemoryPlan(tiles=True, slices=True)


def plan_memory(
    free: int, models: Sequence[int], size: tuple[int, int], *, width: int, on_gpu: bool
) -> MemoryPlan:
    """Return the fastest plan that fits into `free` bytes, else the one that needs least.

    models: bytes of the weights of each; size: (H, W) of the image; width: bytes per number.
    """
    pixels = size[0] * size[1]
    unet, vae = UNET_NUMBERS * width * pixels / 64, VAE_NUMBERS * width * pixels
    plans = PLANS if on_gpu else (*PLANS[:2], LAST_ON_CPU)
    for plan in plans[:-1]:
        weights = sum(models) if plan.offload == "none" else max(models)
        features = max(unet, vae * TILED_VAE if plan.tiles else vae)
        if weights + features <= free * USABLE:
            return plan
    return plans[-1]


def apply_plan(pipe: Any, plan: MemoryPlan, device: torch.device) -> None:
    """Move a pipeline to the device as planned."""
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


def read_pipeline(base: str, dtype: torch.dtype) -> Any:
    """Read a text-to-image pipeline with a UNet. Raises MissingExtra, WeightsError, FetchError."""
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
            f"{base}: not a readable pipeline: {_first_line(error)}",
            hint=f"it needs all parts, with the text encoders: {_download(base, path)}",
        ) from error
    if not hasattr(getattr(pipe, "unet", None), "config") or not hasattr(pipe, "vae"):
        raise UsageError(
            f"{base}: {type(pipe).__name__} has no UNet",
            hint="ScaleCrafter works on Stable Diffusion 1.5, 2.1 and XL",
        )
    return pipe


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Silence the messages of diffusers and transformers about files and deprecations."""
    import transformers.utils.logging as transformers_logging
    from diffusers.utils import logging as diffusers_logging

    for library in (transformers_logging, diffusers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _open(base: str, path: Path, dtype: torch.dtype) -> Any:
    from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline

    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise WeightsMissing(
                f"{base} contains no model_index.json, so it is no pipeline",
                hint=f"to get one: {_download(base, path)}",
            )
        return DiffusionPipeline.from_pretrained(path, torch_dtype=dtype, local_files_only=True)
    if path.suffix.lower() in SINGLE_FILES:
        if not path.is_file():
            raise WeightsMissing(f"{base}: no such file", hint="check the name")
        kind = StableDiffusionXLPipeline if _is_xl(path) else StableDiffusionPipeline
        return kind.from_single_file(
            str(path), torch_dtype=dtype, local_files_only=environment().offline
        )
    if base.count("/") != 1 or base.startswith((".", "/", "~")):
        raise WeightsMissing(
            f"{base} is not a folder, a file or a name on a hub",
            hint=f"to get a folder: {_download(base, path)}",
        )
    offline = environment().offline
    try:
        return DiffusionPipeline.from_pretrained(base, torch_dtype=dtype, local_files_only=offline)
    except OSError as error:
        reason = "not in the cache, and RESTORE_OFFLINE is set" if offline else _first_line(error)
        raise FetchError(
            f"{base}: {reason}", hint=f"to download it yourself: {_download(base, path)}"
        ) from error


def _is_xl(path: Path) -> bool:
    """Tell whether a single file contains the second text encoder of SDXL."""
    if path.suffix.lower() != ".safetensors":
        return "xl" in path.stem.lower()
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return any(key.startswith("conditioner.embedders.1.") for key in file.keys())  # noqa: SIM118


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _download(base: str, path: Path) -> str:
    """Return the command that downloads a pipeline to where it was expected."""
    if base.count("/") == 1 and not path.exists() and not base.startswith((".", "/", "~")):
        return f"hf download {base} --local-dir {path.name}"
    folder = path if not path.suffix else path.with_suffix("")
    return f"hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --local-dir {folder}"


def fit_into_memory(pipe: Any, size: tuple[int, int] | None, device: torch.device) -> MemoryPlan:
    """Move a pipeline to the device so that images of `size` (H, W) fit; None: its own size."""
    plan = plan_memory(
        free_memory(device),
        _model_bytes(pipe),
        size or own_size(pipe),
        width=pipe.unet.dtype.itemsize,
        on_gpu=device.type == "cuda",
    )
    apply_plan(pipe, plan, device)
    return plan


def own_size(pipe: Any) -> tuple[int, int]:
    """Return the size (H, W) in pixels that a pipeline was trained at."""
    sample = pipe.unet.config.sample_size
    height, width = (sample, sample) if isinstance(sample, int) else sample
    return height * pipe.vae_scale_factor, width * pipe.vae_scale_factor


def _model_bytes(pipe: Any) -> list[int]:
    """Return the size of the weights of each model in a pipeline."""
    models = (part for part in pipe.components.values() if isinstance(part, torch.nn.Module))
    return [sum(p.numel() * p.element_size() for p in model.parameters()) for model in models]


@contextmanager
def scalecrafter_pipeline(
    pipe: Any, size: tuple[int, int], *, settings: Settings | None = None, freeu: bool = False
) -> Iterator[None]:
    """Apply ScaleCrafter to any pipeline with a UNet, for images of `size` (H, W), in the context.

    Text to image, image to image, ControlNet and any scheduler are called as usual.
    settings: None for those of the paper by the UNet and the size; within the trained size nothing
    is changed. freeu: with the official strengths. Afterwards the pipeline is as before.
    """
    if settings is None:
        settings = settings_for(pipe.unet, in_units(size, pipe.vae_scale_factor))
    family = family_of(pipe.unet.config)
    if freeu and family not in FREEU:
        raise UsageError("no strengths of FreeU are known for this UNet", hint="leave it out")
    if freeu:
        pipe.enable_freeu(**FREEU[family])
    try:
        if settings is None:
            yield
            return
        with scalecrafter(pipe.unet, settings, steps=1) as rescaling:
            hook = pipe.unet.register_forward_pre_hook(_Steps(pipe, rescaling), with_kwargs=True)
            try:
                yield
            finally:
                hook.remove()
    finally:
        if freeu:
            pipe.disable_freeu()


class _Steps:
    """Sets the step of a rescaled UNet before each evaluation.

    By the timestep, not by counting: some schedulers evaluate one step twice, and image to image
    skips the first ones.
    """

    def __init__(self, pipe: Any, rescaling: Rescaling):
        self.pipe, self.rescaling = pipe, rescaling
        self.times: Tensor | None = None  # timesteps of the current sampling
        self.first = 0

    def __call__(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        time = args[1] if len(args) > 1 else kwargs["timestep"]
        times = self.pipe.scheduler.timesteps
        index = int((times.cpu() - torch.as_tensor(time).cpu().flatten()[0]).abs().argmin())
        if times is not self.times:  # each call of a pipeline makes new ones
            self.times, self.first = times, index
        self.rescaling.steps = len(times) - self.first
        self.rescaling.step = index - self.first
        self.rescaling.guided = getattr(self.pipe, "do_classifier_free_guidance", True)


class StableDiffusionSampler:
    """A Stable Diffusion pipeline, by ScaleCrafter beyond its training size."""

    def __init__(self, pipe: Any):
        self.pipe = pipe
        self._scheduler = pipe.scheduler  # the pipeline's own

    def resolve(self, request: GenerateRequest) -> GenerateRequest:
        """See Sampler. Without a sampler the pipeline's own scheduler is used."""
        refuse_unused(request, UNUSED, network="Stable Diffusion (--base)")
        if request.sampler is not None:
            one_of(request.sampler, SCHEDULERS, "", option="--sampler")
        size = request.size or own_size(self.pipe)
        latent_size = in_units(size, self.pipe.vae_scale_factor)
        if not request.direct:
            settings_for(self.pipe.unet, latent_size, disperse=request.disperse)  # may refuse
        return replace(
            request,
            size=size,
            negative=request.negative or "",
            steps=steps_or(request.steps, 50),
            guidance=guidance_or(request.guidance, 7.5),
        )

    @torch.inference_mode()
    def __call__(
        self,
        request: GenerateRequest,
        *,
        seed: int = 0,
        count: int = 1,
        on_progress: OnProgress | None = None,
    ) -> Tensor:
        """See Sampler."""
        request = self.resolve(request)
        height, width = resolved(request.size)

        def on_step_end(pipe: Any, step: int, t: Any, state: dict[str, Any]) -> dict[str, Any]:
            if on_progress:
                on_progress(step + 1, pipe.num_timesteps)
            return state

        self.pipe.scheduler = self._scheduler_of(request)
        with self._scaled(request):
            output = self.pipe(
                prompt=request.prompt,
                negative_prompt=request.negative,
                height=height,
                width=width,
                num_inference_steps=resolved(request.steps),
                guidance_scale=resolved(request.guidance),
                eta=1.0 if request.sampler == "ddpm" else 0.0,
                num_images_per_prompt=count,
                generator=[torch.Generator().manual_seed(seed + i) for i in range(count)],
                output_type="latent" if request.synchronise else "pt",
                callback_on_step_end=on_step_end,
            ).images
        if request.synchronise:
            return to_unit_range(self._decode(output))
        return to_unit_range(2 * output - 1)

    def _scheduler_of(self, request: GenerateRequest) -> Any:
        if request.sampler is None:
            return self._scheduler
        import diffusers

        scheduler = getattr(diffusers, SCHEDULERS[request.sampler])
        return scheduler.from_config(self._scheduler.config)

    def _scaled(self, request: GenerateRequest) -> AbstractContextManager[None]:
        if request.direct:
            return nullcontext()
        size = resolved(request.size)
        latent_size = in_units(size, self.pipe.vae_scale_factor)
        settings = settings_for(self.pipe.unet, latent_size, disperse=request.disperse)
        return scalecrafter_pipeline(self.pipe, size, settings=settings, freeu=request.freeu)

    def _decode(self, latents: Tensor) -> Tensor:
        vae = self.pipe.vae
        if vae.config.force_upcast:  # SDXL's overflows in half precision
            vae.to(torch.float32)
        parameter = next(vae.parameters())
        latents = latents.to(parameter.device, parameter.dtype) / vae.config.scaling_factor
        return decode_with_shared_statistics(vae, latents, tile=vae.tile_latent_min_size)
