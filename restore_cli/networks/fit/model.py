"""FiTv2 and FiT: flexible vision transformers that generate images of any size and aspect ratio.

Wang et al., "FiTv2: Scalable and Improved Flexible Vision Transformer for Diffusion Model",
arXiv 2410.13925; Lu et al., "FiT: Flexible Vision Transformer for Diffusion Model", ICML 2024,
arXiv 2402.12376. Reference code: whlzy/FiT at b22b7b0.
Input: tokens (B, N, C p^2) of patches of p x p, with times, classes and positions.
Output: for FiTv2 the velocity from noise (t = 0) to data (t = 1), (B, N, C p^2); for FiT noise
and variance of a DDPM, channels first, (B, 2 C p^2, N). Zero where the mask is 0.
Checked against: golden cases fitv2-*, fitv1-forward and the shapes of FiTv2-XL/2.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore_cli.networks.layers import guidance_at

RopeMode = Literal[
    "normal",
    "linear",
    "ntk-aware",
    "ntk-by-parts",
    "yarn",
    "ntk-aware-pro1",
    "ntk-aware-pro2",
]


@dataclass(frozen=True)
class FiTConfig:
    """Configuration of FiTv2-XL/2, with the names of the published configuration files."""

    context_size: int = 256  # longest sequence in training; the network takes any
    patch_size: int = 2
    in_channels: int = 4  # of the latent image
    hidden_size: int = 1152
    depth: int = 36
    num_heads: int = 16
    mlp_ratio: float = 4.0
    class_dropout_prob: float = 0.1  # training labels replaced by the null class
    num_classes: int = 1000  # without the null class, whose id is num_classes
    learn_sigma: bool = False  # FiT: output the variance of a DDPM step too
    use_sit: bool = True  # FiTv2: tokens before features
    use_swiglu: Literal[True] = True
    use_swiglu_large: bool = False  # FiT: the full hidden width
    q_norm: Literal["layernorm"] | None = "layernorm"
    k_norm: Literal["layernorm"] | None = "layernorm"
    qk_norm_weight: Literal[False] = False
    rel_pos_embed: Literal["rope"] = "rope"
    adaln_type: Literal["lora", "normal"] = "lora"
    adaln_lora_dim: int = 288  # rank of the modulation of each block
    custom_freqs: RopeMode = "normal"
    decouple: bool = False
    ori_max_pe_len: int = 16
    online_rope: bool = False  # scale by the size of each image, not by max_pe_len
    max_pe_len_h: int | None = None
    max_pe_len_w: int | None = None
    time_shifting: float = 1.0  # FiTv2: above 1, times are moved towards the data


@dataclass(frozen=True)
class FiTv1Config(FiTConfig):
    """Configuration of FiT-XL/2."""

    depth: int = 28
    learn_sigma: bool = True
    use_sit: bool = False
    use_swiglu_large: bool = True
    q_norm: Literal["layernorm"] | None = None
    k_norm: Literal["layernorm"] | None = None
    adaln_type: Literal["lora", "normal"] = "normal"


PUBLISHED_GRID = 16  # patches along an axis in training


def stretches_frequencies(config: FiTConfig) -> bool:
    """Tell whether positions beyond the training size are scaled by NTK, as published.

    NTK keeps the high frequencies, which needs a training grid on which they complete enough
    turns. On smaller grids the object gets lost in the image (weights/fitv2.md); there all
    frequencies are scaled alike ("linear").
    """
    return config.ori_max_pe_len >= PUBLISHED_GRID


def high_resolution(config: FiTConfig) -> FiTConfig:
    """Return the configuration for further training at twice the side: FiTv2-HR at 512 x 512."""
    return replace(
        config,
        context_size=4 * config.context_size,
        custom_freqs="ntk-aware" if stretches_frequencies(config) else "linear",
        decouple=True,
        online_rope=True,
    )


_B = FiTConfig(depth=15, hidden_size=768, num_heads=12, adaln_lora_dim=192)
_XL = FiTConfig()
_3B = FiTConfig(depth=40, hidden_size=2304, num_heads=24, adaln_lora_dim=576)
PUBLISHED: Mapping[str, FiTConfig] = MappingProxyType(
    {
        "FiTv2-B/2": _B,
        "FiTv2-XL/2": _XL,
        "FiTv2-3B/2": _3B,
        "FiTv2-XL/2-HR": high_resolution(_XL),
        "FiTv2-3B/2-HR": high_resolution(_3B),
        "FiT-B/2": FiTv1Config(depth=12, hidden_size=768, num_heads=12),
        "FiT-XL/2": FiTv1Config(),
    }
)


# Images as tokens


def patchify(images: Tensor, patch: int) -> Tensor:
    """Convert (B, C, H, W) to (B, N, C p^2): patches by row, features as (c, row, column)."""
    batch, channels, height, width = images.shape
    grid = images.view(batch, channels, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * patch**2)


def unpatchify(tokens: Tensor, size: tuple[int, int], patch: int) -> Tensor:
    """Convert (B, h w, C p^2) to (B, C, h p, w p), the inverse of patchify; size: (h, w)."""
    batch, (height, width) = len(tokens), size
    grid = tokens.view(batch, height, width, -1, patch, patch)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(batch, -1, height * patch, width * patch)


def grid_of(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Return the positions of the tokens of an image, (2, N): columns, then rows."""
    rows, columns = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    return torch.stack([columns.flatten(), rows.flatten()])


# Rotary position embedding in two dimensions (paper, sec. 3.3 and 4.4)

THETA = 10000.0


@dataclass(frozen=True)
class Rope:
    """Scaling of the rotary position embedding beyond the trained size.

    VisionYaRN and VisionNTK are "yarn" and "ntk-aware" with `decouple`.
    """

    mode: RopeMode = "normal"
    decouple: bool = False  # scale each axis by itself, not both by the larger side
    trained: int = 16  # patches along an axis in training
    target: tuple[int, int] | None = None  # (h, w) in patches; None: the size of each image


def rope_frequencies(rope: Rope, size: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Return angles per row and column (B, 2, head_dim / 4), and factors (B,) of cosine and sine.

    size: (B, 2), (h, w) in patches.
    """
    dim = head_dim // 2  # of one axis
    longest = size.amax(1, keepdim=True)
    side = size if rope.decouple else longest.expand_as(size)
    scale = (side / rope.trained).clamp(min=1)[..., None]  # (B, 2, 1)
    exponent = -torch.arange(0, dim, 2, device=size.device) / dim
    plain = (THETA**exponent).expand(*size.shape, -1)
    ntk = (THETA * scale ** (dim / (dim - 2))) ** exponent
    match rope.mode:
        case "normal":
            frequencies = plain
        case "linear":
            frequencies = plain / scale
        case "yarn":
            frequencies = torch.lerp(plain, plain / scale, _ramp(32, 1, dim, rope.trained, size))
        case "ntk-by-parts":
            slow = torch.lerp(ntk, plain / scale, _ramp(1.25, 0.75, dim, rope.trained, size))
            frequencies = torch.lerp(plain, slow, _ramp(16, 2, dim, rope.trained, size))
        case _:
            frequencies = ntk
    return frequencies, _attention_scale(rope, size, longest.squeeze(1))


def _ramp(turns: float, fewer: float, dim: int, trained: int, like: Tensor) -> Tensor:
    """Return 0 for frequencies with over `turns` turns on the trained side, 1 below `fewer`."""

    def index(turns: float) -> float:
        return dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(THETA))

    low = max(math.floor(index(turns)), 0)
    high = min(math.ceil(index(fewer)), dim - 1)
    width = high - low or 0.001
    return ((torch.arange(dim // 2, device=like.device) - low) / width).clamp(0, 1)


def _attention_scale(rope: Rope, size: Tensor, longest: Tensor) -> Tensor:
    """Return the factor of queries and of keys; the logits scale by its square."""
    if rope.mode == "yarn":
        return 0.1 * (longest / rope.trained).clamp(min=1).log() + 1
    if rope.mode == "ntk-aware-pro1":
        return _entropy_scale(longest, rope.trained)
    if rope.mode == "ntk-aware-pro2":
        return _entropy_scale(size.prod(1), rope.trained**2)
    return torch.ones_like(longest)


def _entropy_scale(tokens: Tensor, trained: int) -> Tensor:
    """Return the scale of eq. 15, with the factor of 2 of the official code and its results."""
    return (torch.log(2 * tokens) / math.log(trained)).clamp(min=1).sqrt()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair of features; x: (B, heads, N, D), cos, sin: (B, 1, N, D / 2)."""
    a, b = x.view(*x.shape[:-1], -1, 2).unbind(-1)
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2).type_as(x)


# The network


def linear(inputs: int, outputs: int, *, zero: bool = False) -> nn.Linear:
    """Build a layer with initial values for training; zero: for a block that starts as identity."""
    layer = nn.Linear(inputs, outputs)
    if zero:
        nn.init.zeros_(layer.weight)
    else:
        nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def layer_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return layer_norm(x) * (1 + scale) + shift


class TimeEmbedding(nn.Module):
    """Two layers on 256 sinusoids of t, which is not multiplied by 1000."""

    def __init__(self, width: int):
        super().__init__()
        first, second = linear(256, width), linear(width, width)
        nn.init.normal_(first.weight, std=0.02)
        nn.init.normal_(second.weight, std=0.02)
        self.mlp = nn.Sequential(first, nn.SiLU(), second)

    def forward(self, t: Tensor) -> Tensor:
        frequencies = torch.exp(-math.log(10000) * torch.arange(128, device=t.device) / 128)
        angles = t.float()[:, None] * frequencies
        waves = torch.cat([angles.cos(), angles.sin()], dim=1)  # (B, 256)
        embedded: Tensor = self.mlp(waves.to(next(self.parameters()).dtype))
        return embedded


class Attention(nn.Module):
    """Self-attention among tokens of equal mask value, with normalised and rotated Q and K."""

    def __init__(self, config: FiTConfig):
        super().__init__()
        width = config.hidden_size
        self.heads, self.norm = config.num_heads, config.q_norm is not None
        self.qkv = linear(width, 3 * width)
        self.proj = linear(width, width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        batch, tokens, width = x.shape
        heads = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # (B, heads, N, D)
        if self.norm:
            q, k = layer_norm(q), layer_norm(k)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if mask is None:
            attended = F.scaled_dot_product_attention(q.type_as(v), k.type_as(v), v)
        else:
            # Padding attends to padding: no row of the attention is empty.
            together = mask[:, None, :, None] == mask[:, None, None, :]
            attended = F.scaled_dot_product_attention(q.type_as(v), k.type_as(v), v, together)
            attended = attended * (mask != 0)[:, None, :, None]
        projected: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return projected


class SwiGLU(nn.Module):
    def __init__(self, config: FiTConfig):
        super().__init__()
        width, hidden = config.hidden_size, int(config.hidden_size * config.mlp_ratio)
        if not config.use_swiglu_large:
            hidden = 2 * hidden // 3  # compensates the third matrix
        self.fc1_g = linear(width, hidden)
        self.fc1_x = linear(width, hidden)
        self.fc2 = linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.fc2(F.silu(self.fc1_g(x)) * self.fc1_x(x))
        return projected


class FiTBlock(nn.Module):
    """Attention and SwiGLU, each shifted, scaled and gated by time and class."""

    def __init__(self, config: FiTConfig):
        super().__init__()
        width, rank = config.hidden_size, config.adaln_lora_dim
        self.attn = Attention(config)
        self.mlp = SwiGLU(config)
        layers = (  # AdaLN-LoRA: a low-rank product
            [linear(width, rank), linear(rank, 6 * width, zero=True)]
            if config.adaln_type == "lora"
            else [linear(width, 6 * width, zero=True)]
        )
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), *layers)

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        shared: Tensor | None,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None,
    ) -> Tensor:
        modulation = self.adaLN_modulation(condition)  # (B, 6 d)
        if shared is not None:
            modulation = modulation + shared
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation[:, None].chunk(6, dim=2)
        x = x + gate_a * self.attn(modulate(x, shift_a, scale_a), cos, sin, mask)
        x = x + gate_m * self.mlp(modulate(x, shift_m, scale_m))
        return x


class FinalLayer(nn.Module):
    def __init__(self, width: int, features: int):
        super().__init__()
        self.linear = linear(width, features, zero=True)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), linear(width, 2 * width, zero=True))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(condition)[:, None].chunk(2, dim=2)
        features: Tensor = self.linear(modulate(x, shift, scale))
        return features


class FiT(nn.Module):
    """Transformer over patches at any positions: FiTv2 or FiT, by its config."""

    def __init__(self, config: FiTConfig = FiTConfig()):
        super().__init__()
        c = config
        _check(c)
        self.config = c
        self.rope = _rope_of(c)
        features = c.in_channels * c.patch_size**2
        self.x_embedder = linear(features, c.hidden_size)
        self.t_embedder = TimeEmbedding(c.hidden_size)
        self.y_embedder = nn.Embedding(c.num_classes + 1, c.hidden_size)
        nn.init.normal_(self.y_embedder.weight, std=0.02)
        self.global_adaLN_modulation = (
            nn.Sequential(nn.SiLU(), linear(c.hidden_size, 6 * c.hidden_size, zero=True))
            if c.adaln_type == "lora"
            else None
        )
        self.blocks = nn.ModuleList(FiTBlock(c) for _ in range(c.depth))
        self.final_layer = FinalLayer(c.hidden_size, features * (2 if c.learn_sigma else 1))

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        y: Tensor,
        grid: Tensor,
        mask: Tensor | None = None,
        size: Tensor | None = None,
        rope: Rope | None = None,
    ) -> Tensor:
        """Return the velocity of tokens x at times t (B,) for the classes y (B,).

        grid: (B, 2, N), column and row of each token; mask: (B, N), 0 for padding, None for no
        padding; size: (B, 2), (h, w) in patches, needed where `rope` scales by the image size;
        rope: None for the position embedding of the config. FiT: t is the step, 0 to 999.
        """
        if not self.config.use_sit:
            x = x.transpose(1, 2)
        else:
            shift = self.config.time_shifting
            t = (shift * t / (1 + (shift - 1) * t)).clamp(max=1)
        cos, sin = self._rotation(grid, size, rope or self.rope)
        condition = self.t_embedder(t) + self.y_embedder(y.long())  # (B, d)
        shared = None
        if self.global_adaLN_modulation is not None:
            shared = self.global_adaLN_modulation(condition)  # (B, 6 d)
        x = self.x_embedder(x)  # (B, N, d)
        for block in self.blocks:
            x = block(x, condition, shared, cos, sin, mask)
        output: Tensor = self.final_layer(x, condition)  # (B, N, C p^2)
        if mask is not None:
            output = output * (mask != 0)[..., None]
        return output if self.config.use_sit else output.transpose(1, 2)

    def guided(
        self,
        x: Tensor,
        t: Tensor,
        y: Tensor,
        grid: Tensor,
        size: Tensor | None = None,
        rope: Rope | None = None,
        *,
        scale: float,
        power: float = 0.0,
        negative: Tensor | None = None,
    ) -> Tensor:
        """Return the output with classifier-free guidance away from `negative`.

        negative: class numbers (B,); None: the null class. Only the first three channels are
        guided, as in the official code. Other arguments as in forward.
        """
        if scale == 1:
            return self.forward(x, t, y, grid, size=size, rope=rope)
        if negative is None:
            negative = torch.full_like(y, self.config.num_classes)
        output = self.forward(
            torch.cat([x, x]),
            torch.cat([t, t]),
            torch.cat([y, negative]),
            torch.cat([grid, grid]),
            size=None if size is None else torch.cat([size, size]),
            rope=rope,
        )
        features = 2 if self.config.use_sit else 1
        count = 3 * self.config.patch_size**2
        conditional, unconditional = output.chunk(2)
        toward = conditional.narrow(features, 0, count)
        away = unconditional.narrow(features, 0, count)
        weight = guidance_at(t, scale, power)[:, None, None]
        rest = conditional.narrow(features, count, conditional.shape[features] - count)
        return torch.cat([away + weight * (toward - away), rest], dim=features)

    def _rotation(self, grid: Tensor, size: Tensor | None, rope: Rope) -> tuple[Tensor, Tensor]:
        """Return cosine and sine of the angles, (B, 1, N, head_dim / 2): rows first."""
        if rope.target is not None:
            size = grid.new_tensor([rope.target])
        elif size is None:
            if rope.mode != "normal":
                raise ValueError(f"{rope.mode} positions need the size of each image")
            size = grid.new_ones(1, 2)
        head_dim = self.config.hidden_size // self.config.num_heads
        frequencies, multiplier = rope_frequencies(rope, size.float(), head_dim)
        positions = grid.flip(1).float()  # (B, 2, N): row, column
        angles = torch.einsum("ban,baf->bnaf", positions, frequencies.expand(len(grid), -1, -1))
        angles = angles.flatten(2)[:, None]
        multiplier = multiplier[:, None, None, None]
        return angles.cos() * multiplier, angles.sin() * multiplier


def _rope_of(config: FiTConfig) -> Rope:
    """Return the position embedding of a configuration."""
    height, width = config.max_pe_len_h, config.max_pe_len_w
    fixed = None if config.online_rope or height is None or width is None else (height, width)
    return Rope(config.custom_freqs, config.decouple, config.ori_max_pe_len, fixed)


def _check(config: FiTConfig) -> None:
    head_dim, rest = divmod(config.hidden_size, config.num_heads)
    if rest or head_dim % 4 or head_dim < 8:
        raise ValueError(
            f"hidden_size {config.hidden_size} over num_heads {config.num_heads}: "
            "a head needs 8, 12, 16 ... features, 2 for each angle of 2 axes"
        )
    if config.q_norm != config.k_norm:
        raise ValueError(f"q_norm is {config.q_norm}, k_norm is {config.k_norm}; wanted the same")
    only = {"use_swiglu": True, "qk_norm_weight": False, "rel_pos_embed": "rope"}
    for name, value in only.items():
        if getattr(config, name) != value:
            raise ValueError(f"{name} is {getattr(config, name)!r}; only {value!r} was published")
