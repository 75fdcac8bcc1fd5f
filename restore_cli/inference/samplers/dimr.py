"""DiMR by its published solver or by schedulers of diffusers, in pixels or in latents of a VAE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from restore_cli.errors import UsageError
from restore_cli.inference.samplers.class_conditional import (
    class_labels,
    class_numbers,
    draw_noise,
    seeded_generators,
)
from restore_cli.inference.samplers.dpm_solver import Noise, dpm_solver
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
from restore_cli.networks.dimr.model import DiMR

CPU = torch.device("cpu")
SCHEDULERS: Mapping[str, str] = MappingProxyType(
    {"ddim": "DDIMScheduler", "unipc": "UniPCMultistepScheduler"}
)
SAMPLERS = ("dpm", *SCHEDULERS)


class DiMRSampler:
    """A DiMR that generates images of up to the size of its position tables."""

    supports = SHARED | {"guidance_power"}

    def __init__(
        self,
        network: DiMR,
        classes: Sequence[str] = (),
        *,
        vae: Any = None,
        device: torch.device = CPU,
    ):
        """classes: names in the order of their numbers. Raises WeightsMissing, WeightsMismatch."""
        refuse_other_channels(vae, network.config.channels, network="DiMR")
        # On one CPU core 11 % less time: benchmarks/generate_time.py.
        self.network: DiMR = network.eval().to(  # type: ignore[call-overload]
            device=device, memory_format=torch.channels_last
        )
        self.classes = classes
        self.vae = None if vae is None else vae.to(device).eval()
        self.device = device
        self.null = network.config.num_classes - 1
        self.scale = latent_scale(vae)

    def resolve(self, request: GenerateRequest) -> GenerateRequest:
        """See Sampler. The defaults in latents are the published ones."""
        refuse_unsupported(request, self.supports, network="DiMR")
        class_numbers(request, self.classes, self.null)  # refuses unknown ones
        height, width = (self.scale * side for side in self.network.largest)
        size = request.size or (height, width)
        in_units(size, self.scale * self.network.strides[0])
        if size[0] > height or size[1] > width:
            raise UsageError(
                f"size {size[1]}x{size[0]}: this DiMR has positions up to {width}x{height}",
                hint="enlarge the image afterwards: restore upscale",
            )
        published = self.vae is not None
        return replace(
            request,
            size=size,
            steps=steps_or(request.steps, 250 if published else 25),
            guidance=guidance_or(request.guidance, 1.4 if published else 2.0),
            guidance_power=default(request.guidance_power, 0.0),
            sampler=one_of(request.sampler, SAMPLERS, "dpm", option="--sampler"),
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
        """See Sampler. A step is one evaluation of the network."""
        request = self.resolve(request)
        height, width = (side // self.scale for side in resolved(request.size))
        shape = (self.network.config.channels, height, width)
        x = draw_noise(shape, seeded_generators(seed, count), self.device)
        steps = resolved(request.steps)

        def on_step(done: int) -> None:
            if on_progress:
                on_progress(done, steps)

        noise, sampler = self._noise(request, count), resolved(request.sampler)
        if sampler == "dpm":
            x = dpm_solver(noise, x, steps, on_step)
        else:
            scheduler = _scheduler(sampler)
            scheduler.set_timesteps(steps)
            for done, t in enumerate(scheduler.timesteps.tolist(), start=1):
                x = scheduler.step(noise(x, t + 1), t, x).prev_sample  # diffusers counts from 0
                on_step(done)
        return to_unit_range(decode(x, self.vae))

    def _noise(self, request: GenerateRequest, count: int) -> Noise:
        """Return the guided network as a function of images and time step."""
        labels, negative = class_labels(request, self.classes, self.null, count, self.device)

        def noise(x: Tensor, n: float) -> Tensor:
            return self.network.guided(
                x,
                x.new_full((count,), n),
                labels,
                scale=resolved(request.guidance),
                power=resolved(request.guidance_power),
                negative=negative,
            )

        return noise


def _scheduler(name: str) -> Any:
    import diffusers

    options = {"solver_order": 3} if name == "unipc" else {"clip_sample": False}
    return getattr(diffusers, SCHEDULERS[name])(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="trailing",
        **options,
    )
