"""Stable Diffusion through the pipelines of diffusers, with ScaleCrafter.

Any pipeline with a UNet: 1.5, 2.1, XL, Turbo, LCM, for texts, images, masks and ControlNets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from inspect import Parameter, signature
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from restore_cli.errors import UsageError
from restore_cli.imaging.resize import resize_matlab
from restore_cli.inference.samplers.class_conditional import seeded_generators
from restore_cli.inference.samplers.memory import own_size
from restore_cli.inference.samplers.pipelines import Kind
from restore_cli.inference.samplers.presets import family_of, settings_for
from restore_cli.inference.samplers.request import (
    GenerateRequest,
    InputImage,
    OnProgress,
    default,
    guidance_or,
    in_units,
    one_of,
    refuse_unsupported,
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

SCHEDULERS: Mapping[str, str] = MappingProxyType(
    {
        "ddim": "DDIMScheduler",
        "ddpm": "DDIMScheduler",  # with eta = 1, as the paper used it
        "dpm": "DPMSolverMultistepScheduler",
        "euler": "EulerDiscreteScheduler",
        "euler_a": "EulerAncestralDiscreteScheduler",
        "heun": "HeunDiscreteScheduler",
        "lcm": "LCMScheduler",
        "pndm": "PNDMScheduler",
        "unipc": "UniPCMultistepScheduler",
    }
)
ALWAYS = frozenset({"prompt", "size", "direct", "disperse", "synchronise"})
ARGUMENTS: Mapping[str, str] = MappingProxyType(
    {  # field of a request: argument of the pipelines that support it
        "steps": "num_inference_steps",
        "guidance": "guidance_scale",
        "negative": "negative_prompt",
        "sampler": "eta",  # of pipelines for any scheduler; LCM has its own
        "init_image": "image",
        "init_strength": "strength",
        "mask": "mask_image",
    }
)
FREEU: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {  # of the official scripts; diffusers applies them per block, not per number of channels
        "sd1": {"b1": 1.2, "b2": 1.4, "s1": 0.9, "s2": 0.2},
        "sd2": {"b1": 1.1, "b2": 1.2, "s1": 0.9, "s2": 0.2},
        "sdxl": {"b1": 1.1, "b2": 1.2, "s1": 0.6, "s2": 0.4},
    }
)


@contextmanager
def crafted(
    pipe: Any, size: tuple[int, int], *, settings: Settings | None = None, freeu: bool = False
) -> Iterator[None]:
    """Apply ScaleCrafter to any pipeline with a UNet, for images of `size` (H, W), in the context.

    Text to image, image to image, ControlNet and any scheduler are called as usual.
    settings: None for those of the paper by the UNet and the size; within the trained size nothing
    is changed. freeu: with the official strengths. Afterwards the pipeline is as before.
    """
    if settings is None:
        unit = pipe.vae_scale_factor
        settings = settings_for(pipe.unet, in_units(size, unit), unit=unit)
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

    def __init__(
        self,
        pipes: Mapping[Kind, Any],
        place: Callable[[Any], None] | None = None,
        *,
        controlnet_scale: float = 1.0,
    ):
        """pipes: of the same parts; place: moves one to its device before its first use."""
        self.pipes = pipes
        self._controlnet_scale = controlnet_scale
        self.pipe = next(iter(pipes.values()))  # of the parts
        self._scheduler = self.pipe.scheduler  # the pipeline's own
        self._place = place
        self._placed: Any = None

    @property
    def supports(self) -> frozenset[str]:
        """Fields that an argument of one of the pipelines stands for; see Sampler."""
        arguments = {name for kind in self.pipes for name in self._arguments(kind)}
        fields = {field for field, argument in ARGUMENTS.items() if argument in arguments}
        if self._has_controlnet:
            fields.add("control_image")
            if self.pipes.keys() == {"text"}:
                fields.discard("init_image")  # `image` is that of the ControlNet
        if family_of(self.pipe.unet.config) in FREEU:
            fields.add("freeu")
        return ALWAYS | fields

    def resolve(self, request: GenerateRequest) -> GenerateRequest:
        """See Sampler. Without a sampler the pipeline's own scheduler is used.

        The default size is that of the image to begin with, or of the image of the ControlNet.
        """
        refuse_unsupported(request, self.supports, network=type(self.pipe).__name__)
        kind = self._kind(request)
        defaults = {name: one.default for name, one in self._arguments(kind).items()}
        if request.sampler is not None:
            one_of(request.sampler, SCHEDULERS, "", option="--sampler")
        self._refuse_inputs(request)
        unit = self.pipe.vae_scale_factor
        given = request.init_image or request.control_image
        size = request.size or (own_size(self.pipe) if given is None else nearest(given.size, unit))
        latent_size = in_units(size, unit)
        scaled = not request.direct and settings_for(  # it may refuse
            self.pipe.unet, latent_size, disperse=request.disperse, unit=unit
        )
        if request.disperse and not scaled:
            raise UsageError(
                "--disperse has no effect within the trained size or with --direct",
                hint="leave it out",
            )
        strength = None
        if request.init_image is not None:
            strength = default(request.init_strength, defaults["strength"])
        request = replace(
            request,
            size=size,
            steps=steps_or(request.steps, defaults["num_inference_steps"]),
            guidance=guidance_or(request.guidance, defaults["guidance_scale"]),
            init_strength=strength,
        )
        self._refuse_steps(request, kind)
        return request

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
        kind, size = self._kind(request), resolved(request.size)
        pipe = self._ready(kind)
        pipe.scheduler = self._scheduler_of(request)

        def on_step_end(pipe: Any, step: int, t: Any, state: dict[str, Any]) -> dict[str, Any]:
            if on_progress:
                on_progress(step + 1, pipe.num_timesteps)
            return state

        init, mask, control = (
            None if image is None else fitted(image, size)
            for image in (request.init_image, request.mask, request.control_image)
        )
        arguments = {
            "prompt": request.prompt,
            "negative_prompt": request.negative,
            "height": size[0],
            "width": size[1],
            "num_inference_steps": resolved(request.steps),
            "guidance_scale": resolved(request.guidance),
            "eta": 1.0 if request.sampler == "ddpm" else 0.0,
            "num_images_per_prompt": count,
            "generator": seeded_generators(seed, count),
            "output_type": "latent" if request.synchronise else "pt",
            "callback_on_step_end": on_step_end,
            "image": control if init is None else init,
            "mask_image": None if mask is None else mask.mean(1, keepdim=True),
            "control_image": control,
            "controlnet_conditioning_scale": self._controlnet_scale,
            "strength": request.init_strength,
        }
        supported = self._arguments(kind)
        with self._scaled(pipe, request):
            output = pipe(
                **{name: arguments[name] for name in arguments if name in supported}
            ).images
        if request.synchronise:
            images = to_unit_range(self._decode(output))
        else:
            images = to_unit_range(2 * output - 1)
        if init is None or mask is None:
            return images
        return init.lerp(images, mask.mean(1, keepdim=True))  # the VAE changes the rest, too

    @property
    def _has_controlnet(self) -> bool:
        return getattr(self.pipe, "controlnet", None) is not None

    def _arguments(self, kind: Kind) -> Mapping[str, Parameter]:
        return signature(self.pipes[kind].__call__).parameters

    def _kind(self, request: GenerateRequest) -> Kind:
        """Return the kind of pipeline for a request. Raises UsageError where there is none."""
        kind: Kind = "text"
        if request.init_image is not None:
            kind = "image" if request.mask is None else "inpaint"
        if kind not in self.pipes:
            needed = "--init-image and --mask" if "inpaint" in self.pipes else "--init-image"
            raise UsageError(
                f"{type(self.pipe).__name__} changes images", hint=f"it needs {needed}"
            )
        return kind

    def _refuse_inputs(self, request: GenerateRequest) -> None:
        """Raise UsageError for images that do not fit to each other."""
        if self._has_controlnet and request.control_image is None:
            raise UsageError("a ControlNet has no image", hint="add --control-image FILE")
        init, mask = request.init_image, request.mask
        if init is not None and mask is not None and init.size != mask.size:
            raise UsageError(
                f"{mask.name} is {mask.size[1]}x{mask.size[0]}, "
                f"but {init.name} {init.size[1]}x{init.size[0]}",
                hint="a mask has the size of its image",
            )

    def _refuse_steps(self, request: GenerateRequest, kind: Kind) -> None:
        """Raise UsageError for steps or a strength that the scheduler cannot do."""
        steps, strength = resolved(request.steps), request.init_strength
        most = self._scheduler_of(request).config.get("original_inference_steps")  # of LCM
        if most is not None and steps > most:
            raise UsageError(f"--steps {steps}: this scheduler supports at most {most}")
        if strength is None:
            return
        if not 0 < strength <= 1:
            raise UsageError(f"--init-strength {strength:g}: wanted a number above 0, up to 1")
        if "original_inference_steps" in self._arguments(kind):  # all steps, in less of the time
            done, least = int(most * strength) // steps, steps / most
        else:
            done, least = int(steps * strength), 1 / steps
        if done < 1:
            raise UsageError(
                f"--init-strength {strength:g} leaves none of {steps} steps",
                hint=f"at least {math.ceil(100 * least) / 100:g}",
            )

    def _ready(self, kind: Kind) -> Any:
        """Return a pipeline on its device: one at a time has the hooks that offload its parts."""
        pipe = self.pipes[kind]
        if self._place is not None and pipe is not self._placed:
            self._place(pipe)
            self._placed = pipe
        return pipe

    def _scheduler_of(self, request: GenerateRequest) -> Any:
        if request.sampler is None:
            return self._scheduler
        import diffusers

        scheduler = getattr(diffusers, SCHEDULERS[request.sampler])
        return scheduler.from_config(self._scheduler.config)

    def _scaled(self, pipe: Any, request: GenerateRequest) -> AbstractContextManager[None]:
        if request.direct:
            return nullcontext()
        size = resolved(request.size)
        latent_size = in_units(size, pipe.vae_scale_factor)
        settings = settings_for(pipe.unet, latent_size, disperse=request.disperse)
        return crafted(pipe, size, settings=settings, freeu=request.freeu)

    def _decode(self, latents: Tensor) -> Tensor:
        vae = self.pipe.vae
        if vae.config.force_upcast:  # SDXL's overflows in half precision
            vae.to(torch.float32)
        parameter = next(vae.parameters())
        latents = latents.to(parameter.device, parameter.dtype) / vae.config.scaling_factor
        return decode_with_shared_statistics(vae, latents, tile=vae.tile_latent_min_size)


def nearest(size: tuple[int, int], unit: int) -> tuple[int, int]:
    """Return the nearest size (H, W) of multiples of `unit`."""
    height, width = (max(unit, round(side / unit) * unit) for side in size)
    return height, width


def fitted(image: InputImage, size: tuple[int, int]) -> Tensor:
    """Return an image as (1, 3, H, W) of `size`, in [0, 1], its borders cropped to that shape."""
    pixels, (height, width) = image.pixels.expand(3, -1, -1), image.size
    scale = min(height / size[0], width / size[1])
    rows, columns = round(size[0] * scale), round(size[1] * scale)
    top, left = (height - rows) // 2, (width - columns) // 2
    cropped = pixels[:, top : top + rows, left : left + columns]
    return resize_matlab(cropped, *size).clamp(0, 1)[None]
