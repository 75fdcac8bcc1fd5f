"""UNets and a VAE small enough for a test."""

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

CLASS_UNET = {  # of a class-conditional UNet, for registry.build("scalecrafter")
    "sample_size": 8,
    "num_classes": 2,
    "widths": [8, 16],
    "layers": 1,
    "groups": 4,
    "head_dim": 8,
    "attention_levels": 1,
}


def text_unet() -> UNet2DConditionModel:
    """As in Stable Diffusion, with random weights."""
    return UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
    )


def tiny_vae(seed: int = 0) -> AutoencoderKL:
    torch.manual_seed(seed)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 4),
        norm_num_groups=2,
    ).eval()
