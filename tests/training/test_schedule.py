"""Schedule and budget of a training, by steps and by the clock."""

import itertools
import math

import pytest

from restore_cli.training.schedule import BY_CLOCK, BY_STEPS, MARGIN, SLACK, Budget, Schedule


class Clock:
    """Clock that advances only when set."""

    def __init__(self):
        self.time = 100.0

    def __call__(self):
        return self.time


def train(budget, clock, *, step=1.0, validation=5.0):
    """Steps and validations that take so many seconds: (step, time) of each validation."""
    validations, done, over = [], 0, False
    while not over:
        budget.progress(done)
        clock.time += step
        done += 1
        over = budget.is_over(done)
        if over or budget.is_due(done):
            began = budget.now()
            clock.time += validation
            budget.validated(began)
            validations.append((done, clock.time))
    return validations


@pytest.mark.parametrize(
    ("progress", "rate"), [(0, 0.01), (0.02, 1), (0.5, 1), (0.75, 0.505), (1, 0.01)]
)
def test_by_steps_the_rate_warms_up_stays_for_half_and_falls(progress, rate):
    assert BY_STEPS(progress) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("progress", "rate"), [(0, 0.01), (0.02, 1), (0.35, 1), (0.675, 0.505), (1, 0.01)]
)
def test_by_the_clock_the_rate_stays_for_35_percent_and_falls(progress, rate):
    assert BY_CLOCK(progress) == pytest.approx(rate)


def test_without_a_warm_up_the_first_step_has_the_peak():
    assert Schedule(warm_up=0.0)(0.0) == 1.0


def test_progress_by_steps_is_that_of_an_uninterrupted_training():
    budget = Budget(200, None, 10, began=0.0)
    assert [budget.progress(step) for step in (0, 50, 200, 300)] == [0, 0.25, 1, 1]


def test_progress_by_the_clock_counts_from_the_first_step_to_the_last_validation():
    clock = Clock()
    budget = Budget(None, 100.0, 10, clock(), clock, validation=10.0)
    clock.time += 20  # loading
    assert budget.progress(0) == 0
    clock.time += (80 - MARGIN - SLACK * 10) / 2
    assert budget.progress(7) == pytest.approx(0.5)


@pytest.mark.parametrize("validation", [0.5, 5.0, 40.0])
@pytest.mark.parametrize("loading", [0.0, 30.0])
def test_a_time_includes_loading_and_the_last_validation(loading, validation):
    clock = Clock()
    budget = Budget(None, 100.0, 10, clock(), clock, validation=validation)
    clock.time += loading
    train(budget, clock, validation=validation)
    assert 0.9 * 100 < budget.elapsed <= 100


def test_a_time_beside_a_number_of_steps_includes_the_last_validation():
    clock = Clock()
    budget = Budget(10**6, 100.0, 10**6, clock(), clock, validation=5.0)
    train(budget, clock)
    assert 0.9 * 100 < budget.elapsed <= 100


def test_validations_by_the_clock_take_a_tenth_of_the_time_at_most():
    clock = Clock()
    budget = Budget(None, 600.0, 10, clock(), clock, validation=20.0)
    assert len(train(budget, clock, validation=20.0)) <= 4


def test_cheap_validations_by_the_clock_are_a_twelfth_of_the_time_apart():
    clock = Clock()
    budget = Budget(None, 1200.0, 10, clock(), clock, validation=0.1)
    times = [time for _, time in train(budget, clock, validation=0.1)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times[:-1])]
    assert all(100 <= gap < 103 for gap in gaps)
    assert len(times) == 12


def test_a_long_training_keeps_its_state_every_ten_minutes():
    clock = Clock()
    budget = Budget(None, 36_000.0, 10, clock(), clock)
    times = [time for _, time in train(budget, clock, step=10.0)]
    assert max(b - a for a, b in itertools.pairwise(times)) < 630


def test_by_steps_validations_follow_the_steps():
    clock = Clock()
    budget = Budget(7, None, 3, clock(), clock)
    assert [step for step, _ in train(budget, clock)] == [3, 6, 7]


def test_a_time_that_is_over_at_once_still_takes_a_step_at_the_lowest_rate():
    clock = Clock()
    budget = Budget(None, 0.0, 10, clock(), clock)
    assert budget.progress(0) == 1
    assert budget.is_over(1)


def test_a_budget_without_an_end_is_refused():
    with pytest.raises(ValueError, match="a number of steps or a time"):
        Budget(None, None, 10, began=math.nan)
