"""Options of a run, without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from restore_cli.errors import UsageError

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
Backend = Literal["auto", "torch", "onnx", "openvino"]
Resize = Literal["detail", "fit", "native"]
NoiseLimit = float | Literal["auto", "off"]
OnProgress = Callable[[int, int], None]  # done, total


@dataclass(frozen=True)
class ImageSize:
    """Wanted size of an image in pixels; a side that is None follows in proportion."""

    width: int | None = None
    height: int | None = None
    longest: int | None = None  # side, instead of both

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Return the (H, W) for an image of height and width."""
        if self.width is not None and self.height is not None:
            return self.height, self.width
        if self.width is not None:
            factor = self.width / width
        elif self.height is not None:
            factor = self.height / height
        else:
            factor = (self.longest or 0) / max(height, width)
        return max(1, round(height * factor)), max(1, round(width * factor))

    def __str__(self) -> str:
        return str(self.longest) if self.longest else f"{self.width or ''}x{self.height or ''}"


@dataclass(frozen=True)
class RunOptions:
    """Options of a run."""

    model: str | None = None
    weights: str | None = None
    tile: int | Literal["auto", "off"] = "auto"
    overlap: int | Literal["auto", "exact"] = "auto"
    device: str = "auto"
    precision: Precision = "auto"
    backend: Backend = "auto"
    seed: int = 0
    strength: float = 1.0  # how far from the image (0) to the result (1), where sizes are equal
    resize: Resize = "detail"  # for a network of one size
    exact: bool = False  # in tiles, but as if the image were whole
    ensemble: bool = False  # mean over flips and rotations
    noise_limit: NoiseLimit = "auto"  # of denoisers: most that is removed; sigma in levels of 255

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise UsageError(f"--strength {self.strength:g}: wanted a number from 0 to 1")
        if isinstance(self.noise_limit, str):
            is_valid = self.noise_limit in ("auto", "off")
        else:
            is_valid = 0 <= self.noise_limit <= 255
        if not is_valid:
            raise UsageError(
                f"--noise-limit {self.noise_limit}: wanted auto, off, or a sigma from 0 to 255",
                hint="for example --noise-limit 3",
            )
        if self.exact and isinstance(self.overlap, int):
            raise UsageError(
                f"--tile exact and --overlap {self.overlap} contradict each other",
                hint="leave one of them out",
            )

    @property
    def of_loading(self) -> RunOptions:
        """The options without those that a restorer may change once it is loaded."""
        return replace(self, strength=1.0, tile="auto")
