"""Small networks of the architectures of spandrel, with random weights."""

from importlib import import_module

import torch

from restore_cli.checkpoints.empty import no_initial_values

# Arguments of each class that make it small; spandrel reads them from the shapes of the weights.
SMALL = {
    "ATD": {
        "embed_dim": 12,
        "depths": (2,),
        "num_heads": (2,),
        "window_size": 8,
        "category_size": 256,
        "num_tokens": 4,
        "reducted_dim": 4,
        "upscale": 2,
        "upsampler": "pixelshuffledirect",
    },
    "AuraSR": {
        "dim": 8,
        "image_size": None,
        "input_image_size": None,
        "style_network": {"dim_in": 8, "dim_out": 32, "depth": 1},
        "up_dim_mults": (1, 1, 1, 1, 1),
        "down_dim_mults": (1, 1, 1),
        "full_attn": (False, False, False, False, False),
        "attn_depths": (2, 2, 2, 2, 2),
        "mid_attn_depth": 1,
        "self_attn_dim_head": 8,
        "skip_connect_scale": 0.4,
    },
    "CRAFT": {"embed_dim": 12, "depths": [1], "num_heads": [2], "upscale": 2},
    "Compact": {"num_feat": 8, "num_conv": 2, "upscale": 2},
    "DAT": {
        "embed_dim": 16,
        "depth": [2],
        "num_heads": [2],
        "upscale": 2,
        "split_size": [2, 4],
        "expansion_factor": 2.0,
    },
    "DCTLSA": {"nf": 10, "upscale": 2},
    "DITN": {"ITL_blocks": 1, "SAL_blocks": 1, "upscale": 2},
    "DRCT": {
        "embed_dim": 12,
        "depths": (6,),
        "num_heads": (2,),
        "window_size": 8,
        "upscale": 2,
        "upsampler": "pixelshuffle",
        "gc": 4,
    },
    "DRUNet": {"in_nc": 4, "out_nc": 3, "nc": [4, 4, 4, 4], "nb": 2},
    "DnCNN": {"in_nc": 3, "out_nc": 3, "nc": 8, "nb": 8, "act_mode": "R"},
    "ESRGAN": {"num_filters": 8, "num_blocks": 1, "scale": 4},
    "FBCNN": {"nc": [4, 4, 4, 512], "nb": 2},  # 512: a fixed size of the predictor of quality
    "FDAT": {
        "scale": 2,
        "embed_dim": 16,
        "num_groups": 1,
        "depth_per_group": 2,
        "num_heads": 2,
        "mid_dim": 16,
    },
    "FFTformer": {"dim": 8, "num_blocks": [1, 1, 1], "num_refinement_blocks": 1},
    "GRL": {
        "embed_dim": 24,
        "depths": [2],
        "num_heads_window": [2],
        "num_heads_stripe": [2],
        "window_size": 8,
        "stripe_size": [8, 8],
        "anchor_window_down_factor": 2,
        "stripe_shift": True,
        "local_connection": True,
    },
    "HAT": {
        "embed_dim": 12,
        "depths": (2,),
        "num_heads": (2,),
        "window_size": 8,
        "squeeze_factor": 3,
        "upscale": 2,
    },
    "HVICIDNet": {"channels": [4, 4, 8, 16]},
    "IPT": {"n_feats": 4, "num_layers": 1, "scale": [2], "mlp": False},
    "KBNet_s": {
        "width": 4,
        "middle_blk_num": 1,
        "enc_blk_nums": [1, 1, 1, 1],
        "dec_blk_nums": [1, 1, 1, 1],
    },
    "MMRealSR": {
        "num_in_ch": 3,
        "num_out_ch": 3,
        "num_feat": 8,
        "num_block": 1,
        "num_grow_ch": 4,
        "num_feats": [8, 8, 8, 8],
    },
    "MixDehazeNet": {"embed_dims": [8, 16, 32, 16, 8]},
    "MoESR": {"scale": 2, "dim": 16, "n_blocks": 1, "n_block": 1, "upsample_dim": 16},
    "MoSR": {"upscale": 2, "n_block": 1, "dim": 16},
    "NAFNet": {"width": 4, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]},
    "OmniSR": {"num_feat": 16, "up_scale": 2},
    "PLKSR": {"dim": 16, "n_blocks": 1, "upscaling_factor": 2},
    "RCAN": {"scale": 2, "n_resgroups": 1, "n_resblocks": 1, "n_feats": 16, "reduction": 4},
    "RGT": {"embed_dim": 12, "depth": [2], "num_heads": [2], "upscale": 2},
    "UpCunet2x": {},  # RealCUGAN, of one size only
    "RestoreFormer": {
        "n_embed": 16,
        "embed_dim": 32,
        "ch": 32,
        "ch_mult": (1, 1, 1, 1, 1, 2),
        "num_res_blocks": 1,
        "z_channels": 32,
    },
    "RetinexFormer": {"n_feat": 8, "stage": 1},
    "SAFMN": {"dim": 8, "n_blocks": 1, "upscaling_factor": 2},
    "SAFMNBCIE": {"dim": 8, "n_blocks": 1, "num_layers": 1},
    "SCUNet": {"config": [1] * 7},
    "SPAN": {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 2},
    "SeemoRe": {"scale": 2, "num_layers": 1, "embedding_dim": 8, "num_experts": 3},
    "SwiftSRGAN": {"num_channels": 8, "num_blocks": 1, "upscale_factor": 2},
    "Swin2SR": {
        "embed_dim": 12,
        "depths": [2],
        "num_heads": [2],
        "window_size": 8,
        "upscale": 2,
        "upsampler": "pixelshuffledirect",
    },
    "SwinIR": {
        "embed_dim": 12,
        "depths": [2],
        "num_heads": [2],
        "window_size": 8,
        "upscale": 2,
        "upsampler": "pixelshuffledirect",
    },
    "Uformer": {"embed_dim": 16, "depths": [1] * 9},
}
FOLDERS = {"KBNet_s": "KBNet", "UpCunet2x": "RealCUGAN"}  # where they differ from the class


def state_of(name, **changes):
    """Return the state dict of a small network; `changes` are arguments of its class."""
    module = import_module(f"spandrel.architectures.{FOLDERS.get(name, name)}")
    network = getattr(module, name)
    if name in SMALL:
        return network(**SMALL[name] | changes).state_dict()
    with no_initial_values():  # of networks that have one size, and are not run
        state = network(**changes).state_dict()
    return {key: torch.zeros_like(tensor) for key, tensor in state.items()}


def save_model(folder, name, **changes):
    """Write the weights of a small network to NAME.pth in a folder."""
    path = folder / f"{name}.pth"
    torch.save(state_of(name, **changes), path)
    return path
