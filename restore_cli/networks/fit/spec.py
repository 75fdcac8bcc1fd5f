"""Facts of FiTv2 and FiT."""

from __future__ import annotations

from restore_cli.networks.facts import Generation

LIMITS = {"ori_max_pe_len": 256, "max_pe_len_h": 256, "max_pe_len_w": 256}  # patches along an axis

SPECS = (
    Generation(
        arch="fitv2",
        model="restore_cli.networks.fit.model:FiT",
        config="FiTConfig",
        official="restore_cli.networks.fit.official:FITV2_LAYOUT",
        latents=True,
        limits=LIMITS,
        default_weights="fitv2.default",
        paper="Wang et al., FiTv2: Scalable and Improved Flexible Vision Transformer for "
        "Diffusion Model (arXiv 2410.13925)",
    ),
    Generation(
        arch="fitv1",
        model="restore_cli.networks.fit.model:FiT",
        config="FiTv1Config",
        official="restore_cli.networks.fit.official:FITV1_LAYOUT",
        latents=True,
        limits=LIMITS,
        default_weights="fitv1.default",
        paper="Lu et al., FiT: Flexible Vision Transformer for Diffusion Model, "
        "ICML 2024 (arXiv 2402.12376)",
    ),
)
