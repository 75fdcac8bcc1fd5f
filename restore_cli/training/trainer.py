"""Training loop of all trainings: restoration, generation and --adapt."""

from __future__ import annotations

import copy
import io
import json
import math
import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from restore_cli.checkpoints.save import save
from restore_cli.errors import NothingToDo, OutputError, OutputExists, WeightsMismatch
from restore_cli.files import write_atomically
from restore_cli.training.processes import ALONE, Processes
from restore_cli.training.recipe import Recipe
from restore_cli.training.schedule import Budget

STATE_FILE = "state.pt"
LOG_FILE = "log.jsonl"
# A GPU runs asynchronously. Waiting for it once in so many steps costs nothing and keeps the
# clock true.
SYNCHRONIZE_EVERY = 10


@dataclass(frozen=True)
class Progress:
    """One line of the log."""

    step: int
    steps: int | None  # in all; None: the clock ends the training
    loss: float
    seconds: float  # since this run began
    psnr: float | None = None  # of the averaged weights on held-out photographs, dB
    input_psnr: float | None = None  # of the degraded input of the same pairs
    validation_loss: float | None = None  # the criterion where PSNR is not


@dataclass(frozen=True)
class TrainingOptions:
    """Options of one run of any training."""

    out: Path  # folder of the weights, the state and the log
    device: torch.device
    steps: int | None = None  # in all, including earlier runs; None: by the recipe or the clock
    time_limit: float | None = None  # seconds since `began`, including the last validation
    began: float | None = None  # by `now`; None: when the training starts
    resume: bool = False  # continue from the state in `out`
    init: str | None = None  # initial weights, by name or path
    bf16: bool = False  # bfloat16 autocast
    seed: int = 0
    now: Callable[[], float] = time.monotonic
    on_progress: Callable[[Progress], None] = lambda _: None  # in the first process
    processes: Processes = ALONE


@dataclass
class State:
    """Everything that a resumed training needs."""

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf  # score of a validation
    validated: int = 0  # step of the last validation

    @classmethod
    def create(
        cls,
        network: nn.Module,
        make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        device: torch.device,
        memory_format: torch.memory_format = torch.preserve_format,
    ) -> State:
        """Return the state before the first step of `network`, which is moved to the device."""
        network.train().to(device=device, memory_format=memory_format)  # type: ignore[call-overload]
        average = copy.deepcopy(network).eval().requires_grad_(False)
        return cls(network, average, make_optimizer(network))

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
            "judged": self.validated,  # the key of earlier versions
        }

    def improves(self, score: float) -> bool:
        """Record the score of a validation; True if it is the best so far."""
        better = score > self.best
        self.best = max(score, self.best)
        return better

    def write(self, path: Path) -> None:
        """Write the state, whole or not at all. Raises OutputError."""
        hint = "free some space, then continue with --resume"
        try:
            write_atomically(
                path, lambda part: torch.save(self.as_dict(), part), overwrite=True, hint=hint
            )
        except RuntimeError as error:  # torch.save raises it on a full disk
            raise OutputError(f"{path}: cannot be written: {error}", hint=hint) from error

    def resume(self, file: BinaryIO) -> None:
        """Load a state that was written. Raises WeightsMismatch."""
        try:
            saved = torch.load(file, map_location=self.device, weights_only=True)
            self.network.load_state_dict(saved["network"])
            self.average.load_state_dict(saved["average"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.step, self.seconds, self.best = saved["step"], saved["seconds"], saved["best"]
        except (RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise WeightsMismatch(
                f"{STATE_FILE} is not a state of this recipe",
                hint="name the recipe and preset of that training, or another --out folder",
            ) from error
        self.validated = saved.get("judged", self.step)  # missing in the oldest states


def start_budget(recipe: Recipe, options: TrainingOptions) -> Budget:
    """Return the budget of a run, from the options or else the recipe.

    Raises OutputExists where the folder holds a training and `resume` is not set.
    """
    options.processes.from_first(lambda: refuse_older(options))
    unlimited = options.steps is None and options.time_limit is None
    steps = recipe.steps if unlimited else options.steps
    began = options.processes.from_first(
        lambda: options.now() if options.began is None else options.began
    )
    now = options.processes.clock(options.now)
    return Budget(steps, options.time_limit, recipe.validate_every, began, now)


def refuse_older(options: TrainingOptions) -> None:
    if (options.out / STATE_FILE).exists() and not options.resume:
        raise OutputExists(
            f"{options.out} already contains a training",
            hint="add --resume to continue it, or name another --out folder",
        )


def open_state(
    network: nn.Module,
    make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    options: TrainingOptions,
    budget: Budget,
    memory_format: torch.memory_format = torch.preserve_format,
) -> State:
    """Return a new state, or the one in the folder of the options.

    Raises WeightsMismatch for the state of another training, NothingToDo for a finished one.
    """
    state = State.create(network, make_optimizer, options.device, memory_format)
    path = options.out / STATE_FILE

    written = options.processes.from_first(lambda: path.read_bytes() if path.exists() else None)
    if written is not None:
        state.resume(io.BytesIO(written))
    # A training interrupted during its last validation takes one more step.
    finished = budget.steps is not None and state.step >= budget.steps
    if finished and state.validated == state.step:
        raise NothingToDo(
            f"{options.out}: already trained for {state.step} steps", hint="raise --steps"
        )
    return state


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Update the exponential moving average of the weights.

    The decay is shorter at first, so that the random initialisation is soon forgotten.
    Statistics of norms are averaged too, since they belong to the weights; counters are copied.
    """
    decay = min(decay, (1 + step) / (10 + step))
    averages = [*average.parameters(), *average.buffers()]
    values = [*network.parameters(), *network.buffers()]
    pairs = list(zip(averages, values, strict=True))
    floats = [(a, b) for a, b in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - decay)
    for old, new in pairs:
        if not old.is_floating_point():
            old.copy_(new)


def initialize_from(network: nn.Module, initial: nn.Module) -> None:
    """Copy the tensors of `initial` that have the same name and shape in `network`.

    Raises WeightsMismatch where there are none.
    """
    state = network.state_dict()
    matching = {
        key: value
        for key, value in initial.state_dict().items()
        if key in state and state[key].shape == value.shape
    }
    if not matching:
        raise WeightsMismatch("none of the initial weights fits this network")
    network.load_state_dict(state | matching)


# Progress -> loss of the next batch, or the part of it that the share of this process adds.
BatchLoss = Callable[[float], Tensor]


def take_step(
    state: State,
    recipe: Recipe,
    progress: float,
    batch_loss: BatchLoss,
    processes: Processes = ALONE,
) -> Tensor:
    """Update the weights and their average once; return the loss."""
    rate = recipe.learning_rate * recipe.schedule(progress)
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group.get("pace", 1.0)  # missing in older states
    loss = batch_loss(progress)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    loss = processes.sum_gradients(state.network, loss)
    nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
    state.optimizer.step()
    state.step += 1
    update_average(state.average, state.network, recipe.ema, state.step)
    return loss


def take_steps(
    state: State,
    recipe: Recipe,
    budget: Budget,
    batch_loss: BatchLoss,
    on_validation: Callable[[float], None],
    on_progress: Callable[[Progress], None],
    processes: Processes = ALONE,
) -> None:
    """Train until the budget is spent.

    on_validation: called with the last loss when a validation is due, and at the end. on_progress:
    called after the other steps, on a GPU after every tenth.
    """
    every = 1 if state.device.type == "cpu" else SYNCHRONIZE_EVERY
    over = False
    while not over:
        loss = take_step(state, recipe, budget.progress(state.step), batch_loss, processes)
        synchronized = loss.item() if state.step % every == 0 else math.nan
        over = budget.is_over(state.step)
        if over or budget.is_due(state.step):
            value = loss.item()
            began = budget.now()
            on_validation(value)
            budget.validated(began)
        elif state.step % every == 0:
            on_progress(Progress(state.step, budget.steps, synchronized, budget.elapsed))


@dataclass(frozen=True)
class Validation:
    """Result of one validation of the averaged weights."""

    metrics: Mapping[str, float]  # fields of Progress
    record: Mapping[str, object]  # stored with the weights
    score: float | None  # higher is better; None: the latest weights are kept


def run_training(
    recipe: Recipe,
    state: State,
    options: TrainingOptions,
    budget: Budget,
    batch_loss: BatchLoss,
    validate: Callable[[], Validation],
) -> Path:
    """Train until the budget is spent; return the path of the best averaged weights.

    Writes into the folder of the options: the state, the weights, and a line of the log for each
    validation. An interruption (Ctrl-C) keeps the state. Only the first of several processes
    writes. Raises OutputError.
    """
    out, earlier, processes = options.out, state.seconds, options.processes
    weights = out / f"{recipe.arch}.safetensors"
    processes.from_first(lambda: make_folder(out))

    def write(loss: float, result: Validation) -> None:
        if result.score is None or state.improves(result.score):
            record: dict[str, object] = {
                "steps": state.step,
                "seconds": round(state.seconds),
                "seed": options.seed,
                **result.record,
            }
            config = dict(recipe.config)
            save(state.average, weights, arch=recipe.arch, config=config, record=record)
        state.write(out / STATE_FILE)
        elapsed = state.seconds - earlier
        progress = Progress(state.step, budget.steps, loss, elapsed, **result.metrics)
        append_to_log(out / LOG_FILE, progress)
        options.on_progress(progress)

    def on_validation(loss: float) -> None:
        result = validate()
        state.seconds, state.validated = earlier + budget.elapsed, state.step
        processes.from_first(lambda: write(loss, result))

    def on_progress(progress: Progress) -> None:
        if processes.is_first:
            options.on_progress(progress)

    try:
        take_steps(state, recipe, budget, batch_loss, on_validation, on_progress, processes)
    except KeyboardInterrupt:
        state.seconds = earlier + budget.elapsed
        processes.from_first(lambda: state.write(out / STATE_FILE))
        raise
    return weights


def append_to_log(path: Path, progress: Progress) -> None:
    """Append a line of JSON. Raises OutputError."""
    try:
        with path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(progress)) + "\n")
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}", hint="free some space") from error


def make_folder(out: Path) -> None:
    """Create the folder of a training. Raises OutputError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: {error.strerror}", hint="name another --out") from error
