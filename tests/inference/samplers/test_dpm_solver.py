"""The solver of DiMR on a problem whose solution is known."""

import pytest
import torch
from torch.testing import assert_close

from restore_cli.inference.samplers.dpm_solver import dpm_solver, orders, points

STD = 0.5  # of normally distributed data


def noise(x, n):
    """The expected noise in x: exact for normal data of std STD."""
    at = point(n)
    return at.sigma * x / (at.alpha**2 * STD**2 + at.sigma**2)


def point(n):
    """The point at a time step, by a path that passes it."""
    known = {round(one.n, 3): one for count in COUNTS for one in points(count)}
    return known[round(n, 3)]


COUNTS = (8, 32, 128, 512)


def exact(x):
    """x is stretched by the ratio of the standard deviations at the end and the start."""
    start, *_, end = points(COUNTS[0])
    spread = [(one.alpha**2 * STD**2 + one.sigma**2) ** 0.5 for one in (start, end)]
    return x * spread[1] / spread[0]


def error(steps):
    x = torch.tensor([-1.0, 0.3, 2.0], dtype=torch.float64)
    return (dpm_solver(noise, x, steps) - exact(x)).abs().max().item()


def test_more_steps_come_closer_to_the_solution():
    errors = [error(steps) for steps in COUNTS]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [(1, [1]), (2, [2]), (3, [2, 1]), (4, [3, 1]), (5, [3, 2]), (6, [3, 2, 1]), (7, [3, 3, 1])],
)
def test_the_orders_add_up_to_the_evaluations(steps, wanted):
    assert orders(steps) == wanted


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 50, 250])
def test_the_network_is_asked_once_a_step_from_noise_to_the_image(steps):
    times, told = [], []
    dpm_solver(lambda x, n: times.append(n) or x, torch.zeros(1), steps, told.append)
    assert told == list(range(1, steps + 1))
    assert times == sorted(times, reverse=True)
    assert_close(times[0], 1000.0)
    assert times[-1] > 1
