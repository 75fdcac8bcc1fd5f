"""Facts of MIRNet."""

from __future__ import annotations

from restore_cli.networks.facts import BicubicFirst, Facts, Restoration, Rgb


def facts(
    n_feat: int = 64,
    height: int = 3,
    scale: int = 1,
    upsampler: str = "bicubic",
    **config: object,
) -> Facts:
    return Facts(
        scale=scale,
        multiple=2 ** (height - 1),
        receptive_radius=None,  # attention by averages over the image
        overlap=32,
        bytes_per_pixel=6400 * n_feat // 64,
        tiling="approximate",
        preprocessing=Rgb() if upsampler == "subpixel" else BicubicFirst(scale),
    )


SPEC = Restoration(
    arch="mirnet",
    model="restore_cli.networks.mirnet.model:MIRNet",
    config="MIRNetConfig",
    official="restore_cli.networks.mirnet.official:LAYOUT",
    weights={
        "denoise": "mirnet.denoise",
        "enhance": "mirnet.enhance",
        "upscale": "mirnet.sr_x2",
        "dejpeg": "mirnet.jpeg",
    },
    paper="Zamir et al., Learning Enriched Features for Real Image Restoration and "
    "Enhancement, ECCV 2020 (arXiv 2003.06792)",
    facts=facts,
    limits={"height": 8, "width": 8, "scale": 16},
)
