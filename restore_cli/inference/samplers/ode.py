"""Solvers from noise at t = 0 to data at t = 1 along a velocity field."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
OnTime = Callable[[float], None]  # called with each time that is reached


def _ignore(_: float) -> None:
    pass


def _times(steps: int) -> list[tuple[float, float]]:
    return list(pairwise(step / steps for step in range(steps + 1)))


def euler(velocity: Velocity, x: Tensor, steps: int, on_time: OnTime = _ignore) -> Tensor:
    """Integrate to first order, with one evaluation per step."""
    for t, after in _times(steps):
        x = x + (after - t) * velocity(x, t)
        on_time(after)
    return x


def midpoint(velocity: Velocity, x: Tensor, steps: int, on_time: OnTime = _ignore) -> Tensor:
    """Integrate to second order, with two evaluations per step."""
    for t, after in _times(steps):
        half = (after - t) / 2
        x = x + (after - t) * velocity(x + half * velocity(x, t), t + half)
        on_time(after)
    return x


def heun(velocity: Velocity, x: Tensor, steps: int, on_time: OnTime = _ignore) -> Tensor:
    """Integrate to second order by the trapezoid rule, with two evaluations per step."""
    for t, after in _times(steps):
        slope = velocity(x, t)
        ahead = velocity(x + (after - t) * slope, after)
        x = x + (after - t) * (slope + ahead) / 2
        on_time(after)
    return x


# Dormand and Prince 1980: stages, and the difference of the fifth and fourth-order results
DOPRI_TIMES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
DOPRI_STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
DOPRI_ERROR = (
    71 / 57600,
    0.0,
    -71 / 16695,
    71 / 1920,
    -17253 / 339200,
    22 / 525,
    -1 / 40,
)


def dopri5(
    velocity: Velocity,
    x: Tensor,
    *,
    rtol: float = 1e-3,
    atol: float = 1e-6,
    on_time: OnTime = _ignore,
) -> Tensor:
    """Integrate to fifth order in adaptive steps, with six evaluations per step."""
    t, slope = 0.0, velocity(x, 0.0)
    step = _first_step(x, slope, rtol, atol)
    while t < 1:
        step = min(step, 1 - t)
        slopes = [slope]
        for share, weights in zip(DOPRI_TIMES[1:], DOPRI_STAGES[1:], strict=True):
            ahead = x + step * _combine(weights, slopes)
            slopes.append(velocity(ahead, t + share * step))
        error = step * _combine(DOPRI_ERROR, slopes)
        ratio = _norm(error / (atol + rtol * torch.maximum(x.abs(), ahead.abs())))
        if ratio <= 1:
            # The last stage is at the new point: the first of the next step.
            t, x, slope = (1.0 if step == 1 - t else t + step), ahead, slopes[-1]
            on_time(t)
        step *= min(max(0.9 * max(ratio, 1e-10) ** -0.2, 0.2), 10.0)
    return x


def _first_step(x: Tensor, slope: Tensor, rtol: float, atol: float) -> float:
    """Return a hundredth of the step in which the solution changes by its own size.

    Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, II.4, without its probe.
    """
    tolerance = atol + rtol * x.abs()
    change = _norm(slope / tolerance)
    return 1e-3 if change < 1e-5 else 0.01 * _norm(x / tolerance) / change


def _combine(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    return torch.stack([w * k for w, k in zip(weights, slopes, strict=True)]).sum(0)


def _norm(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


SDE_LAST_STEP = 0.04  # official code: one long step without noise at the end


def euler_maruyama(
    velocity: Velocity,
    x: Tensor,
    steps: int,
    noise: Callable[[], Tensor],
    on_time: OnTime = _ignore,
) -> Tensor:
    """Sample stochastically as SiT and FiTv2 do, with diffusion 1 - t; one evaluation per step.

    noise: returns new standard normal noise of the shape of x at each call.
    """
    end = 1 - SDE_LAST_STEP
    for t, after in pairwise(end * step / max(steps - 1, 1) for step in range(steps)):
        sigma = (2 * (1 - t) * (after - t)) ** 0.5
        x = x + (after - t) * _drift(velocity, x, t) + sigma * noise()
        on_time(after)
    last = end if steps > 1 else 0.0
    x = x + (1 - last) * _drift(velocity, x, last)
    on_time(1.0)
    return x


def _drift(velocity: Velocity, x: Tensor, t: float) -> Tensor:
    """Return velocity plus diffusion times score, which is t v - x on the linear path."""
    v = velocity(x, t)
    return v + t * v - x
