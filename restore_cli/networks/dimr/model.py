"""DiMR: multi-resolution diffusion with time-dependent layer normalisation, class-conditional.

Liu et al., "Alleviating Distortion in Image Generation via Multi-Resolution Diffusion Models and
Time-Dependent Layer Normalization", NeurIPS 2024, arXiv 2406.09416.
Reference code: qihao067/DiMR at fa141ae.
Input: noised images or latents x (B, C, H, W), time steps n (B,) from 1 to 1000 (pure noise),
which may be fractional, and classes y (B,).
Output: the noise at each resolution, lowest first, (B, C, H / r, W / r); r = 1 for the last.
Checked against: golden cases dimr-* and the shapes of DiMR-XL/2R. The full paper was not at hand:
PUBLISHED says which configurations are inferred from published numbers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore_cli.networks.layers import guidance_at

NormType = Literal["TDRMSN", "LN", "RMSN"]
STEPS = 1000  # of the diffusion


@dataclass(frozen=True)
class BranchConfig:
    """Configuration of one resolution, with the names of the published configuration files."""

    block_type: Literal["TransformerBlock", "ConvNeXtBlock"]
    dim: int
    hidden_dim: int  # of the gated MLP
    num_blocks: int  # an even number is built with one more
    max_height: int  # of the position table
    max_width: int
    input_feature_ratio: int  # stride r: image side / side of the features
    num_attention_heads: int = 16  # of Transformer blocks
    kernel_size: int = 7  # of ConvNeXt blocks
    final_kernel_size: int = 3
    dropout_prob: float = 0.0  # of each residual; 0 in all published files
    image_input_ratio: Literal[1] = 1


def branches(
    dims: tuple[int, ...],
    blocks: tuple[int, ...],
    side: int = 16,
    *,
    heads: int = 16,
) -> tuple[BranchConfig, ...]:
    """Return branches by the published pattern, the lowest resolution first.

    The first is a Transformer over side x side tokens, the others are ConvNeXts of twice the side
    of the one before; the hidden width of the MLP is twice the width.
    """
    count = len(dims)
    return tuple(
        BranchConfig(
            block_type="ConvNeXtBlock" if level else "TransformerBlock",
            dim=dim,
            hidden_dim=2 * dim,
            num_blocks=number,
            max_height=side << level,
            max_width=side << level,
            input_feature_ratio=1 << (count - 1 - level),
            num_attention_heads=heads,
        )
        for level, (dim, number) in enumerate(zip(dims, blocks, strict=True))
    )


@dataclass(frozen=True)
class DiMRConfig:
    """Configuration of DiMR-XL/2R."""

    channels: int = 4  # of the latent image
    num_classes: int = 1001  # including the null class, the last one
    block_grad_to_lowres: bool = False  # no gradient of a branch into those before it
    norm_type: NormType = "TDRMSN"  # of the blocks
    # Lowest resolution first; mappings of the fields of BranchConfig are converted.
    stage_configs: tuple[BranchConfig, ...] = branches((960, 480), (39, 20))

    def __post_init__(self) -> None:
        converted = tuple(
            BranchConfig(**stage) if isinstance(stage, Mapping) else stage
            for stage in self.stage_configs
        )
        object.__setattr__(self, "stage_configs", converted)


# XL/2R and G/2R have published configurations. XL/3R (512 x 512) is inferred: it has the published
# number of parameters. M/3R and L/3R (64 x 64 pixels, RGB) are guesses by the same pattern.
_PIXELS = (768, 384, 192)
PUBLISHED: Mapping[str, DiMRConfig] = MappingProxyType(
    {
        "DiMR-XL/2R": DiMRConfig(),
        "DiMR-G/2R": DiMRConfig(stage_configs=branches((1152, 576), (57, 29))),
        "DiMR-XL/3R": DiMRConfig(stage_configs=branches((960, 480, 240), (39, 20, 20))),
        "DiMR-M/3R": DiMRConfig(3, stage_configs=branches(_PIXELS, (15, 8, 8))),
        "DiMR-L/3R": DiMRConfig(3, stage_configs=branches(_PIXELS, (33, 17, 17))),
    }
)


# Diffusion


def alpha_bars() -> Tensor:
    """Return the share of the image in the variance after n = 1 ... 1000 steps, float64."""
    betas = torch.linspace(math.sqrt(0.00085), math.sqrt(0.012), STEPS, dtype=torch.float64)
    return (1 - betas.square()).cumprod(0)


def noised(x: Tensor, n: Tensor, noise: Tensor) -> Tensor:
    """Return images (B, C, H, W) after n (B,) steps of the diffusion, n an integer from 1."""
    share = alpha_bars()
    alpha, sigma = (
        factor.to(x.device, x.dtype)[n - 1][:, None, None, None]
        for factor in (share.sqrt(), (1 - share).sqrt())
    )
    return alpha * x + sigma * noise


def noise_target(noise: Tensor, stride: int) -> Tensor:
    """Return the noise of a lower resolution: r times the mean of r x r cells, variance 1."""
    return stride * F.avg_pool2d(noise, stride)


# Time-dependent normalisation


class TimedParameter(nn.Module):
    """A vector that moves from `clean` to `noisy` along a sigmoid of time, each element by itself.

    Time enters the network through these vectors alone.
    """

    def __init__(self, dim: int, value: float):
        super().__init__()
        self.noisy = nn.Parameter(torch.full((dim,), value))
        self.clean = nn.Parameter(torch.full((dim,), value))
        self.slope = nn.Parameter(torch.zeros(dim))  # minus 1
        self.shift = nn.Parameter(torch.zeros(dim))

    def forward(self, tau: Tensor, ndim: int) -> Tensor:
        """Return (B, 1 ..., d) of `ndim` axes, float32; tau: (B,) from -1 to 1."""
        s = torch.sigmoid((1 + self.slope.float()) * tau.float()[:, None] + self.shift.float())
        value: Tensor = self.clean.float() + s * (self.noisy.float() - self.clean.float())
        return value.view(len(value), *[1] * (ndim - 2), -1)


class TDLayerNorm(nn.Module):
    """TD-LN: layer normalisation of the last axis with timed weight and bias, in float32."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight = TimedParameter(dim, 1.0)
        self.bias = TimedParameter(dim, 0.0)

    def forward(self, x: Tensor, tau: Tensor) -> Tensor:
        normed = F.layer_norm(x.float(), x.shape[-1:], eps=1e-5)
        scaled: Tensor = normed * self.weight(tau, x.ndim) + self.bias(tau, x.ndim)
        return scaled.type_as(x)


class RMSNorm(nn.Module):
    """Root-mean-square normalisation of the last axis, in float32; eps outside the root."""

    def __init__(self, dim: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor, tau: Tensor) -> Tensor:
        return (rms_normalised(x) * self.scale.float()).type_as(x)


class TDRMSNorm(nn.Module):
    """The same with a timed scale: the norm of all published blocks."""

    def __init__(self, dim: int):
        super().__init__()
        self.scale = TimedParameter(dim, 1.0)

    def forward(self, x: Tensor, tau: Tensor) -> Tensor:
        scaled: Tensor = rms_normalised(x) * self.scale(tau, x.ndim)
        return scaled.type_as(x)


def rms_normalised(x: Tensor) -> Tensor:
    x = x.float()
    return x / (x.square().mean(-1, keepdim=True).sqrt() + 1e-8)


NORMS: Mapping[NormType, type[nn.Module]] = MappingProxyType(
    {"TDRMSN": TDRMSNorm, "LN": TDLayerNorm, "RMSN": RMSNorm}
)


# Blocks, on tokens (B, N, d) or channels-last features (B, h, w, d)


class Attention(nn.Module):
    def __init__(self, config: BranchConfig, norm: type[nn.Module]):
        super().__init__()
        self.heads = config.num_attention_heads
        self.norm = norm(config.dim)
        self.qkv = linear(config.dim, 3 * config.dim, bias=False)
        self.proj = linear(config.dim, config.dim)

    def forward(self, x: Tensor, tau: Tensor) -> Tensor:
        heads = self.qkv(self.norm(x, tau)).unflatten(2, (3, self.heads, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # (B, heads, N, d / heads)
        attended = F.scaled_dot_product_attention(q, k, v)
        projected: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return projected


class GatedMLP(nn.Module):
    def __init__(self, config: BranchConfig, norm: type[nn.Module]):
        super().__init__()
        self.norm = norm(config.dim)
        self.w0 = linear(config.dim, config.hidden_dim)
        self.w1 = linear(config.dim, config.hidden_dim)
        self.w2 = linear(config.hidden_dim, config.dim)

    def forward(self, x: Tensor, tau: Tensor) -> Tensor:
        x = self.norm(x, tau)
        projected: Tensor = self.w2(F.gelu(self.w0(x)) * self.w1(x))
        return projected


class TransformerBlock(nn.Module):
    """Attention and gated MLP, a residual each."""

    def __init__(self, config: BranchConfig, norm: type[nn.Module]):
        super().__init__()
        self.attention = Attention(config, norm)
        self.mlp = GatedMLP(config, norm)
        self.dropout = nn.Dropout(config.dropout_prob)

    def forward(self, x: Tensor, tau: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(x, tau))
        x = x + self.dropout(self.mlp(x, tau))
        return x


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution and gated MLP, a residual each.

    Unlike the ConvNeXt of Liu et al. 2022, without a norm before the convolution or layer scale.
    """

    def __init__(self, config: BranchConfig, norm: type[nn.Module]):
        super().__init__()
        kernel = config.kernel_size
        self.depthwise = nn.Conv2d(
            config.dim, config.dim, kernel, padding=kernel // 2, groups=config.dim
        )
        self.mlp = GatedMLP(config, norm)
        self.dropout = nn.Dropout(config.dropout_prob)

    def forward(self, x: Tensor, tau: Tensor) -> Tensor:
        x = x + self.dropout(channels_last(self.depthwise(channels_first(x))))
        x = x + self.dropout(self.mlp(x, tau))
        return x


def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """Build a layer with the initial values for training; convolutions keep those of PyTorch."""
    layer = nn.Linear(inputs, outputs, bias)
    nn.init.normal_(layer.weight, std=0.02)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def embedding(count: int, dim: int) -> nn.Embedding:
    table = nn.Embedding(count, dim)
    nn.init.normal_(table.weight, std=0.02)
    return table


def channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)  # (B, d, h, w)


def channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)  # (B, h, w, d)


# Branches


class LinearShuffle(nn.Module):
    """Enlargement by a linear layer: (B, h, w, c) to (B, h u, w u, d)."""

    def __init__(self, channels: int, dim: int, enlarge: int):
        super().__init__()
        self.enlarge = enlarge
        self.kernel = linear(channels, dim * enlarge**2)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        u = self.enlarge
        cells: Tensor = self.kernel(x).view(batch, height, width, u, u, -1)  # row, column in a cell
        return cells.transpose(2, 3).reshape(batch, height * u, width * u, -1)


class Upsample(nn.Module):
    """Features of the branch before, normalised, enlarged and normalised again."""

    def __init__(self, channels: int, dim: int, enlarge: int):
        super().__init__()
        self.norm_before = TDLayerNorm(channels)
        self.shuffle = LinearShuffle(channels, dim, enlarge)
        self.norm_after = TDLayerNorm(dim)

    def forward(self, features: Tensor, tau: Tensor) -> Tensor:
        enlarged = self.shuffle(self.norm_before(features, tau))
        normed: Tensor = self.norm_after(enlarged, tau)
        return normed


class Branch(nn.Module):
    """One resolution: patches of the image, a U of blocks with skips, and the noise."""

    def __init__(self, config: DiMRConfig, level: int):
        super().__init__()
        c = config.stage_configs[level]
        before = config.stage_configs[level - 1] if level else None
        transformer = c.block_type == "TransformerBlock"
        block = TransformerBlock if transformer else ConvNeXtBlock
        norm = NORMS[config.norm_type]
        depth = c.num_blocks // 2
        self.table = c.max_height, c.max_width
        self.patch = nn.Conv2d(
            config.channels, c.dim, c.input_feature_ratio, stride=c.input_feature_ratio
        )
        self.positions = embedding(c.max_height * c.max_width, c.dim)
        self.classes = embedding(config.num_classes, c.dim) if transformer else None
        self.upsample = (
            Upsample(features_of(before), c.dim, c.max_height // before.max_height)
            if before
            else None
        )
        self.blocks = nn.ModuleList(block(c, norm) for _ in range(2 * depth + 1))
        self.skips = nn.ModuleList(linear(2 * c.dim, c.dim) for _ in range(depth))
        self.norm_out = TDLayerNorm(c.dim)
        self.conv_out = nn.Conv2d(
            c.dim, config.channels, c.final_kernel_size, padding=c.final_kernel_size // 2
        )

    def forward(
        self, x: Tensor, tau: Tensor, y: Tensor, before: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the noise (B, C, h, w) and the features for the next branch (B, h, w, c).

        before: features of the branch before.
        """
        x = channels_last(self.patch(x))  # (B, h, w, d)
        height, width = x.shape[1:3]
        x = x + self.positions.weight.view(*self.table, -1)[:height, :width]
        if self.upsample is not None:
            x = x + self.upsample(before, tau)
        if self.classes is not None:
            x = torch.cat([self.classes(y)[:, None], x.flatten(1, 2)], dim=1)  # (B, 1 + h w, d)
        outputs = self._run_blocks(x, tau)
        if self.classes is not None:
            outputs = [tokens[:, 1:].view(len(x), height, width, -1) for tokens in outputs]
        noise = self.conv_out(channels_first(self.norm_out(outputs[-1], tau)))
        return noise, torch.cat(outputs, dim=-1)

    def _run_blocks(self, x: Tensor, tau: Tensor) -> list[Tensor]:
        """Return the input and the output of each block; skips join them as in a U-Net."""
        depth, outputs = len(self.skips), [x]
        for index, block in enumerate(self.blocks):
            if index > depth:  # the output of block 2 depth - index, the last first
                skip = self.skips[index - depth - 1]
                x = skip(torch.cat([x, outputs[2 * depth - index + 1]], dim=-1))
            x = block(x, tau)
            outputs.append(x)
        return outputs


def features_of(config: BranchConfig) -> int:
    """Return the number of channels that a branch hands to the next one."""
    return config.dim * (2 * (config.num_blocks // 2) + 2)


class DiMR(nn.Module):
    """Branches from the lowest resolution to the full one, each refining the one before."""

    def __init__(self, config: DiMRConfig = DiMRConfig()):
        super().__init__()
        _check(config)
        self.config = config
        self.branches = nn.ModuleList(Branch(config, i) for i in range(len(config.stage_configs)))

    def forward(self, x: Tensor, n: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """Return the noise of each resolution, lowest first; see the module for the shapes.

        Raises ValueError for a size that has no place in the position tables.
        """
        self._check_size(x.shape[-2], x.shape[-1])
        tau = 2 * n / STEPS - 1  # (B,)
        outputs, features = [], None
        for branch in self.branches:
            noise, features = branch(x, tau, y, features)
            outputs.append(noise)
            if self.config.block_grad_to_lowres:
                features = features.detach()
        return tuple(outputs)

    def guided(
        self,
        x: Tensor,
        n: Tensor,
        y: Tensor,
        *,
        scale: float,
        power: float = 0.0,
        negative: Tensor | None = None,
    ) -> Tensor:
        """Return the noise with classifier-free guidance away from `negative`.

        negative: classes (B,); None: the null class. power: of the power-cosine schedule, 0 for a
        constant scale. The official scale s of c + s (c - u) is `scale` - 1.
        """
        if scale == 1:
            return self.forward(x, n, y)[-1]
        if negative is None:
            negative = torch.full_like(y, self.config.num_classes - 1)
        noise = self.forward(torch.cat([x, x]), torch.cat([n, n]), torch.cat([y, negative]))[-1]
        toward, away = noise.chunk(2)
        weight = guidance_at(n / STEPS, scale, power)[:, None, None, None]
        return away + weight * (toward - away)

    @property
    def strides(self) -> tuple[int, ...]:
        """Image side / side of each output, lowest resolution first."""
        return tuple(stage.input_feature_ratio for stage in self.config.stage_configs)

    @property
    def largest(self) -> tuple[int, int]:
        """Largest size (H, W) that all position tables cover."""
        stages = self.config.stage_configs
        height = min(stage.max_height * stage.input_feature_ratio for stage in stages)
        width = min(stage.max_width * stage.input_feature_ratio for stage in stages)
        return height, width

    def _check_size(self, height: int, width: int) -> None:
        unit, largest = self.strides[0], self.largest
        if height % unit or width % unit or height > largest[0] or width > largest[1]:
            raise ValueError(
                f"size {height} x {width}: wanted multiples of {unit} "
                f"up to {largest[0]} x {largest[1]}"
            )


def _check(config: DiMRConfig) -> None:
    stages = config.stage_configs
    kinds = [stage.block_type for stage in stages]
    if not kinds or kinds != ["TransformerBlock"] + ["ConvNeXtBlock"] * (len(kinds) - 1):
        raise ValueError(f"branches of {kinds}; wanted one TransformerBlock, then ConvNeXtBlocks")
    if config.norm_type not in NORMS:
        raise ValueError(f"norm_type is {config.norm_type!r}; wanted one of: {', '.join(NORMS)}")
    if stages[0].dim % stages[0].num_attention_heads:
        raise ValueError(f"dim {stages[0].dim} over {stages[0].num_attention_heads} heads")
    for stage in stages:
        if stage.image_input_ratio != 1:
            raise ValueError(f"image_input_ratio is {stage.image_input_ratio}; only 1 is known")
    strides = [stage.input_feature_ratio for stage in stages]
    rows = [stage.max_height for stage in stages]
    enlarged = [after // before for before, after in pairwise(rows)]
    if strides[-1] != 1 or strides[:-1] != [
        s * u for s, u in zip(strides[1:], enlarged, strict=True)
    ]:
        raise ValueError(
            f"strides {strides} with position tables of {rows} rows; wanted as many times the rows "
            "in each branch as its stride is smaller, and a stride of 1 in the last"
        )
