"""Schedule and budget of a training: its learning rate, its validations and its end.

Both follow the progress, from 0 at the first step to 1 at the end, measured in steps or by a clock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

VALIDATION_SHARE = 0.1  # largest share of the time, where validations follow the clock
VALIDATIONS = 12  # largest number of validations by the clock, unless LONGEST_INTERVAL is shorter
LONGEST_INTERVAL = 600.0  # seconds between validations: an interruption loses no more
MARGIN = 2.0  # seconds, to write the last files and to end the process
SLACK = 1.1  # the last validation may take so many times as long as the one before


@dataclass(frozen=True)
class Schedule:
    """Learning rate as a share of its peak: linear warm-up, peak, decay to `end`."""

    warm_up: float = 0.02  # progress at which the peak begins
    decay_from: float = 0.5  # progress at which the peak ends
    decay: Literal["cosine", "linear"] = "cosine"
    end: float = 0.01

    def __call__(self, progress: float) -> float:
        rising = 0.01 + 0.99 * progress / self.warm_up if self.warm_up > 0 else 1.0
        falling = max(0.0, (progress - self.decay_from) / (1 - self.decay_from))
        left = 1 - falling if self.decay == "linear" else (1 + math.cos(math.pi * falling)) / 2
        return min(rising, self.end + (1 - self.end) * left)


BY_STEPS = Schedule()  # a long peak, so that --resume may add steps
BY_CLOCK = Schedule(decay_from=0.35)
GENERATIVE = Schedule(warm_up=0.025, decay_from=0.85, decay="linear", end=0.0)


def generative_schedule(warm_up: float) -> Schedule:
    """Return the schedule of the generators with another warm-up."""
    return replace(GENERATIVE, warm_up=warm_up)


@dataclass
class Budget:
    """Extent of a training: a number of steps, a time, or both, of which the first ends it.

    steps: the unit of progress; None: progress follows the clock. seconds: in all since `began`,
    including the last validation. validate_every: interval in steps, where `steps` is given.
    validation: seconds that one validation takes, as far as is known.
    """

    steps: int | None
    seconds: float | None
    validate_every: int
    began: float  # by `now`
    now: Callable[[], float] = time.monotonic
    validation: float = 0.0
    _first: float | None = None  # time of the first step
    _step_began: float = 0.0
    _validated: float = 0.0

    def __post_init__(self) -> None:
        if self.steps is None and self.seconds is None:
            raise ValueError("a budget needs a number of steps or a time")

    @property
    def elapsed(self) -> float:
        return self.now() - self.began

    @property
    def _deadline(self) -> float:
        """Time at which the last validation has to begin."""
        if self.seconds is None:
            return math.inf
        return self.began + self.seconds - MARGIN - SLACK * self.validation

    def progress(self, step: int) -> float:
        """Begin a step; return the progress before it, 0 to 1."""
        self._step_began = now = self.now()
        if self._first is None:
            self._first = self._validated = now
        if self.steps is not None:
            return min(1.0, step / self.steps)
        whole = self._deadline - self._first
        return min(1.0, (now - self._first) / whole) if whole > 0 else 1.0

    def is_over(self, step: int) -> bool:
        """Return True after the last step: one more would exceed the steps or the time."""
        now = self.now()
        late = 2 * now - self._step_began > self._deadline
        return late or (self.steps is not None and step >= self.steps)

    def is_due(self, step: int) -> bool:
        """Return True where a validation follows this step."""
        if self.steps is not None:
            return step % self.validate_every == 0
        assert self.seconds is not None
        interval = min(self.seconds / VALIDATIONS, LONGEST_INTERVAL)
        interval = max(interval, self.validation / VALIDATION_SHARE)
        return self.now() - self._validated >= interval

    def validated(self, began: float) -> None:
        """Record a validation that began at `began` and ends now."""
        self._validated = self.now()
        self.validation = self._validated - began
