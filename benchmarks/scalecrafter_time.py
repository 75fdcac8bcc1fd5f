"""Time of a UNet step with ScaleCrafter / without, at one size, for several training sizes.

    python -m benchmarks.scalecrafter_time --size 1024

The UNet has the structure of Stable Diffusion 1.5 with few channels and random weights.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from functools import partial

import torch
from diffusers import UNet2DConditionModel

from restore_cli.inference.samplers.presets import settings_for
from restore_cli.networks.scalecrafter.model import scalecrafter

STEPS = 50
SHOWN = (0, 30, 49)


def seconds(*runs: Callable[[], object], repeats: int = 3) -> list[float]:
    """Return the least processor time of each call, measured in turns."""
    least = [float("inf")] * len(runs)
    for _ in range(repeats):
        for index, run in enumerate(runs):
            began = time.process_time()
            run()
            least[index] = min(least[index], time.process_time() - began)
    return least


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="Side of the image in pixels.")
    size = parser.parse_args().size
    side = size // 8
    print(f"{size}x{size}; ratio in step " + ", ".join(map(str, SHOWN)) + f" of {STEPS}")
    for ratio, disperse in ((2, False), (4, False), (4, True)):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=side // ratio,
            block_out_channels=(32, 64, 128, 128),
            cross_attention_dim=768,
            attention_head_dim=1,
            norm_num_groups=8,
        ).eval()
        latents, prompt = torch.randn(2, 4, side, side), torch.randn(2, 7, 768)

        def step(unet: torch.nn.Module = unet, x: torch.Tensor = latents) -> object:
            return unet(x, 500, encoder_hidden_states=prompt)  # noqa: B023

        plain = partial(step, copy.deepcopy(unet))
        plain()
        settings = settings_for(unet, (side, side), disperse=disperse)
        assert settings is not None
        with scalecrafter(unet, settings, steps=STEPS) as rescaling:
            ratios = []
            for rescaling.step in SHOWN:
                step()
                direct, crafted = seconds(plain, step)
                ratios.append(f"{crafted / direct:.2f}")
        name = f"trained at {size // ratio}{', dispersed' if disperse else ''}"
        print(f"{name}: direct {direct:.2f} s, ratio {', '.join(ratios)}", flush=True)


if __name__ == "__main__":
    main()
