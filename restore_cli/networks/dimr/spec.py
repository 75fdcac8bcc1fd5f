"""Facts of DiMR."""

from __future__ import annotations

from restore_cli.networks.facts import Generation

SPEC = Generation(
    arch="dimr",
    model="restore_cli.networks.dimr.model:DiMR",
    config="DiMRConfig",
    official="restore_cli.networks.dimr.official:LAYOUT",
    default_weights="dimr.default",
    latents=True,
    paper="Liu et al., Alleviating Distortion in Image Generation via Multi-Resolution Diffusion "
    "Models and Time-Dependent Layer Normalization, NeurIPS 2024 (arXiv 2406.09416)",
)
