"""ScaleCrafter: images far beyond the training size of a diffusion UNet, without training.

He et al., "ScaleCrafter: Tuning-free Higher-Resolution Visual Generation with Diffusion Models",
ICLR 2024, arXiv 2310.07702. Reference: YingqingHe/ScaleCrafter at 9dc1185.
A UNet that was trained at one size repeats its objects at a larger one, since its receptive field
covers too little of the image. Early in the sampling some convolutions are re-dilated (sec. 3.2),
or re-dilated with a dispersed kernel (sec. 3.3); the base of the guidance then comes from a
second, milder pass (sec. 3.4). Works on any UNet with the module names of diffusers.
Checked against: golden cases scalecrafter_*.
"""

import math
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

# Re-dilated convolution


def redilated(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, factor: float, stride: int = 1
) -> Tensor:
    """Convolve x with a kernel `factor` times as wide, factor >= 1; output size H // stride.

    A fractional factor is the next integer dilation on an enlarged x.
    """
    dilation = math.ceil(factor)
    stretch = dilation / factor
    height, width = x.shape[-2:]
    x = _resize(x, round(height * stretch), round(width * stretch))
    padding = dilation * (weight.shape[-1] // 2)
    x = F.conv2d(x, weight, bias, stride, padding, dilation)
    # A plain convolution rounds an odd side up; the official code rounds down.
    return _resize(x, height // stride, width // stride)


def _resize(x: Tensor, height: int, width: int) -> Tensor:
    if x.shape[-2:] == (height, width):
        return x
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=False)


# Dispersed convolution


@dataclass(frozen=True)
class Dispersion:
    """Parameters of a large kernel that acts like a small one on an enlarged input (eq. 5)."""

    small: int = 3
    large: int = 5
    input_size: int = 3  # pixels; the kernel depends on it, since borders count
    scale: int = 2  # enlarged side / input side
    eta: float = 0.05  # weight of acting alike on the input itself; enters squared


def dispersion_matrix(dispersion: Dispersion) -> Tensor:
    """Return the linear map from small to large kernels, (large^2, small^2), float64.

    Least squares over all impulses of the input: the large kernel on an enlarged impulse yields
    the enlarged output of the small one, and on the impulse itself nearly the output itself.
    """
    d = dispersion
    n = d.input_size
    impulses = torch.eye(n * n, dtype=torch.float64).view(n * n, 1, n, n)

    def enlarge(images: Tensor) -> Tensor:
        side = d.scale * (n - 1) + 1
        return F.interpolate(images, (side, side), mode="bilinear", align_corners=True)

    def columns(images: Tensor, kernel: int) -> Tensor:
        """Return the input of each tap of a kernel, (images, kernel^2, pixels)."""
        return F.unfold(images, kernel, padding=kernel // 2)

    outputs = columns(impulses, d.small)  # (n^2, small^2, n^2)
    enlarged = enlarge(outputs.view(n * n, -1, n, n)).flatten(2)
    inputs = [columns(enlarge(impulses), d.large), d.eta * columns(impulses, d.large)]
    targets = [enlarged, d.eta * outputs]
    rows = [torch.cat(part, dim=2).transpose(1, 2).flatten(0, 1) for part in (inputs, targets)]
    matrix: Tensor = torch.linalg.lstsq(*rows).solution
    return matrix


def disperse(weight: Tensor, matrix: Tensor) -> Tensor:
    """Map kernels (O, I, k, k) by a dispersion matrix to (O, I, K, K)."""
    side = math.isqrt(len(matrix))
    dispersed = weight.flatten(2).float() @ matrix.to(weight.device, torch.float32).T
    return dispersed.view(*weight.shape[:2], side, side).to(weight.dtype)


# Rescaling of a UNet


@dataclass(frozen=True)
class Settings:
    """Convolutions to dilate, by their module names in the UNet, and for how long.

    Times are shares of all sampling steps.
    """

    factors: Mapping[str, float]
    dilate_until: float
    # Factors of the pass for the base of the guidance.
    mild: Mapping[str, float] = field(default_factory=dict)
    mild_until: float = 0.0
    dispersed: frozenset[str] = frozenset()
    disperse_until: float = 0.0
    progressive: bool = False  # factors decrease step by step to 2
    dispersion: Dispersion = Dispersion()

    @property
    def layers(self) -> frozenset[str]:
        return frozenset(self.factors) | frozenset(self.mild)


def factor_at(factor: float, step: int, until: int, *, progressive: bool) -> float | None:
    """Return the factor in `step` of one that ends before step `until`; None: not dilated."""
    if step >= until:
        return None
    return max(math.ceil(factor * ((until - step) / until)), 2) if progressive else factor


class Rescaling:
    """State of a rescaled UNet that its layers share; the sampler sets `step`."""

    def __init__(self, settings: Settings, *, steps: int, guided: bool):
        self.settings = settings
        self.steps = steps  # in all
        self.guided = guided  # the batch is [negative, prompt], as diffusers builds it
        self.step = 0
        self._mild = False
        # Blocks before all that is dilated: equal in both passes, so the mild one takes their
        # outputs for the base from the strong one.
        self._shared: list[nn.Module] = []
        self._outputs: dict[nn.Module, Any] = {}
        self._matrix = dispersion_matrix(settings.dispersion) if settings.dispersed else None
        # Dispersed kernels of the weights, as long as they are in use. Weights that are offloaded
        # one layer at a time are new at each step: their kernels go with them.
        self._kernels: MutableMapping[Tensor, Tensor] = WeakTensorKeyDictionary()

    def _before(self, share: float) -> int:
        return round(share * self.steps)

    def factor(self, layer: str) -> float | None:
        """Return the dilation factor of a layer in this pass; None: not dilated."""
        s = self.settings
        factors, share = (s.mild, s.mild_until) if self._mild else (s.factors, s.dilate_until)
        if layer not in factors:
            return None
        until = self._before(share)
        return factor_at(factors[layer], self.step, until, progressive=s.progressive)

    def convolve(
        self, layer: str, conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        factor = self.factor(layer)
        if factor is None:
            plain: Tensor = nn.Conv2d._conv_forward(conv, x, weight, bias)
            return plain
        s = self.settings
        if layer in s.dispersed and self.step < self._before(s.disperse_until):
            weight, factor = self._dispersed(weight), factor / 2
        else:
            self._kernels.pop(weight, None)
        return redilated(x, weight, bias, factor=factor, stride=conv.stride[0])

    def _dispersed(self, weight: Tensor) -> Tensor:
        kernel = self._kernels.get(weight)
        if kernel is None or kernel.device != weight.device:
            assert self._matrix is not None  # a layer is dispersed
            kernel = self._kernels[weight] = disperse(weight, self._matrix)
        return kernel

    def share(self, unet: nn.Module) -> list[Any]:
        """Let the passes share the first blocks without dilated layers; return the hooks."""
        for index, block in enumerate(getattr(unet, "down_blocks", ())):
            if any(layer.startswith(f"down_blocks.{index}.") for layer in self.settings.layers):
                break
            self._shared.append(block)
        return [block.register_forward_hook(self._keep) for block in self._shared]

    def _is_damped(self) -> bool:
        return self.guided and self.step < self._before(self.settings.mild_until)

    def _keep(self, block: nn.Module, args: Any, output: Any) -> None:
        if self._is_damped() and not self._mild:
            self._outputs[block] = output

    def damp(self, unet: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """Apply noise-damped guidance: the base of the guidance from a pass with mild factors.

        The sampler computes u + w (c - u). It receives u of the mild pass, and c at the distance
        from it that the strong passes have.
        """
        if not self._is_damped():
            return None
        strong: Tensor = output[0]
        batch = len(strong)
        kept = {block: _half(value, batch) for block, value in self._outputs.items()}
        self._outputs = {}
        self._mild = True
        try:  # forward does not call this hook again
            with _returning(kept):
                mild: Tensor = unet.forward(*_half(args, batch), **_half(kwargs, batch))[0]
        finally:
            self._mild = False
        away, toward = strong.chunk(2)
        damped = torch.cat([mild, mild + (toward - away)])
        if isinstance(output, tuple):
            return (damped, *output[1:])
        output.sample = damped
        return output


@contextmanager
def scalecrafter(
    unet: nn.Module, settings: Settings, *, steps: int, guided: bool = True
) -> Iterator[Rescaling]:
    """Rescale a UNet in the context; afterwards it is exactly as before.

    No weight and no `forward` is replaced, so offloading works before, inside and around it.
    guided: the batch is [negative, prompt], as diffusers builds it.
    Raises ValueError for a layer that the UNet lacks or that cannot be dilated.
    """
    convolutions = {layer: _convolution(unet, layer) for layer in settings.layers}
    rescaling = Rescaling(settings, steps=steps, guided=guided)
    hooks = [unet.register_forward_hook(rescaling.damp, with_kwargs=True)]
    if settings.mild_until and guided:
        hooks += rescaling.share(unet)
    try:
        for layer, conv in convolutions.items():
            vars(conv)["_conv_forward"] = partial(rescaling.convolve, layer, conv)
        yield rescaling
    finally:
        for hook in hooks:
            hook.remove()
        for conv in convolutions.values():
            vars(conv).pop("_conv_forward", None)


@contextmanager
def _returning(outputs: Mapping[nn.Module, Any]) -> Iterator[None]:
    """Let blocks return given outputs in the context, without being evaluated."""
    before = {block: vars(block).get("forward") for block in outputs}
    try:
        for block, output in outputs.items():
            vars(block)["forward"] = lambda *_, output=output, **__: output
        yield
    finally:
        for block, forward in before.items():
            if forward is None:
                del vars(block)["forward"]
            else:  # of a hook that offloads the block
                vars(block)["forward"] = forward


def dilatable(unet: nn.Module) -> list[str]:
    """Return the names of the 3x3 convolutions, without the first and the last."""
    return [
        name
        for name, module in unet.named_modules()
        if isinstance(module, nn.Conv2d)
        and module.kernel_size == (3, 3)
        and name not in ("conv_in", "conv_out")
    ]


def _convolution(unet: nn.Module, layer: str) -> nn.Conv2d:
    try:
        module = unet.get_submodule(layer)
    except AttributeError:
        raise ValueError(
            f"the UNet has no layer {layer!r}; it has {', '.join(dilatable(unet)[:4])} ..."
        ) from None
    if not getattr(module, "merged", True):
        raise ValueError(f"{layer} has a LoRA of its own: fuse it first (pipe.fuse_lora())")
    module = getattr(module, "base_layer", module)  # a fused LoRA keeps its wrapper
    if not isinstance(module, nn.Conv2d) or module.kernel_size != (3, 3):
        raise ValueError(f"{layer} is not a 3x3 convolution, so it cannot be dilated: {module}")
    if "_conv_forward" in vars(module):
        raise ValueError(f"{layer} is rescaled already")
    return module


def _half(value: Any, batch: int) -> Any:
    """Return the arguments of a UNet for the first half of a batch."""
    if isinstance(value, Tensor):
        return value[: batch // 2] if value.ndim and len(value) == batch else value
    if isinstance(value, dict):
        return {key: _half(part, batch) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_half(part, batch) for part in value)
    return value


# Synchronised tiled decoding


def shared_group_norm(norm: nn.GroupNorm, tiles: Sequence[Tensor]) -> list[Tensor]:
    """Apply a group norm to tiles of one image by their common mean and variance, in float32."""
    grouped = [tile.float().reshape(len(tile), norm.num_groups, -1) for tile in tiles]
    total = sum(group.shape[2] for group in grouped)
    mean = torch.stack([group.sum(2, keepdim=True) for group in grouped]).sum(0) / total
    variances = [(group - mean).square().mean(2, keepdim=True) for group in grouped]
    # Weights of the official code: the unbiased variance of each tile.
    weights = [n / (n - 1) * n / total for n in (group.shape[2] for group in grouped)]
    variance = torch.stack([s * w for s, w in zip(variances, weights, strict=True)]).sum(0)
    scale = torch.rsqrt(variance + norm.eps)
    normed = []
    for tile, group in zip(tiles, grouped, strict=True):
        flat = ((group - mean) * scale).view_as(tile)
        affine = flat * norm.weight.float()[:, None, None] + norm.bias.float()[:, None, None]
        normed.append(affine.to(tile.dtype))
    return normed


def decode_with_shared_statistics(
    vae: Any, latents: Tensor, *, tile: int, overlap: float = 0.25
) -> Tensor:
    """Decode latents (B, C, H, W) in tiles that share their group norms.

    vae: an AutoencoderKL of diffusers, or any with a `decoder` and a `post_quant_conv`.
    latents: divided by its scaling factor. tile: latent pixels; overlap: share of a tile.
    Bounds the memory of the attention, which covers one tile, not that of the features.
    """
    scale = 2 ** (len(vae.decoder.up_blocks) - 1)
    stride, blend = int(tile * (1 - overlap)), int(tile * scale * overlap)
    rows, columns = (range(0, side, stride) for side in latents.shape[-2:])
    tiles = [latents[..., y : y + tile, x : x + tile] for y in rows for x in columns]
    if vae.post_quant_conv is not None:
        tiles = [vae.post_quant_conv(part) for part in tiles]
    decoded = iter(_decode(vae.decoder, tiles))
    grid = [[next(decoded) for _ in columns] for _ in rows]
    return _join(grid, blend=blend, keep=tile * scale - blend)


def _decode(decoder: Any, tiles: list[Tensor]) -> list[Tensor]:
    """Pass all tiles through the decoder, layer by layer."""
    tiles = [decoder.conv_in(part) for part in tiles]
    middle = decoder.mid_block
    tiles = _resnet(middle.resnets[0], tiles)
    for attention, resnet in zip(middle.attentions, middle.resnets[1:], strict=True):
        tiles = _resnet(resnet, [attention(part) for part in tiles])
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            tiles = _resnet(resnet, tiles)
        for upsampler in block.upsamplers or ():
            tiles = [upsampler(part) for part in tiles]
    tiles = shared_group_norm(decoder.conv_norm_out, tiles)
    return [decoder.conv_out(decoder.conv_act(part)) for part in tiles]


def _resnet(block: Any, tiles: list[Tensor]) -> list[Tensor]:
    """Apply a ResnetBlock2D without time embedding, with shared norms."""
    hidden = shared_group_norm(block.norm1, tiles)
    hidden = [block.conv1(block.nonlinearity(part)) for part in hidden]
    hidden = shared_group_norm(block.norm2, hidden)
    hidden = [block.conv2(block.nonlinearity(part)) for part in hidden]
    shortcut = block.conv_shortcut or nn.Identity()
    pairs = zip(tiles, hidden, strict=True)
    return [(shortcut(part) + change) / block.output_scale_factor for part, change in pairs]


def _join(grid: list[list[Tensor]], *, blend: int, keep: int) -> Tensor:
    """Join tiles to one image: each is blended with its upper, then with its left neighbour."""
    joined = []
    for y, row in enumerate(grid):
        for x, part in enumerate(row):
            if y:
                _fade(grid[y - 1][x], part, blend, axis=2)
            if x:
                _fade(row[x - 1], part, blend, axis=3)
        joined.append(torch.cat([part[..., :keep, :keep] for part in row], dim=3))
    return torch.cat(joined, dim=2)


def _fade(before: Tensor, part: Tensor, blend: int, *, axis: int) -> None:
    """Blend the first pixels of a tile, in place, with the last ones of another."""
    width = min(blend, before.shape[axis], part.shape[axis])
    shape = [width if dim == axis else 1 for dim in range(4)]
    rising = (torch.arange(width, device=part.device, dtype=part.dtype) / max(width, 1)).view(shape)
    start = part.narrow(axis, 0, width)
    end = before.narrow(axis, before.shape[axis] - width, width)
    start.copy_(torch.lerp(end, start, rising))
