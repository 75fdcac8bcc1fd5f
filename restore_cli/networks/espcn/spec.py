"""Facts of ESPCN."""

from __future__ import annotations

from restore_cli.networks.facts import Facts, Luma, Restoration, Ycbcr

RADIUS = 4  # of a 5x5 and two 3x3 convolutions


def facts(scale: int = 3, in_channels: int = 1, **config: object) -> Facts:
    feed = Luma if in_channels == 1 else Ycbcr
    return Facts(
        scale=scale,
        channels=in_channels,
        receptive_radius=RADIUS,
        overlap=RADIUS,
        bytes_per_pixel=640,
        tiling="exact",
        preprocessing=feed(scale, border=RADIUS),
        faster_in_16_bit=False,
    )


SPEC = Restoration(
    arch="espcn",
    model="restore_cli.networks.espcn.model:ESPCN",
    config="ESPCNConfig",
    official="restore_cli.networks.espcn.official:LAYOUT",
    weights={"upscale": "espcn.x2"},
    paper="Shi et al., Real-Time Single Image and Video Super-Resolution Using an "
    "Efficient Sub-Pixel Convolutional Neural Network, CVPR 2016 (arXiv 1609.05158)",
    facts=facts,
)
