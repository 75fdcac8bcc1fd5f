"""From a class or a prompt to images: FiTv2 along its flow, UNets beyond their training size.

The only module that imports diffusers, and only inside functions: that takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from restore_cli.errors import BrokenOutput, UsageError, WeightsMismatch, WeightsMissing
from restore_cli.inference.samplers import ode as flow
from restore_cli.inference.samplers.presets import family_of, settings_for
from restore_cli.networks.fit.model import (
    FiT,
    FiTConfig,
    Rope,
    RopeMode,
    grid_of,
    stretches_frequencies,
    unpatchify,
)
from restore_cli.networks.scalecrafter.model import (
    Rescaling,
    Settings,
    decode_in_step,
    scalecrafter,
)

OnProgress = Callable[[int, int], None]
FlowRule = Literal["euler", "midpoint", "heun", "dopri5", "sde"]

CPU = torch.device("cpu")
FLOW_RULES: dict[str, Callable[..., Tensor]] = {
    "euler": flow.euler,
    "midpoint": flow.midpoint,
    "heun": flow.heun,
}
VAE_FILES = "hf download stabilityai/sd-vae-ft-ema --local-dir sd-vae-ft-ema"


# FiTv2 and FiT


@dataclass(frozen=True)
class FiTRequest:
    """What a FiT is to make. Image i of a request has the seed `seed` + i, whatever the count."""

    label: int
    size: tuple[int, int]  # (H, W) in pixels
    count: int = 1
    seed: int = 0
    steps: int = 25  # dopri5 takes as many as it needs
    rule: FlowRule = "midpoint"  # FiT has one of its own
    guidance: float = 1.5
    guidance_power: float = 0.0  # of the power-cosine schedule; 0: constant
    negative: int | None = None  # the class to go away from; None: the null class
    rope: RopeMode | Literal["auto"] = "auto"


class FiTSampler:
    """A FiTv2, or a FiT, that makes images of any size: of latents by a VAE, or of pixels."""

    def __init__(self, network: FiT, *, vae: Any = None, device: torch.device = CPU):
        channels = network.config.in_channels
        if vae is None and channels != 3:
            raise WeightsMissing(
                f"this FiT makes latents of {channels} channels, which a VAE must decode",
                hint=f"name its folder: --vae FOLDER; to get one: {VAE_FILES}",
            )
        if vae is not None and vae.config.latent_channels != channels:
            raise WeightsMismatch(
                f"the VAE has {vae.config.latent_channels} channels, this FiT {channels}"
            )
        self.network = network.to(device).eval()
        self.vae = None if vae is None else vae.to(device).eval()
        self.device = device
        scale = 1 if vae is None else 2 ** (len(vae.config.block_out_channels) - 1)
        self.unit = scale * network.config.patch_size  # pixels along the side of a token

    @torch.inference_mode()
    def __call__(self, request: FiTRequest, *, on_progress: OnProgress | None = None) -> Tensor:
        """Images (count, 3, H, W) in [0, 1], float32 on the CPU. Raises UsageError."""
        config = self.network.config
        size = self._tokens(request)
        generators = [Generator().manual_seed(request.seed + i) for i in range(request.count)]
        features = config.in_channels * config.patch_size**2
        shape = (size[0] * size[1], features) if config.use_sit else (features, size[0] * size[1])

        def noise() -> Tensor:  # drawn on the CPU, so that each device makes the same image
            drawn = [torch.randn(shape, generator=generator) for generator in generators]
            return torch.stack(drawn).to(self.device)

        if config.use_sit:
            tokens = self._flow(request, size, noise, on_progress)
        else:
            tokens = self._ddpm(request, size, noise(), generators, on_progress).transpose(1, 2)
        images = unpatchify(tokens, size, config.patch_size)
        if self.vae is not None:
            images = self.vae.decode(images / self.vae.config.scaling_factor).sample
        return _image(images)

    def _tokens(self, request: FiTRequest) -> tuple[int, int]:
        """(h, w) of the image in tokens. Raises UsageError."""
        _check_labels(request, self.network.config.num_classes)
        if request.guidance < 1:
            raise UsageError(f"guidance {request.guidance:g} is below 1", hint="1 is none")
        return _divided(request.size, self.unit)

    def _velocity(self, request: FiTRequest, size: tuple[int, int]) -> flow.Velocity:
        """The network as a function of tokens and time, guided."""
        count = request.count
        labels = torch.full((count,), request.label, device=self.device)
        negative = None if request.negative is None else torch.full_like(labels, request.negative)
        grid = grid_of(*size, device=self.device).expand(count, -1, -1)
        sizes = torch.tensor([size], device=self.device).expand(count, -1)
        rope = rope_for(self.network.config, size, request.rope)

        def velocity(x: Tensor, t: float) -> Tensor:
            return self.network.guided(
                x,
                x.new_full((count,), t),
                labels,
                grid,
                sizes,
                rope,
                scale=request.guidance,
                power=request.guidance_power,
                negative=negative,
            )

        return velocity

    def _flow(
        self,
        request: FiTRequest,
        size: tuple[int, int],
        noise: Callable[[], Tensor],
        on_progress: OnProgress | None,
    ) -> Tensor:
        def on_time(t: float) -> None:
            if on_progress:
                on_progress(round(t * request.steps), request.steps)

        velocity = self._velocity(request, size)
        if request.rule == "dopri5":
            return flow.dopri5(velocity, noise(), on_time=on_time)
        if request.rule == "sde":
            return flow.euler_maruyama(velocity, noise(), request.steps, noise, on_time)
        return FLOW_RULES[request.rule](velocity, noise(), request.steps, on_time)

    def _ddpm(
        self,
        request: FiTRequest,
        size: tuple[int, int],
        x: Tensor,
        generators: list[Generator],
        on_progress: OnProgress | None,
    ) -> Tensor:
        """FiT's own: a DDPM that learnt its variances, over channels-first tokens."""
        from diffusers import DDPMScheduler

        scheduler = DDPMScheduler(
            variance_type="learned_range", clip_sample=False, timestep_spacing="linspace"
        )
        scheduler.set_timesteps(request.steps)
        noise_of = self._velocity(request, size)
        for done, t in enumerate(scheduler.timesteps, start=1):
            x = scheduler.step(noise_of(x, float(t)), t, x, generator=generators).prev_sample
            if on_progress:
                on_progress(done, request.steps)
        return x


def rope_for(
    config: FiTConfig, size: tuple[int, int], mode: RopeMode | Literal["auto"] = "auto"
) -> Rope:
    """The position embedding for a size (h, w) in tokens, as the authors recommend it.

    A network that was trained to scale its positions always does; others do it, with the logits
    sharpened, only for more tokens than they were trained with. See stretches_frequencies.
    """
    trained = config.ori_max_pe_len
    if mode != "auto":
        return Rope(mode, decouple=True, trained=trained)
    if config.custom_freqs != "normal":
        return Rope(config.custom_freqs, config.decouple, trained)
    if size[0] * size[1] <= config.context_size:
        return Rope()
    beyond: RopeMode = "ntk-aware-pro2" if stretches_frequencies(config) else "linear"
    return Rope(beyond, decouple=True, trained=trained)


def read_vae(folder: Path) -> Any:
    """The AutoencoderKL in a folder, never from the network. Raises WeightsMissing."""
    missing = WeightsMissing(
        f"{folder} holds no AutoencoderKL that can be read",
        hint=f"wanted are config.json and diffusion_pytorch_model.safetensors: {VAE_FILES}",
    )
    if not (folder / "config.json").is_file():
        raise missing  # else diffusers would take the folder for a name on the hub
    from diffusers import AutoencoderKL

    try:
        # Not by way of accelerate, which need not be there.
        return AutoencoderKL.from_pretrained(folder, local_files_only=True, low_cpu_mem_usage=False)
    except (OSError, ValueError) as error:
        raise missing from error


def vae_sha256(vae: Any) -> str:
    """Of all that makes a VAE decode as it does: its tensors, and the scale of its latents."""
    digest = sha256(repr(float(vae.config.scaling_factor)).encode())
    for name, tensor in sorted(vae.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy())
    return digest.hexdigest()


# UNets for classes, in pixels


@dataclass(frozen=True)
class UNetConfig:
    """A small UNet with the layer names of Stable Diffusion, which ScaleCrafter's lists go by."""

    sample_size: int = 64  # pixels along a side in training
    num_classes: int = 24  # without the null class, whose id is num_classes
    widths: tuple[int, ...] = (32, 64, 96, 128)
    layers: int = 2  # per level
    groups: int = 16
    head_dim: int = 32
    attention_levels: int = 2  # the deepest ones


def class_unet(config: UNetConfig) -> nn.Module:
    """A new UNet2DModel of diffusers."""
    from diffusers import UNet2DModel

    plain = len(config.widths) - config.attention_levels
    down = ("DownBlock2D",) * plain + ("AttnDownBlock2D",) * config.attention_levels
    up = ("AttnUpBlock2D",) * config.attention_levels + ("UpBlock2D",) * plain
    unet: nn.Module = UNet2DModel(
        sample_size=config.sample_size,
        down_block_types=down,
        up_block_types=up,
        block_out_channels=tuple(config.widths),
        layers_per_block=config.layers,
        norm_num_groups=config.groups,
        attention_head_dim=config.head_dim,
        num_class_embeds=config.num_classes + 1,
    )
    return unet


def pixel_scheduler() -> Any:
    """How the UNets for classes are noised in training, and sampled."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        timestep_spacing="trailing",
        prediction_type="v_prediction",
    )


@dataclass(frozen=True)
class UNetRequest:
    """What a UNet for classes is to make. Image i has the seed `seed` + i."""

    label: int
    size: tuple[int, int]  # (H, W) in pixels
    count: int = 1
    seed: int = 0
    steps: int = 25
    guidance: float = 3.0
    negative: int | None = None  # the class to go away from; None: the null class
    eta: float = 0.0  # noise of DDIM; 1 is what the paper used
    direct: bool = False  # without ScaleCrafter


class UNetSampler:
    """A UNet for classes, with ScaleCrafter beyond the size that it was trained at."""

    def __init__(self, unet: Any, *, device: torch.device = CPU):
        self.unet = unet.to(device).eval()
        self.device = device
        self.null = unet.config.num_class_embeds - 1
        self.unit = 2 ** (len(unet.config.block_out_channels) - 1)

    @torch.inference_mode()
    def __call__(self, request: UNetRequest, *, on_progress: OnProgress | None = None) -> Tensor:
        """Images (count, 3, H, W) in [0, 1], float32 on the CPU. Raises UsageError."""
        _check_labels(request, self.null)
        _divided(request.size, self.unit)
        negative = self.null if request.negative is None else request.negative
        generators = [Generator().manual_seed(request.seed + i) for i in range(request.count)]
        drawn = [torch.randn((3, *request.size), generator=generator) for generator in generators]
        x = torch.stack(drawn).to(self.device)
        labels = torch.tensor([negative, request.label], device=self.device)
        labels = labels.repeat_interleave(request.count)
        scheduler = pixel_scheduler()
        scheduler.set_timesteps(request.steps)
        with _rescaled(self.unet, request) as rescaling:
            for step, t in enumerate(scheduler.timesteps):
                if rescaling is not None:
                    rescaling.step = step
                answer = self.unet(torch.cat([x, x]), t, class_labels=labels).sample
                away, toward = answer.chunk(2)
                velocity = away + request.guidance * (toward - away)
                x = scheduler.step(
                    velocity, t, x, eta=request.eta, generator=generators
                ).prev_sample
                if on_progress:
                    on_progress(step + 1, request.steps)
        return _image(x)


def _rescaled(unet: Any, request: UNetRequest) -> AbstractContextManager[Rescaling | None]:
    settings = None if request.direct else settings_for(unet, request.size)
    if settings is None:
        return nullcontext()
    return scalecrafter(unet, settings, steps=request.steps)


# Stable Diffusion and its kin, through the pipelines of diffusers

FREEU = {  # as the official scripts set it, but diffusers applies it by block, not by channels
    "sd1": {"b1": 1.2, "b2": 1.4, "s1": 0.9, "s2": 0.2},
    "sd2": {"b1": 1.1, "b2": 1.2, "s1": 0.9, "s2": 0.2},
    "sdxl": {"b1": 1.1, "b2": 1.2, "s1": 0.6, "s2": 0.4},
}


@contextmanager
def crafted(
    pipe: Any, size: tuple[int, int], *, settings: Settings | None = None, freeu: bool = False
) -> Iterator[None]:
    """Inside, any pipeline with a UNet makes images of `size` (H, W) as ScaleCrafter does.

    Text to image, image to image, ControlNet, any scheduler: the call of the pipeline is its own.
    settings: None for those of the paper, by the UNet and the size; within the trained size
    nothing is changed. freeu: with the official strengths. Afterwards the pipeline is as before.
    """
    if settings is None:
        settings = settings_for(pipe.unet, _divided(size, pipe.vae_scale_factor))
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
    """Tells a rescaled UNet, before each evaluation, how far the pipeline's sampling is.

    By the time step, not by counting: some schedulers evaluate one step twice, and image to image
    leaves the first ones out.
    """

    def __init__(self, pipe: Any, rescaling: Rescaling):
        self.pipe, self.rescaling = pipe, rescaling
        self.times: Tensor | None = None  # of the sampling under way
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


@dataclass(frozen=True)
class PromptRequest:
    """What a text-to-image pipeline is to make. Image i has the seed `seed` + i."""

    prompt: str
    size: tuple[int, int]  # (H, W) in pixels
    negative: str = ""
    count: int = 1
    seed: int = 0
    steps: int = 50
    guidance: float = 7.5
    eta: float = 0.0  # of schedulers that take it; 1 is what the paper used
    scheduler: str | None = None  # a key of text_to_image.SCHEDULERS; None: the pipeline's own
    direct: bool = False  # without ScaleCrafter
    freeu: bool = False
    disperse: bool = False
    synchronise: bool = False  # decode in tiles that share their statistics


class ScaleCrafterSampler:
    """A Stable Diffusion pipeline of diffusers that makes images beyond its size."""

    def __init__(self, pipe: Any):
        self.pipe = pipe

    @torch.inference_mode()
    def __call__(self, request: PromptRequest, *, on_progress: OnProgress | None = None) -> Tensor:
        """Images (count, 3, H, W) in [0, 1], float32 on the CPU. Raises UsageError."""
        latent_size = _divided(request.size, self.pipe.vae_scale_factor)

        def on_step_end(pipe: Any, step: int, t: Any, state: dict[str, Any]) -> dict[str, Any]:
            if on_progress:
                on_progress(step + 1, pipe.num_timesteps)
            return state

        with self._context(request, latent_size):
            output = self.pipe(
                prompt=request.prompt,
                negative_prompt=request.negative,
                height=request.size[0],
                width=request.size[1],
                num_inference_steps=request.steps,
                guidance_scale=request.guidance,
                eta=request.eta,
                num_images_per_prompt=request.count,
                generator=[Generator().manual_seed(request.seed + i) for i in range(request.count)],
                output_type="latent" if request.synchronise else "pt",
                callback_on_step_end=on_step_end,
            ).images
        if request.synchronise:
            return _image(self._decode(output))
        return _image(2 * output - 1)

    def _context(
        self, request: PromptRequest, latent_size: tuple[int, int]
    ) -> AbstractContextManager[None]:
        if request.direct:
            return nullcontext()
        settings = settings_for(self.pipe.unet, latent_size, disperse=request.disperse)
        return crafted(self.pipe, request.size, settings=settings, freeu=request.freeu)

    def _decode(self, latents: Tensor) -> Tensor:
        vae = self.pipe.vae
        if vae.config.force_upcast:  # SDXL's overflows in half precision
            vae.to(torch.float32)
        parameter = next(vae.parameters())
        latents = latents.to(parameter.device, parameter.dtype) / vae.config.scaling_factor
        return decode_in_step(vae, latents, tile=vae.tile_latent_min_size)


# Common to all


def _check_labels(request: FiTRequest | UNetRequest, classes: int) -> None:
    """Raises UsageError."""
    for label in (request.label, request.negative):
        if label is not None and not 0 <= label < classes:
            raise UsageError(f"there is no class {label}", hint=f"0 ... {classes - 1}")


def _divided(size: tuple[int, int], unit: int) -> tuple[int, int]:
    """A size in pixels (H, W) in units of so many. Raises UsageError."""
    if min(size) < unit or any(side % unit for side in size):
        nearest = "x".join(str(max(unit, round(side / unit) * unit)) for side in reversed(size))
        raise UsageError(
            f"size {size[1]}x{size[0]}: both sides must be multiples of {unit}",
            hint=f"the nearest is {nearest}",
        )
    return size[0] // unit, size[1] // unit


def _image(images: Tensor) -> Tensor:
    """(N, C, H, W) around [-1, 1] to [0, 1]. Raises BrokenOutput."""
    if not images.isfinite().all():
        raise BrokenOutput("the network produced NaN or infinity", hint="try --precision fp32")
    return (images.float().cpu() / 2 + 0.5).clamp(0, 1)
