"""The AutoencoderKL that turns the latents of a generator into images."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor

from restore_cli.errors import WeightsMismatch, WeightsMissing

VAE_FILES = "hf download stabilityai/sd-vae-ft-ema --local-dir sd-vae-ft-ema"


def read_vae(folder: Path) -> Any:
    """Read the AutoencoderKL in a folder, never from the network. Raises WeightsMissing."""
    missing = WeightsMissing(
        f"{folder} contains no readable AutoencoderKL",
        hint=f"it needs config.json and diffusion_pytorch_model.safetensors: {VAE_FILES}",
    )
    if not (folder / "config.json").is_file():
        raise missing  # diffusers would take the folder for a name on the hub
    from diffusers import AutoencoderKL

    try:
        # Without accelerate, which is optional.
        return AutoencoderKL.from_pretrained(folder, local_files_only=True, low_cpu_mem_usage=False)
    except (OSError, ValueError) as error:
        raise missing from error


def vae_sha256(vae: Any) -> str:
    """Return a checksum of all that decides the output of a VAE: its tensors and latent scale."""
    digest = sha256(repr(float(vae.config.scaling_factor)).encode())
    for name, tensor in sorted(vae.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy())
    return digest.hexdigest()


def refuse_other_channels(vae: Any, channels: int, *, network: str) -> None:
    """Raise WeightsMissing for latents without a VAE, WeightsMismatch for a VAE of others."""
    if vae is None and channels != 3:
        raise WeightsMissing(
            f"this {network} generates latents of {channels} channels, which need a VAE",
            hint=f"name its folder: --vae FOLDER; to get one: {VAE_FILES}",
        )
    if vae is not None and vae.config.latent_channels != channels:
        raise WeightsMismatch(
            f"the VAE has {vae.config.latent_channels} channels, this {network} {channels}"
        )


def latent_scale(vae: Any) -> int:
    """Return image side / latent side; 1 without a VAE."""
    return 1 if vae is None else 2 ** (len(vae.config.block_out_channels) - 1)


def decode(latents: Tensor, vae: Any) -> Tensor:
    """Return images (B, 3, H, W) in [-1, 1]; without a VAE the latents are images."""
    if vae is None:
        return latents
    images: Tensor = vae.decode(latents / vae.config.scaling_factor).sample
    return images
