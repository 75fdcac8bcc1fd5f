"""Facts of TML, and of UGDC, its network."""

from __future__ import annotations

from collections.abc import Sequence

from restore_cli.networks.facts import Facts, FixedSize, Restoration

PAPER = (
    "Song et al., Troublemaker Learning for Low-Light Image Enhancement, 2024 (arXiv 2402.04584)"
)


def facts(
    nominal_size: Sequence[int] = (400, 640), in_channels: int = 3, **config: object
) -> Facts:
    height, width = nominal_size
    return Facts(
        channels=in_channels,
        receptive_radius=None,
        overlap=0,
        bytes_per_pixel=2700,
        tiling="never",
        preprocessing=FixedSize(height, width),
        upright=True,
    )


SPECS = (
    Restoration(
        arch="tml",
        model="restore_cli.networks.tml.model:TML",
        config="TMLConfig",
        official="restore_cli.networks.tml.official:TML_LAYOUT",
        weights={"enhance": "tml.default"},
        paper=PAPER,
        facts=facts,
    ),
    # The first stage of TML alone: images are bright, colours not yet corrected.
    Restoration(
        arch="ugdc",
        model="restore_cli.networks.tml.model:UGDC",
        config="UGDCConfig",
        official="restore_cli.networks.tml.official:UGDC_LAYOUT",
        weights={"enhance": "ugdc.default"},
        paper=PAPER,
        facts=facts,
    ),
)
