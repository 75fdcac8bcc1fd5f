"""Pipelines of diffusers with a few thousand random weights, in folders; they need transformers."""

import json

import pytest
import torch
from diffusers import ControlNetModel, DDIMScheduler, LCMScheduler, UNet2DConditionModel

from tests.unets import tiny_vae

UNET = {
    "sample_size": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "cross_attention_dim": 8,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}
SCHEDULE = {"beta_schedule": "scaled_linear", "clip_sample": False, "set_alpha_to_one": False}
XL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 2,
    "projection_class_embeddings_input_dim": 6 * 2 + 8,
    "cross_attention_dim": 16,  # of both text encoders
}


def tiny_pipeline(kind, folder, seed=0):
    """The folder of a pipeline: sd, xl, lcm or inpaint."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    import diffusers

    torch.manual_seed(seed)
    parts = {
        "vae": tiny_vae(seed),
        "text_encoder": transformers.CLIPTextModel(text_config(transformers)),
        "tokenizer": tokenizer(transformers, folder),
        "scheduler": DDIMScheduler(**SCHEDULE, steps_offset=1),
    }
    if kind == "xl":
        second = transformers.CLIPTextModelWithProjection(text_config(transformers))
        pipe = diffusers.StableDiffusionXLPipeline(
            **parts,
            unet=UNet2DConditionModel(**UNET | XL),
            text_encoder_2=second,
            tokenizer_2=parts["tokenizer"],
        )
    else:
        classes = {
            "sd": (diffusers.StableDiffusionPipeline, {}),
            "lcm": (diffusers.LatentConsistencyModelPipeline, {"time_cond_proj_dim": 4}),
            "inpaint": (diffusers.StableDiffusionInpaintPipeline, {"in_channels": 9}),
        }
        made, changes = classes[kind]
        if kind == "lcm":
            parts["scheduler"] = LCMScheduler(**SCHEDULE)
        pipe = made(
            **parts,
            unet=UNet2DConditionModel(**UNET | changes),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipe.save_pretrained(folder / kind)
    return folder / kind


def tiny_controlnet(folder, channels=3, **changes):
    """The folder of a ControlNet for `sd`, which changes its output; channels: of its image."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**UNET | changes)
    net = ControlNetModel.from_unet(
        unet, conditioning_embedding_out_channels=(4, 8), conditioning_channels=channels
    )
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    net.save_pretrained(folder)
    return folder


def tiny_lora(file, layers=("attn1.to_q",), rank=2, features=8, prefix="unet"):
    """A LoRA file of some layers of the first attention of `sd`."""
    block = f"{prefix}.down_blocks.0.attentions.0.transformer_blocks.0"
    names = [f"{block}.{layer}" for layer in layers]
    return save_lora(file, names, ("lora_A", "lora_B"), (rank, features), (features, rank))


LORAS = {  # of each layout of LoRA files: layers of `sd`, and the names of their two matrices
    "peft": (["unet.down_blocks.0.attentions.0.proj_in"], ("lora_A", "lora_B")),
    "diffusers": (
        ["unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"],
        ("lora.down", "lora.up"),
    ),
    "kohya": (
        ["lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"],
        ("lora_down", "lora_up"),
    ),
    "peft text": (
        ["text_encoder.text_model.encoder.layers.0.self_attn.q_proj"],
        ("lora_A", "lora_B"),
    ),
    "diffusers text": (
        ["text_encoder.text_model.encoder.layers.0.self_attn.q_proj"],
        ("lora_linear_layer.down", "lora_linear_layer.up"),
    ),
    "kohya text": (
        [
            f"lora_te_text_model_encoder_layers_0_self_attn_{name}_proj"
            for name in ("q", "k", "v", "out")
        ],
        ("lora_down", "lora_up"),
    ),
}


def save_lora(file, layers, matrices, down, up):
    """Write a LoRA of random matrices of two shapes."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    tensors = {}
    for layer in layers:
        for matrix, shape in zip(matrices, (down, up), strict=True):
            kernel = (1, 1) if layer.endswith("proj_in") else ()  # a convolution
            tensors[f"{layer}.{matrix}.weight"] = torch.randn(*shape, *kernel)
        if layer.startswith("lora_"):
            tensors[f"{layer}.alpha"] = torch.tensor(1.0)
    save_file(tensors, file)
    return file


def tokenizer(transformers, folder):
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for letter in map(chr, range(33, 127)):
        words |= {letter: len(words), f"{letter}</w>": len(words) + 1}
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16
    )


def text_config(transformers):
    return transformers.CLIPTextConfig(
        vocab_size=2 + 2 * len(range(33, 127)),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=8,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
