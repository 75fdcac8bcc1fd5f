"""Facts of DPENet."""

from __future__ import annotations

from restore_cli.networks.facts import Facts, Restoration, Rgb


def facts(in_channels: int = 3, **config: object) -> Facts:
    return Facts(
        channels=in_channels,
        receptive_radius=181,
        overlap=64,
        bytes_per_pixel=1200,
        tiling="exact",
        preprocessing=Rgb(),
        upright=True,  # rain falls down
    )


SPEC = Restoration(
    arch="dpenet",
    model="restore_cli.networks.dpenet.model:DPENet",
    config="DPENetConfig",
    official="restore_cli.networks.dpenet.official:LAYOUT",
    weights={"derain": "dpenet.default"},
    paper="Wen et al., From Heavy Rain Removal to Detail Restoration: "
    "A Faster and Better Network, Pattern Recognition 2023 (arXiv 2205.03553)",
    facts=facts,
)
