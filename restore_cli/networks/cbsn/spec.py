"""Facts of C-BSN."""

from __future__ import annotations

from restore_cli.networks.facts import Facts, Restoration, Standardized


def facts(in_channels: int = 3, num_module: int = 9, **config: object) -> Facts:
    return Facts(
        channels=in_channels,
        receptive_radius=2 + 3 * num_module,  # the branch of dilation 3 sees farthest
        overlap=29,
        bytes_per_pixel=3000,
        tiling="exact",
        preprocessing=Standardized(),
    )


SPEC = Restoration(
    arch="cbsn",
    model="restore_cli.networks.cbsn.model:CBSN",
    config="CBSNConfig",
    official="restore_cli.networks.cbsn.official:LAYOUT",
    weights={"denoise": "cbsn.default"},
    paper="Jang et al., Self-supervised Image Denoising with Downsampled Invariance "
    "Loss and Conditional Blind-Spot Network, ICCV 2023 (arXiv 2304.09507)",
    facts=facts,
)
