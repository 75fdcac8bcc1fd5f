"""FiTv2 along its flow and FiT as a DDPM, at any size, in pixels or in latents of a VAE."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, cast, get_args

import torch
from torch import Tensor

from restore_cli.inference.samplers import ode
from restore_cli.inference.samplers.class_conditional import (
    class_labels,
    class_numbers,
    draw_noise,
    seeded_generators,
)
from restore_cli.inference.samplers.request import (
    SHARED,
    GenerateRequest,
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
from restore_cli.inference.samplers.vae import decode, latent_scale, refuse_other_channels
from restore_cli.networks.fit.model import (
    FiT,
    FiTConfig,
    Rope,
    RopeMode,
    grid_of,
    stretches_frequencies,
    unpatchify,
)

CPU = torch.device("cpu")
SOLVERS: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {"euler": ode.euler, "midpoint": ode.midpoint, "heun": ode.heun}
)
FLOW_SAMPLERS = (*SOLVERS, "dopri5", "sde")
ROPES = ("auto", *get_args(RopeMode))


class FiTSampler:
    """A FiTv2 or a FiT that generates images of any size."""

    supports = SHARED | {"rope", "guidance_power"}

    def __init__(
        self,
        network: FiT,
        classes: Sequence[str] = (),
        *,
        vae: Any = None,
        device: torch.device = CPU,
    ):
        """classes: names in the order of their numbers. Raises WeightsMissing, WeightsMismatch."""
        refuse_other_channels(vae, network.config.in_channels, network="FiT")
        self.network = network.to(device).eval()
        self.classes = classes
        self.vae = None if vae is None else vae.to(device).eval()
        self.device = device
        self.unit = latent_scale(vae) * network.config.patch_size  # pixels along a token's side

    def resolve(self, request: GenerateRequest) -> GenerateRequest:
        """See Sampler. FiT, unlike FiTv2, has no choice of samplers."""
        config = self.network.config
        refuse_unsupported(request, self.supports, network="FiT")
        class_numbers(request, self.classes, config.num_classes)  # refuses unknown ones
        side = math.isqrt(config.context_size) * self.unit
        size = request.size or (side, side)
        in_units(size, self.unit)
        flow = config.use_sit
        sampler = one_of(
            request.sampler, FLOW_SAMPLERS if flow else (), "midpoint", option="--sampler"
        )
        return replace(
            request,
            size=size,
            steps=steps_or(request.steps, 25 if flow else 250),
            guidance=guidance_or(request.guidance, 1.5),
            guidance_power=default(request.guidance_power, 0.0),
            sampler=sampler if flow else None,
            rope=one_of(request.rope, ROPES, "auto", option="--rope"),
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
        """See Sampler. dopri5 takes as many steps as it needs."""
        config, request = self.network.config, self.resolve(request)
        size = in_units(resolved(request.size), self.unit)
        generators = seeded_generators(seed, count)
        features = config.in_channels * config.patch_size**2
        shape = (size[0] * size[1], features) if config.use_sit else (features, size[0] * size[1])
        noise = partial(draw_noise, shape, generators, self.device)
        if config.use_sit:
            tokens = self._flow(request, size, noise, count, on_progress)
        else:
            tokens = self._ddpm(request, size, noise(), generators, on_progress).transpose(1, 2)
        return to_unit_range(decode(unpatchify(tokens, size, config.patch_size), self.vae))

    def _velocity(
        self, request: GenerateRequest, size: tuple[int, int], count: int
    ) -> ode.Velocity:
        """Return the guided network as a function of tokens and time."""
        config = self.network.config
        labels, negative = class_labels(
            request, self.classes, config.num_classes, count, self.device
        )
        grid = grid_of(*size, device=self.device).expand(count, -1, -1)
        sizes = torch.tensor([size], device=self.device).expand(count, -1)
        rope = rope_for(config, size, resolved(request.rope))

        def velocity(x: Tensor, t: float) -> Tensor:
            return self.network.guided(
                x,
                x.new_full((count,), t),
                labels,
                grid,
                sizes,
                rope,
                scale=resolved(request.guidance),
                power=resolved(request.guidance_power),
                negative=negative,
            )

        return velocity

    def _flow(
        self,
        request: GenerateRequest,
        size: tuple[int, int],
        noise: Callable[[], Tensor],
        count: int,
        on_progress: OnProgress | None,
    ) -> Tensor:
        steps, sampler = resolved(request.steps), resolved(request.sampler)

        def on_time(t: float) -> None:
            if on_progress:
                on_progress(round(t * steps), steps)

        velocity = self._velocity(request, size, count)
        if sampler == "dopri5":
            return ode.dopri5(velocity, noise(), on_time=on_time)
        if sampler == "sde":
            return ode.euler_maruyama(velocity, noise(), steps, noise, on_time)
        return SOLVERS[sampler](velocity, noise(), steps, on_time)

    def _ddpm(
        self,
        request: GenerateRequest,
        size: tuple[int, int],
        x: Tensor,
        generators: list[torch.Generator],
        on_progress: OnProgress | None,
    ) -> Tensor:
        """Sample FiT: a DDPM with learned variances over channels-first tokens."""
        from diffusers import DDPMScheduler

        scheduler = DDPMScheduler(
            variance_type="learned_range", clip_sample=False, timestep_spacing="linspace"
        )
        steps = resolved(request.steps)
        scheduler.set_timesteps(steps)
        noise_of = self._velocity(request, size, len(generators))
        for done, t in enumerate(scheduler.timesteps, start=1):
            x = scheduler.step(noise_of(x, float(t)), t, x, generator=generators).prev_sample
            if on_progress:
                on_progress(done, steps)
        return x


def rope_for(config: FiTConfig, size: tuple[int, int], mode: str = "auto") -> Rope:
    """Return the position embedding for a size (h, w) in tokens.

    mode: a RopeMode; "auto" follows the authors. A network that was trained with scaled positions
    always scales them; others scale them, with sharper attention, only for more tokens than they
    were trained with. See stretches_frequencies.
    """
    trained = config.ori_max_pe_len
    if mode != "auto":
        return Rope(cast("RopeMode", mode), decouple=True, trained=trained)
    if config.custom_freqs != "normal":
        return Rope(config.custom_freqs, config.decouple, trained)
    if size[0] * size[1] <= config.context_size:
        return Rope()
    beyond: RopeMode = "ntk-aware-pro2" if stretches_frequencies(config) else "linear"
    return Rope(beyond, decouple=True, trained=trained)
