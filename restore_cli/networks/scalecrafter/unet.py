"""A small class-conditional UNet of diffusers, on which ScaleCrafter is demonstrated."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class UNetConfig:
    """A UNet with the layer names of Stable Diffusion, by which ScaleCrafter lists layers."""

    sample_size: int = 64  # pixels along a side in training
    num_classes: int = 24  # without the null class, whose id is num_classes
    widths: tuple[int, ...] = (32, 64, 96, 128)
    layers: int = 2  # per level
    groups: int = 16
    head_dim: int = 32
    attention_levels: int = 2  # the deepest ones


def class_unet(config: UNetConfig) -> nn.Module:
    """Build a UNet2DModel of diffusers."""
    from diffusers import UNet2DModel

    plain = len(config.widths) - config.attention_levels
    down = ("DownBlock2D",) * plain + ("AttnDownBlock2D",) * config.attention_levels
    up = ("AttnUpBlock2D",) * config.attention_levels + ("UpBlock2D",) * plain
    unet: nn.Module = UNet2DModel(
        sample_size=config.sample_size,
        down_block_types=down,
        up_block_types=up,
        block_out_channels=tuple(config.widths),
        layers_per_block=config.layers,
        norm_num_groups=config.groups,
        attention_head_dim=config.head_dim,
        num_class_embeds=config.num_classes + 1,
    )
    return unet
