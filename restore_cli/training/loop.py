"""One plain training loop, shared by every recipe."""

from __future__ import annotations

import copy
import json
import math
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, Subset

from restore_cli import registry
from restore_cli.checkpoints.load import load
from restore_cli.checkpoints.save import save
from restore_cli.data.pairs import Pairs, load_photos, reduced
from restore_cli.data.views import Views
from restore_cli.errors import NothingToDo, OutputError, OutputExists, WeightsMismatch
from restore_cli.imaging.resize import resize_matlab
from restore_cli.metrics import psnr
from restore_cli.training.least_squares import solve_last_layer
from restore_cli.training.losses import LOSSES, STRUCTURAL
from restore_cli.training.recipes import Recipe
from restore_cli.training.steps import as_tuple, in_precision

STATE_FILE = "state.pt"  # in the folder of a training
VALIDATION_SEED = 2003  # another stream than any training seed gives
SOLVE_SEED = 1999
SOLVE_BATCHES = 100
VALIDATION_DRAWS = 100  # at most, until one of them degrades the photograph


@dataclass(frozen=True)
class Progress:
    """One line of the log."""

    step: int
    steps: int
    loss: float
    seconds: float  # since this call began
    psnr: float | None = None  # of the averaged weights on held-out photographs, dB
    input_psnr: float | None = None  # of the degraded input of the same pairs
    validation_loss: float | None = None  # what is judged by, where PSNR is not


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
        """Whole or not at all. Raises OutputError."""
        part = path.with_suffix(".part")
        try:
            try:
                torch.save(self.as_dict(), part)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:  # torch's own writer gives the latter
            raise OutputError(
                f"{path}: the state of the training cannot be written: {error}",
                hint="make room there, and go on with --resume",
            ) from error

    def resume(self, path: Path, device: torch.device) -> None:
        try:
            saved = torch.load(path, map_location=device, weights_only=True)
            self.network.load_state_dict(saved["network"])
            self.average.load_state_dict(saved["average"])
            self.optimizer.load_state_dict(saved["optimizer"])
        except (RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as error:
            raise WeightsMismatch(
                f"{path.name} is not a state of this recipe", hint="name another --out folder"
            ) from error
        self.step, self.seconds, self.best = saved["step"], saved["seconds"], saved["best"]
        self.judged = saved.get("judged", self.step)  # older states do not tell


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Linear warm-up over 2 % of the steps, then the peak, in the last half a cosine to 1 %.

    So a resumed training may be given more steps: the part at the peak is common to both.
    """
    warm_up = max(1, steps // 50)
    done = min(1.0, step / steps)
    falling = max(0.0, 2 * done - 1)  # 0 in the first half, then up to 1
    decay = 0.01 + 0.99 * (1 + math.cos(math.pi * falling)) / 2
    return recipe.learning_rate * min((step + 1) / warm_up, decay)


def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average; short at first, so that the random start is soon forgotten."""
    decay = min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        for kept, new in zip(average.parameters(), network.parameters(), strict=True):
            kept.lerp_(new, 1 - decay)
        for stale, fresh in zip(average.buffers(), network.buffers(), strict=True):
            if fresh.is_floating_point():  # statistics belong to weights, so they are averaged too
                stale.lerp_(fresh, 1 - decay)
            else:
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


def pairs_of(
    recipe: Recipe,
    photos: Sequence[Tensor],
    *,
    patch: int,
    seed: int,
    length: int,
    candidates: int = 1,
) -> Pairs | Views:
    if recipe.view is not None:
        return Views(photos, recipe.degrade, size=recipe.view, seed=seed, length=length)
    return Pairs(
        photos,
        recipe.degrade,
        patch=patch,
        seed=seed,
        length=length,
        scale=recipe.scale,
        pre_upscaled=recipe.pre_upscaled,
        candidates=candidates,
        scene=recipe.scene,
    )


def training_pairs(
    recipe: Recipe, photos: Sequence[Tensor], steps: int, seed: int
) -> Pairs | Views:
    """All pairs of a training of so many steps, one batch after the other."""
    return pairs_of(
        recipe,
        [reduced(photo, 1 / zoom) for zoom in recipe.zooms for photo in photos],
        patch=recipe.patch,
        seed=seed,
        length=steps * recipe.batch,
        candidates=recipe.candidates,
    )


def batches(
    pairs: Pairs | Views, size: int, start: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of `size` from number `start` on."""
    rest = Subset(pairs, range(start * size, len(pairs)))
    return iter(DataLoader(rest, size, num_workers=workers))


def held_out_pairs(recipe: Recipe, photos: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """One (degraded, clean) pair of each held-out photograph, the same every time.

    Draws that leave a photograph as it was say nothing of a network and are drawn again; where
    nothing clean is known, the two are the same.
    """
    for index, photo in enumerate(photos):
        pairs = pairs_of(
            recipe,
            [photo],
            patch=recipe.validation_patch,
            seed=VALIDATION_SEED + index,
            length=VALIDATION_DRAWS,
        )
        draws = (pairs[draw] for draw in range(VALIDATION_DRAWS))
        yield next((d, c) for d, c in draws if not (recipe.paired and torch.equal(d, c)))


def write_log(path: Path, progress: Progress) -> None:
    """Add a line. Raises OutputError."""
    try:
        with path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(progress)) + "\n")
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}", hint="make room there") from error


def validate(
    recipe: Recipe, network: nn.Module, photos: Sequence[Tensor], device: torch.device
) -> dict[str, float]:
    """What the network reaches on the held-out photographs, in the mean; fields of Progress."""
    judge = _fidelity if recipe.paired else held_out_loss
    with torch.inference_mode():
        scores = [
            judge(recipe, network, degraded[None].to(device), clean[None].to(device))
            for degraded, clean in held_out_pairs(recipe, photos)
        ]
    return {name: sum(score[name] for score in scores) / len(scores) for name in scores[0]}


def _fidelity(
    recipe: Recipe, network: nn.Module, degraded: Tensor, clean: Tensor
) -> dict[str, float]:
    """PSNR (dB) of the result and of the input; a smaller input counts as enlarged by bicubic.

    And the loss, if it is of structure: PSNR falls while that is learnt.
    """
    outputs = as_tuple(recipe.feed(network)(degraded))
    same_size = resize_matlab(degraded[0].cpu(), *clean.shape[-2:]).clamp(0, 1)
    scores = {
        "psnr": psnr(outputs[-1].clamp(0, 1).cpu(), clean.cpu()).item(),
        "input_psnr": psnr(same_size[None], clean.cpu()).item(),
    }
    if recipe.loss in STRUCTURAL:
        scores["validation_loss"] = LOSSES[recipe.loss](outputs, clean).item()
    return scores


def held_out_loss(
    recipe: Recipe, network: nn.Module, degraded: Tensor, clean: Tensor
) -> dict[str, float]:
    """The loss as it is at the end of the training, with the same draws every time."""
    draws = Generator().manual_seed(VALIDATION_SEED)
    loss = recipe.loss_step(network, degraded, clean, LOSSES[recipe.loss], 1.0, draws)
    return {"validation_loss": loss.item()}


def settle_norms(network: nn.Module) -> None:
    """Let each batch norm normalise by the statistics that it has, as it will do in use."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def parameter_groups(recipe: Recipe, network: nn.Module) -> list[dict[str, Any]]:
    """The parameters of the network, those of the last layer apart: they learn more slowly."""
    own: list[nn.Parameter] = []
    last: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (last if name.rpartition(".")[0] == recipe.last_layer else own).append(parameter)
    groups = [{"params": own, "pace": 1.0}, {"params": last, "pace": recipe.last_pace}]
    return [group for group in groups if group["params"]]


def open_state(
    recipe: Recipe, path: Path, device: torch.device, *, resume: bool, init: str | None
) -> State:
    """A new state, or the one in `path` to go on from. Raises OutputExists, WeightsMismatch."""
    network = registry.build(recipe.arch, **recipe.config)
    if init is not None:
        begin_with(network, load(init))
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network).eval().requires_grad_(False)
    state = State(network, average, recipe.optimizer(parameter_groups(recipe, network)))
    refuse_another(path.parent, resume=resume)
    if path.exists():
        state.resume(path, device)
    return state


def take_step(
    state: State, recipe: Recipe, steps: int, degraded: Tensor, clean: Tensor, *, bf16: bool
) -> Tensor:
    """One update of the weights and of their average; the loss."""
    device = next(state.network.parameters()).device
    for group in state.optimizer.param_groups:
        # Older states know of no paces.
        group["lr"] = learning_rate(recipe, state.step, steps) * group.get("pace", 1.0)
    if state.step >= recipe.norms_settle * steps:
        settle_norms(state.network)
    degraded = degraded.to(device, memory_format=torch.channels_last)
    network = recipe.feed(in_precision(state.network, device, bf16=bf16))
    draws = Generator().manual_seed(state.step)  # so a resumed training draws the same
    loss = recipe.loss_step(
        network, degraded, clean.to(device), LOSSES[recipe.loss], state.step / steps, draws
    )
    return descend(state, loss, recipe.ema)


def descend(state: State, loss: Tensor, decay: float) -> Tensor:
    """One update of the weights by the gradient of `loss`, and of their average; the loss."""
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
    state.optimizer.step()
    state.step += 1
    update_average(state.average, state.network, decay, state.step)
    return loss.detach()


def take_steps(
    state: State,
    losses: Iterable[Tensor],
    checkpoint: Callable[[float], None],
    *,
    steps: int,
    validate_every: int,
    began: float,
    time_limit: float | None,
    on_progress: Callable[[Progress], None],
) -> None:
    """Up to the step `steps`, while there is time since `began` (monotonic).

    losses: makes a step whenever it is asked for its loss. checkpoint: called with the last loss at
    each validation, and at the end.
    """
    for tensor in losses:
        loss = tensor.item()
        elapsed = time.monotonic() - began
        last = state.step >= steps or (time_limit is not None and elapsed > time_limit)
        if state.step % validate_every == 0 or last:
            checkpoint(loss)
        else:
            on_progress(Progress(state.step, steps, loss, elapsed))
        if last:
            break


def solve(state: State, recipe: Recipe, pairs: Pairs | Views) -> None:
    """Give the averaged network its best last layer, and go on from there; see least_squares."""
    if recipe.last_layer is None or recipe.loss != "mse" or isinstance(pairs, Views):
        return
    layer = state.average.get_submodule(recipe.last_layer)
    assert isinstance(layer, nn.Conv2d)
    drawn = pairs.redrawn(seed=SOLVE_SEED, length=SOLVE_BATCHES * recipe.batch)
    solve_last_layer(state.average, layer, batches(drawn, recipe.batch, 0, workers=0))
    state.network.load_state_dict(state.average.state_dict())


@dataclass(frozen=True)
class Verdict:
    """What a validation says of the averaged weights."""

    scores: Mapping[str, float]  # fields of Progress
    better: bool  # than any before: they are kept
    record: Mapping[str, object]  # of how they came to be, for their file


@dataclass(frozen=True)
class Course:
    """A training under way: what is the same whatever is learnt."""

    arch: str
    config: Mapping[str, Any]
    state: State
    out: Path
    steps: int
    validate_every: int
    seed: int
    time_limit: float | None
    on_progress: Callable[[Progress], None]

    @property
    def weights_file(self) -> Path:
        return self.out / f"{self.arch}.safetensors"

    def run(self, losses: Iterable[Tensor], judge: Callable[[], Verdict], began: float) -> Path:
        """Go on to the last step, or until the time is over; the path of the weights that are kept.

        losses, began: as of take_steps. Ctrl-C keeps the state. Raises OutputError.
        """
        state, before = self.state, self.state.seconds
        make_folder(self.out)

        def checkpoint(loss: float) -> None:
            verdict = judge()
            elapsed = time.monotonic() - began
            state.seconds, state.judged = before + elapsed, state.step
            self._keep(verdict)
            progress = Progress(state.step, self.steps, loss, elapsed, **verdict.scores)
            write_log(self.out / "log.jsonl", progress)
            self.on_progress(progress)

        try:
            take_steps(
                state,
                losses,
                checkpoint,
                steps=self.steps,
                validate_every=self.validate_every,
                began=began,
                time_limit=self.time_limit,
                on_progress=self.on_progress,
            )
        except KeyboardInterrupt:
            state.seconds = before + time.monotonic() - began
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


def make_folder(out: Path) -> None:
    """Raises OutputError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: {error.strerror}", hint="name another --out") from error


def refuse_finished(state: State, out: Path, steps: int) -> None:
    """Raises NothingToDo. What was interrupted in its last validation takes one more step."""
    if state.step >= steps and state.judged == state.step:
        raise NothingToDo(f"{out}: already trained for {state.step} steps", hint="raise --steps")


def refuse_another(out: Path, *, resume: bool) -> None:
    """Raises OutputExists where a training lies in `out` and is not to be gone on with."""
    if (out / STATE_FILE).exists() and not resume:
        raise OutputExists(
            f"{out} holds a training already",
            hint="add --resume to go on with it, or name another --out folder",
        )


def fit(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    steps: int | None = None,
    time_limit: float | None = None,
    resume: bool = False,
    init: str | None = None,
    device: torch.device,
    bf16: bool = False,
    seed: int = 0,
    workers: int = 0,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Train by `recipe` on the photographs in `data`; the path of the best weights in `out`.

    Writes into `out`: state.pt (to resume), <arch>.safetensors (the averaged weights of the best
    validation), log.jsonl (a line for each validation). An interruption (Ctrl-C) keeps the state.
    time_limit: seconds, counted from the call; the learning rate still follows `steps`.
    init: weights to begin with, by name or path; tensors of another shape stay random.
    Raises NothingToDo where `out` already holds as many steps or `data` too few photographs,
    OutputExists where it holds a training and `resume` is not set, WeightsMismatch where that
    training is of another network, OutputError where `out` cannot be a folder.
    """
    steps = steps or recipe.steps
    began = time.monotonic()
    torch.manual_seed(seed)
    state = open_state(recipe, out / STATE_FILE, device, resume=resume, init=init)
    refuse_finished(state, out, steps)
    training, held_out = load_photos(data, grey=recipe.grey, suits=recipe.suits)
    pairs = training_pairs(recipe, training, max(steps, state.step + 1), seed)

    def losses() -> Iterator[Tensor]:
        if state.step == 0:
            solve(state, recipe, pairs)
        for degraded, clean in batches(pairs, recipe.batch, state.step, workers):
            yield take_step(state, recipe, steps, degraded, clean, bf16=bf16)

    def judge() -> Verdict:
        solve(state, recipe, pairs)
        scores = validate(recipe, state.average, held_out, device)
        loss = scores.get("validation_loss")
        score = scores["psnr"] if loss is None else -loss
        better = score > state.best
        state.best = max(score, state.best)
        named = {
            f"validation_{name.removeprefix('validation_')}": value
            for name, value in scores.items()
        }
        return Verdict(scores, better, {"loss": recipe.loss, **named})

    course = Course(
        recipe.arch,
        recipe.config,
        state,
        out,
        steps,
        recipe.validate_every,
        seed,
        time_limit,
        on_progress,
    )
    return course.run(losses(), judge, began)
