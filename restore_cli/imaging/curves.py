"""Curves between the values of scientific and HDR formats and [0, 1], as networks take them.

Each has an inverse, so that a result has values of the kind that its source has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TOE, LINEAR, OFFSET, POWER = 0.0031308, 12.92, 0.055, 2.4  # sRGB
SLOPE = (1 + OFFSET) / POWER  # of sRGB at 1


class Curve(Protocol):
    """An increasing function of values onto [0, 1], or a decreasing one."""

    def to_unit(self, values: Array) -> Array:
        """Return float32 in [0, 1]."""

    def from_unit(self, unit: Array) -> Array:
        """Return the values, float32 or float64."""


@dataclass(frozen=True)
class LightCurve:
    """Light from 0 to `peak`: sRGB up to white, and its continuation by a logarithm above.

    White is 1, or `peak` where that is lower. Without light above white this is sRGB; otherwise
    both parts are reduced to fit into [0, 1], with the same slope where they meet.
    """

    peak: float = 1.0

    @staticmethod
    def of(values: Array) -> LightCurve:
        """Return the curve up to the power of two above the values, the same for similar frames."""
        highest = float(values.max(initial=0))
        return LightCurve(2.0 ** math.ceil(math.log2(highest)) if highest > 0 else 1.0)

    @property
    def white(self) -> float:
        return min(self.peak, 1.0)

    @property
    def share(self) -> float:
        """The part of [0, 1] below white."""
        return 1 / (1 + SLOPE * math.log(self.peak / self.white))

    def to_unit(self, values: Array) -> Array:
        x = np.asarray(values, np.float32) / np.float32(self.white)
        unit = srgb_of(np.clip(x, 0, 1))
        if self.peak > 1:
            unit += np.float32(SLOPE) * np.log(np.maximum(x, 1))
            unit *= np.float32(self.share)
        return np.minimum(unit, 1, out=unit)

    def from_unit(self, unit: Array) -> Array:
        y = np.asarray(unit, np.float32) / np.float32(self.share)
        light = light_of(np.clip(y, 0, 1))
        if self.peak > 1:
            light *= np.exp((np.maximum(y, 1) - 1) / np.float32(SLOPE))
        light *= np.float32(self.white)
        return light

    def displayed(self, unit: Array) -> Array:
        """Return what a display shows, sRGB in [0, 1]: light above 1 is clipped."""
        if self.peak == 1:
            return unit
        return srgb_of(np.minimum(self.from_unit(unit), 1))


def srgb_of(light: Array) -> Array:
    """Encode light in [0, 1] by the transfer function of sRGB."""
    curved = (1 + OFFSET) * np.maximum(light, TOE) ** (1 / POWER) - OFFSET
    return np.where(light <= TOE, light * LINEAR, curved).astype(np.float32, copy=False)


def light_of(srgb: Array) -> Array:
    """Decode sRGB in [0, 1] to light."""
    curved = ((np.maximum(srgb, TOE * LINEAR) + OFFSET) / (1 + OFFSET)) ** POWER
    return np.where(srgb <= TOE * LINEAR, srgb / LINEAR, curved).astype(np.float32, copy=False)


@dataclass(frozen=True)
class RangeCurve:
    """A straight line from `black` to `white`; black is above white where an image is inverted."""

    black: float
    white: float

    def to_unit(self, values: Array) -> Array:
        span = self.white - self.black or 1.0
        unit = (np.asarray(values, np.float64) - self.black) / span
        return np.clip(unit, 0, 1).astype(np.float32)

    def from_unit(self, unit: Array) -> Array:
        values: Array = self.black + np.asarray(unit, np.float64) * (self.white - self.black)
        return values


@dataclass(frozen=True)
class AsinhCurve:
    """The stretch of astronomers (Lupton et al. 1999): linear near `centre`, logarithmic beyond.

    scale: distance from the centre at which the one becomes the other.
    """

    low: float
    high: float
    centre: float
    scale: float

    @staticmethod
    def of(values: Array) -> AsinhCurve:
        """Return the curve of an image: background at the median, scale of four times its sigma."""
        sample = values.ravel()[:: max(1, values.size >> 20)].astype(np.float64)
        centre = float(np.median(sample))
        sigma = 1.4826 * float(np.median(np.abs(sample - centre)))
        low, high = float(values.min()), float(values.max())
        return AsinhCurve(low, high, centre, 4 * sigma or (high - low) / 8 or 1.0)

    def _stretched(self, values: Array | float) -> Array:
        stretched: Array = np.arcsinh((np.asarray(values, np.float64) - self.centre) / self.scale)
        return stretched

    def to_unit(self, values: Array) -> Array:
        bottom, top = self._stretched(self.low), self._stretched(self.high)
        unit = (self._stretched(values) - bottom) / (top - bottom if top > bottom else 1.0)
        return np.clip(unit, 0, 1).astype(np.float32)

    def from_unit(self, unit: Array) -> Array:
        bottom, top = self._stretched(self.low), self._stretched(self.high)
        stretched = bottom + np.asarray(unit, np.float64) * (top - bottom)
        values: Array = self.centre + self.scale * np.sinh(stretched)
        return np.clip(values, self.low, self.high)
