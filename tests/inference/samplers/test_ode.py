"""Integrators against fields whose solution is known."""

import math

import pytest
import torch
from torch.testing import assert_close

from restore_cli.inference.samplers.ode import dopri5, euler, euler_maruyama, heun, midpoint

DATA_MEAN, DATA_STD = 2.0, 0.5


def decay(x, t):
    """dx/dt = -2 t x, so x(1) = x(0) / e."""
    return -2 * t * x


def to_a_gaussian(x, t):
    """The velocity from N(0, 1) to N(DATA_MEAN, DATA_STD^2) along straight lines."""
    variance = (t * DATA_STD) ** 2 + (1 - t) ** 2
    covariance = t * DATA_STD**2 - (1 - t)
    return DATA_MEAN + covariance / variance * (x - t * DATA_MEAN)


class Counted:
    def __init__(self, field):
        self.field, self.calls = field, 0

    def __call__(self, x, t):
        self.calls += 1
        return self.field(x, t)


@pytest.mark.parametrize(("rule", "order"), [(euler, 1), (midpoint, 2), (heun, 2)])
def test_the_error_falls_by_the_order_of_the_rule(rule, order):
    start = torch.ones(1, dtype=torch.float64)
    coarse, fine = (abs(rule(decay, start, n).item() - math.exp(-1)) for n in (20, 40))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(("rule", "evaluations"), [(euler, 6), (midpoint, 12), (heun, 12)])
def test_a_step_costs_as_many_evaluations_as_it_says(rule, evaluations):
    field = Counted(decay)
    rule(field, torch.ones(1), 6)
    assert field.calls == evaluations


@pytest.mark.parametrize("rtol", [1e-3, 1e-6])
def test_dopri5_keeps_its_tolerance(rtol):
    start = torch.linspace(1, 2, 5, dtype=torch.float64)
    end = dopri5(decay, start, rtol=rtol, atol=1e-12)
    assert_close(end, start / math.e, atol=0, rtol=10 * rtol)


def test_dopri5_takes_more_steps_where_they_are_needed():
    smooth, stiff = Counted(decay), Counted(lambda x, t: -60 * (x - math.cos(20 * t)))
    dopri5(smooth, torch.ones(1))
    dopri5(stiff, torch.ones(1))
    assert 7 <= smooth.calls <= 60
    assert stiff.calls > 2 * smooth.calls


def test_dopri5_starts_from_a_field_that_is_zero():
    assert_close(dopri5(lambda x, t: torch.full_like(x, 6 * t**5), torch.zeros(3)), torch.ones(3))


@pytest.mark.parametrize("rule", [euler, midpoint, heun])
def test_each_time_is_reported(rule):
    times = []
    rule(decay, torch.ones(1), 4, times.append)
    assert times == [0.25, 0.5, 0.75, 1.0]


def sde_samples(seed, steps=100):
    start = torch.randn(20_000, generator=torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(seed)
    return euler_maruyama(
        to_a_gaussian, start, steps, lambda: torch.randn(20_000, generator=generator)
    )


def test_the_sde_ends_in_the_data():
    end = sde_samples(seed=0)
    assert end.mean().item() == pytest.approx(DATA_MEAN, abs=0.02)
    assert end.std().item() == pytest.approx(DATA_STD, abs=0.02)


def test_the_sde_forgets_where_it_started():
    one, other = sde_samples(seed=0), sde_samples(seed=1)
    correlation = torch.corrcoef(torch.stack([one, other]))[0, 1].item()
    assert correlation < 0.7  # 1 for an ODE


def test_the_sde_depends_on_its_noise_alone():
    assert_close(sde_samples(seed=0, steps=5), sde_samples(seed=0, steps=5), atol=0, rtol=0)


def test_one_step_of_the_sde_is_one_step_of_its_drift():
    reached = []
    end = euler_maruyama(decay, torch.ones(1), 1, lambda: torch.ones(1), reached.append)
    assert_close(end, torch.zeros(1))
    assert reached == [1.0]
