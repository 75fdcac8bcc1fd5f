"""Facts of the small UNet that demonstrates ScaleCrafter; Stable Diffusion has no entry."""

from __future__ import annotations

from restore_cli.networks.facts import Generation

SPEC = Generation(
    arch="scalecrafter",
    model="restore_cli.networks.scalecrafter.unet:class_unet",
    config="UNetConfig",
    limits={"sample_size": 1024},
    default_weights="scalecrafter.default",
    paper="He et al., ScaleCrafter: Tuning-free Higher-Resolution Visual Generation "
    "with Diffusion Models, ICLR 2024 (arXiv 2310.07702)",
)
