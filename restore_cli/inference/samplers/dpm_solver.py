"""DPM-Solver++ in single steps of up to third order, from noise to data ("fast", uniform times).

Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
arXiv 2211.01095, in the variant and with the noise schedule of DiMR. No scheduler of diffusers
gives the same samples: they take integer time steps, and another third stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from restore_cli.networks.dimr.model import STEPS, alpha_bars

Noise = Callable[[Tensor, float], Tensor]  # of x at a time step from 1 to 1000
LAST = 0.001  # the time of step 1


@dataclass(frozen=True)
class Point:
    """A time of the diffusion, where x = alpha data + sigma noise."""

    n: float
    alpha: float
    sigma: float

    @property
    def lam(self) -> float:
        """Half the logarithm of the signal-to-noise ratio."""
        return math.log(self.alpha / self.sigma)


def points(steps: int) -> list[Point]:
    """Return the times from noise to data at which the solution is computed, `steps` + 1."""
    knots = 0.5 * alpha_bars().log()  # log alpha, linear between whole time steps
    found = []
    for t in torch.linspace(1, LAST, steps + 1).tolist():
        n = STEPS * t
        below = min(max(int(n), 1), STEPS - 1)
        alpha = torch.lerp(knots[below - 1], knots[below], n - below).exp().item()
        found.append(Point(n, alpha, math.sqrt(1 - alpha**2)))
    return found


def orders(steps: int) -> list[int]:
    """Return the orders of the updates; their sum is the number of evaluations of the network."""
    thirds, rest = divmod(steps, 3)
    return [3] * (thirds - 1) + [2, 1] if rest == 0 else [3] * thirds + [rest]


def dpm_solver(
    noise: Noise, x: Tensor, steps: int, on_step: Callable[[int], None] = lambda _: None
) -> Tensor:
    """Integrate from x at pure noise to time step 1, with `steps` evaluations of `noise`.

    on_step: called with the number of evaluations after each.
    """
    path, done = points(steps), 0

    def data(x: Tensor, at: Point) -> Tensor:
        nonlocal done
        predicted = (x - at.sigma * noise(x, at.n)) / at.alpha
        done += 1
        on_step(done)
        return predicted

    for order in orders(steps):
        x = _update(data, x, path[done : done + order + 1])
    return x


def _update(data: Callable[[Tensor, Point], Tensor], x: Tensor, path: Sequence[Point]) -> Tensor:
    """Return x at the last point of the path, by an update of order len(path) - 1."""
    start, *middle, end = path
    h = end.lam - start.lam
    first = data(x, start)

    def to(point: Point) -> Tensor:
        """Return x at a point to first order."""
        shrink = math.expm1(start.lam - point.lam)
        return point.sigma / start.sigma * x - point.alpha * shrink * first

    if not middle:
        return to(end)
    r1 = (middle[0].lam - start.lam) / h
    change = data(to(middle[0]), middle[0]) - first
    if len(middle) == 1:
        return to(end) - 0.5 / r1 * end.alpha * math.expm1(-h) * change
    r2 = (middle[1].lam - start.lam) / h
    ahead = to(middle[1]) + r2 / r1 * middle[1].alpha * _phi(r2 * h) * change
    return to(end) + end.alpha / r2 * _phi(h) * (data(ahead, middle[1]) - first)


def _phi(h: float) -> float:
    return math.expm1(-h) / h + 1
