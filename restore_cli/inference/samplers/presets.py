"""Settings of ScaleCrafter: dilation factors per convolution of a UNet, by the image size.

Levels are written as in the paper: D1 stands for the convolutions of down_blocks.1, D1s for its
downsampler, M for the middle, U0 and U0s for up_blocks.0 and its upsampler. The factors are those
of the official configuration files; sizes between them use the largest ratio of sides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from restore_cli.errors import UsageError
from restore_cli.networks.scalecrafter.model import Settings, dilatable

Family = Literal["sd1", "sd2", "sdxl", "other"]
LARGEST_RATIO = 4.0  # of sides; the paper goes no further


@dataclass(frozen=True)
class Preset:
    """Dilation factors per level; times are shares of the steps."""

    factors: Mapping[str, float]
    dilate_until: float
    mild: Mapping[str, float] = field(default_factory=dict)
    mild_until: float = 0.0
    progressive: bool = False
    dispersed: str = ""  # levels to disperse, listed but unused in the official files


def _levels(**groups: str) -> Mapping[str, float]:
    """Return {"D1": 2, "D1s": 2, "D2": 3} for x2="D1 D1s", x3="D2"."""
    return {
        level: float(factor.removeprefix("x"))
        for factor, levels in groups.items()
        for level in levels.split()
    }


SD_DISPERSED = "D2s D3 M U0 U0s U1 U1s"
SD_ALL = "D1 D1s D2 D2s D3 M U0 U0s U1 U1s U2 U2s"
SD_WIDE = _levels(x2="D1 D1s U2 U2s", x3="D2 D2s U1 U1s", x4="D3 M U0 U0s")
SD_MILD = _levels(x3="D2 D2s U1 U1s", x4="D3 M U0 U0s")
SD2_MILD = _levels(x3="D2 U2 U2s", x4="D2s D3 M U0 U0s U1 U1s")
SDXL_MILD = _levels(x2="M U0 U0s")

# Rows by the ratio of areas: up to 4, between, 8 (sides by 2 and by 4), and 16.
PRESETS: Mapping[str, Mapping[str, Preset]] = MappingProxyType(
    {
        "sd1": {
            "4x": Preset(_levels(x2=SD_ALL), 0.6),
            "6x": Preset(_levels(x2=SD_ALL), 0.7),
            "8x": Preset(SD_WIDE, 0.7, SD_MILD, 0.7, progressive=True),
            "16x": Preset(SD_WIDE, 0.7, SD_MILD, 0.7, progressive=True, dispersed=SD_DISPERSED),
        },
        "sd2": {
            "4x": Preset(_levels(x2=SD_ALL), 0.4),
            "6x": Preset(_levels(x2=SD_ALL), 0.6),
            "8x": Preset(SD_WIDE, 0.74, progressive=True),
            "16x": Preset(
                {**SD2_MILD, "U3": 2.0},
                0.74,
                SD2_MILD,
                0.74,
                progressive=True,
                dispersed=SD_DISPERSED,
            ),
        },
        "sdxl": {
            "4x": Preset(_levels(x2="M U0 U0s"), 0.6),
            "6x": Preset(_levels(x2="M U0 U0s"), 0.6),
            "8x": Preset(
                _levels(x2="U2", x3="D2 U1 U1s", x4="M U0 U0s"),
                0.7,
                SDXL_MILD,
                0.7,
                progressive=True,
            ),
            "16x": Preset(
                _levels(x2="U2", x3="U1 U1s", x4="D2 M U0 U0s"),
                0.7,
                SDXL_MILD,
                0.7,
                progressive=True,
                dispersed="D2 U0 U0s M",
            ),
        },
    }
)


def family_of(config: Any) -> Family:
    """Return the family of published UNets with this structure; config: of a diffusers UNet."""
    levels = len(config.block_out_channels)
    if levels == 3 and getattr(config, "addition_embed_type", None) == "text_time":
        return "sdxl"
    context = getattr(config, "cross_attention_dim", None)
    if levels == 4 and context in (768, 1024):
        return "sd1" if context == 768 else "sd2"
    return "other"


def settings_for(
    unet: Any, size: tuple[int, int], *, disperse: bool = False, unit: int = 1
) -> Settings | None:
    """Return the settings for a size (H, W) in samples of the UNet; None up to the trained size.

    disperse: also disperse kernels in the first half of the steps. unit: pixels along the side of
    a sample, for messages.
    Raises UsageError beyond four times the trained side, or without a list of layers to disperse.
    """
    trained = unet.config.sample_size
    sides = (trained, trained) if isinstance(trained, int) else trained
    ratios = [side / base for side, base in zip(size, sides, strict=True)]
    largest = max(ratios)
    if largest <= 1:
        return None
    if largest > LARGEST_RATIO:
        raise UsageError(
            f"{size[1] * unit}x{size[0] * unit} is {largest:.1f} times the side that the UNet was "
            f"trained at, {sides[1] * unit}x{sides[0] * unit}",
            hint=f"ScaleCrafter works up to {LARGEST_RATIO:g} times",
        )
    family = family_of(unet.config)
    row = _row(largest, ratios[0] * ratios[1])
    preset = _other(unet, row) if family == "other" else PRESETS[family][row]
    if row in ("4x", "6x"):
        preset = replace(preset, factors=dict.fromkeys(preset.factors, largest))
    if disperse and not preset.dispersed:
        raise UsageError(
            "no list of layers to disperse is known for this UNet and size",
            hint="SD 1.5, SD 2.1 and SDXL have one at 4 times the trained sides",
        )
    names = dilatable(unet)
    return Settings(
        factors=_expand(preset.factors, names),
        dilate_until=preset.dilate_until,
        mild=_expand(preset.mild, names),
        mild_until=preset.mild_until,
        dispersed=frozenset(_layers(preset.dispersed.split(), names)) if disperse else frozenset(),
        disperse_until=0.5 if disperse else 0.0,
        progressive=preset.progressive,
    )


def _row(largest: float, area: float) -> str:
    if largest <= 2:
        return "4x"
    if largest < LARGEST_RATIO:
        return "6x"
    return "8x" if area <= 8 else "16x"


def _other(unet: Any, row: str) -> Preset:
    """Return a preset by the rule behind the lists of SD 1.5, for a UNet of any depth.

    All levels but the outermost; in the rows 8x and 16x evenly from 2 to 4 at the deepest, and the
    mild pass leaves out one level more.
    """
    deepest = len(unet.config.block_out_channels) - 1
    factors: dict[str, float] = {"M": 4.0}
    for level in range(1, deepest + 1):
        factor = round(4.0 if deepest == 1 else 2 + 2 * (level - 1) / (deepest - 1))
        up = deepest - level
        factors |= dict.fromkeys((f"D{level}", f"U{up}", f"U{up}s"), float(factor))
        if level < deepest:
            factors[f"D{level}s"] = float(factor)
    if row in ("4x", "6x"):
        return Preset(factors, 0.6 if row == "4x" else 0.7)
    outer = ("D1", "D1s", f"U{deepest - 1}", f"U{deepest - 1}s")
    mild = {level: factor for level, factor in factors.items() if level not in outer}
    return Preset(factors, 0.7, mild, 0.7, progressive=True)


def _expand(levels: Mapping[str, float], names: Iterable[str]) -> dict[str, float]:
    """Convert {level: factor} to {layer: factor}."""
    return {layer: factor for level, factor in levels.items() for layer in _layers([level], names)}


def _layers(levels: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return the names of the layers of some levels. Raises UsageError for one without layers."""
    found = []
    for level in levels:
        pattern = re.compile(_pattern(level))
        layers = [name for name in names if pattern.fullmatch(name)]
        if not layers:
            raise UsageError(f"the UNet has no level {level}")
        found += layers
    return found


def _pattern(level: str) -> str:
    """Return the pattern of the layer names of a level: D1, D1s, M, U0, U0s."""
    if level == "M":
        return r"mid_block\.resnets\.\d+\.conv[12]"
    direction, number, sampler = "down" if level[0] == "D" else "up", level[1], level[2:]
    part = rf"{direction}samplers\.0\.conv" if sampler else r"resnets\.\d+\.conv[12]"
    return rf"{direction}_blocks\.{number}\.{part}"
