"""The training loop that all trainings share: on photographs, of generators, and of --adapt."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from restore_cli.checkpoints.save import save
from restore_cli.errors import NothingToDo, OutputError, OutputExists, WeightsMismatch
from restore_cli.files import write_atomically
from restore_cli.training.schedule import Budget, Schedule

STATE_FILE = "state.pt"  # in the folder of a training
# A GPU works behind the program: it is waited for once in so many steps, which costs nothing and
# keeps the clock true.
WAIT_EVERY = 10


@dataclass(frozen=True)
class Progress:
    """One line of the log."""

    step: int
    steps: int | None  # in all; None: the clock ends the training
    loss: float
    seconds: float  # since this call began
    psnr: float | None = None  # of the averaged weights on held-out photographs, dB
    input_psnr: float | None = None  # of the degraded input of the same pairs
    validation_loss: float | None = None  # the criterion where PSNR is not


@dataclass
class State:
    """Everything that a resumed training needs."""

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    judged: int = 0  # the step of the last validation

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def as_dict(self) -> dict[str, object]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "judged": self.judged,
        }

    def write(self, path: Path) -> None:
        """Write the state, whole or not at all. Raises OutputError."""
        hint = "make room there, and go on with --resume"
        try:
            write_atomically(
                path, lambda part: torch.save(self.as_dict(), part), overwrite=True, hint=hint
            )
        except RuntimeError as error:  # of torch's own writer
            raise OutputError(f"{path}: cannot be written: {error}", hint=hint) from error

    def resume(self, path: Path) -> None:
        """Take over the state in `path`. Raises WeightsMismatch."""
        try:
            saved = torch.load(path, map_location=self.device, weights_only=True)
            self.network.load_state_dict(saved["network"])
            self.average.load_state_dict(saved["average"])
            self.optimizer.load_state_dict(saved["optimizer"])
        except (RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as error:
            raise WeightsMismatch(
                f"{path.name} is not a state of this recipe", hint="name another --out folder"
            ) from error
        self.step, self.seconds, self.best = saved["step"], saved["seconds"], saved["best"]
        self.judged = saved.get("judged", self.step)  # older states do not tell


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average; short at first, so that the random start is soon forgotten.

    Statistics of norms are averaged too, since they belong to the weights; counters are copied.
    """
    decay = min(decay, (1 + step) / (10 + step))
    kept = [*average.parameters(), *average.buffers()]
    new = [*network.parameters(), *network.buffers()]
    pairs = list(zip(kept, new, strict=True))
    floats = [(a, b) for a, b in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - decay)
    for stale, fresh in pairs:
        if not stale.is_floating_point():
            stale.copy_(fresh)


def begin_with(network: nn.Module, other: nn.Module) -> None:
    """Give `network` the tensors of `other` that have the same name and shape.

    Raises WeightsMismatch where there are none.
    """
    own = network.state_dict()
    fitting = {
        key: value
        for key, value in other.state_dict().items()
        if key in own and own[key].shape == value.shape
    }
    if not fitting:
        raise WeightsMismatch("none of the weights to begin with fits this network")
    network.load_state_dict(own | fitting)


class Descent(Protocol):
    """The part of a recipe that the loop follows."""

    @property
    def learning_rate(self) -> float:
        """The learning rate of the optimizer at its peak."""

    @property
    def schedule(self) -> Schedule: ...

    @property
    def ema(self) -> float:
        """The decay of the averaged weights."""


LossAt = Callable[[float], Tensor]  # of the next batch, at this progress


def take_step(state: State, recipe: Descent, progress: float, loss_at: LossAt) -> Tensor:
    """One update of the weights and of their average; the loss."""
    rate = recipe.learning_rate * recipe.schedule(progress)
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group.get("pace", 1.0)  # older states know of no paces
    loss = loss_at(progress)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
    state.optimizer.step()
    state.step += 1
    update_average(state.average, state.network, recipe.ema, state.step)
    return loss.detach()


def take_steps(
    state: State,
    recipe: Descent,
    budget: Budget,
    loss_at: LossAt,
    checkpoint: Callable[[float], None],
    on_progress: Callable[[Progress], None],
) -> None:
    """Train until the budget is spent.

    checkpoint: called with the last loss at each validation, and at the end. on_progress: called
    after the other steps, on a GPU after every tenth.
    """
    every = 1 if state.device.type == "cpu" else WAIT_EVERY
    over = False
    while not over:
        loss = take_step(state, recipe, budget.progress(state.step), loss_at)
        waited = loss.item() if state.step % every == 0 else math.nan
        over = budget.is_over(state.step)
        if over or budget.is_due(state.step):
            value = loss.item()
            began = budget.now()
            checkpoint(value)
            budget.validated(began)
        elif state.step % every == 0:
            on_progress(Progress(state.step, budget.steps, waited, budget.elapsed))


@dataclass(frozen=True)
class Verdict:
    """The result of a validation of the averaged weights."""

    scores: Mapping[str, float]  # fields of Progress
    better: bool  # than any before: they are kept
    record: Mapping[str, object]  # of their origin, for their file


@dataclass(frozen=True)
class Run:
    """A training whose weights, state and log are kept in a folder."""

    arch: str
    config: Mapping[str, Any]
    state: State
    out: Path
    budget: Budget
    seed: int
    on_progress: Callable[[Progress], None]

    @property
    def weights_file(self) -> Path:
        return self.out / f"{self.arch}.safetensors"

    def train(self, recipe: Descent, loss_at: LossAt, judge: Callable[[], Verdict]) -> Path:
        """Train until the budget is spent; the path of the weights that are kept.

        Ctrl-C keeps the state. Raises OutputError.
        """
        state, before = self.state, self.state.seconds
        make_folder(self.out)

        def checkpoint(loss: float) -> None:
            verdict = judge()
            elapsed = self.budget.elapsed
            state.seconds, state.judged = before + elapsed, state.step
            self._keep(verdict)
            progress = Progress(state.step, self.budget.steps, loss, elapsed, **verdict.scores)
            write_log(self.out / "log.jsonl", progress)
            self.on_progress(progress)

        try:
            take_steps(state, recipe, self.budget, loss_at, checkpoint, self.on_progress)
        except KeyboardInterrupt:
            state.seconds = before + self.budget.elapsed
            state.write(self.out / STATE_FILE)
            raise
        return self.weights_file

    def _keep(self, verdict: Verdict) -> None:
        """Write the state, and the weights if they are better."""
        state = self.state
        if verdict.better:
            record: dict[str, object] = {
                "steps": state.step,
                "seconds": round(state.seconds),
                "seed": self.seed,
            }
            save(
                state.average,
                self.weights_file,
                arch=self.arch,
                config=dict(self.config),
                record=record | dict(verdict.record),
            )
        state.write(self.out / STATE_FILE)


def write_log(path: Path, progress: Progress) -> None:
    """Add a line. Raises OutputError."""
    try:
        with path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(progress)) + "\n")
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}", hint="make room there") from error


def make_folder(out: Path) -> None:
    """Raises OutputError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: {error.strerror}", hint="name another --out") from error


def refuse_finished(state: State, out: Path, steps: int | None) -> None:
    """Raises NothingToDo. A training interrupted in its last validation takes one more step."""
    if steps is not None and state.step >= steps and state.judged == state.step:
        raise NothingToDo(f"{out}: already trained for {state.step} steps", hint="raise --steps")


def refuse_another(out: Path, *, resume: bool) -> None:
    """Raises OutputExists where `out` holds a training that is not to be resumed."""
    if (out / STATE_FILE).exists() and not resume:
        raise OutputExists(
            f"{out} holds a training already",
            hint="add --resume to go on with it, or name another --out folder",
        )
