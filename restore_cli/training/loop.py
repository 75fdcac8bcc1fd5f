"""One plain training loop, shared by every recipe."""

from __future__ import annotations

import copy
import json
import math
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from restore_cli.errors import NothingToDo, OutputError, OutputExists, WeightsMismatch
from restore_cli.imaging.resize import resize_matlab
from restore_cli.metrics import psnr
from restore_cli.training.least_squares import solve_last_layer
from restore_cli.training.losses import LOSSES
from restore_cli.training.recipes import Recipe
from restore_cli.training.steps import as_tuple, in_precision

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
    validation_loss: float | None = None  # instead, where there is nothing to compare with


@dataclass
class State:
    """Everything that a resumed training needs."""

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf

    def as_dict(self) -> dict[str, object]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
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
) -> Pairs:
    return Pairs(
        photos,
        recipe.degrade,
        patch=patch,
        seed=seed,
        length=length,
        scale=recipe.scale,
        pre_upscaled=recipe.pre_upscaled,
        candidates=candidates,
    )


def training_pairs(recipe: Recipe, photos: Sequence[Tensor], steps: int, seed: int) -> Pairs:
    """All pairs of a training of so many steps, one batch after the other."""
    return pairs_of(
        recipe,
        [reduced(photo, 1 / zoom) for zoom in recipe.zooms for photo in photos],
        patch=recipe.patch,
        seed=seed,
        length=steps * recipe.batch,
        candidates=recipe.candidates,
    )


def batches(pairs: Pairs, size: int, start: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
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
    """PSNR (dB) of the result and of the input; a smaller input counts as enlarged by bicubic."""
    result = as_tuple(recipe.feed(network)(degraded))[-1].clamp(0, 1)
    same_size = resize_matlab(degraded[0].cpu(), *clean.shape[-2:]).clamp(0, 1)
    return {
        "psnr": psnr(result.cpu(), clean.cpu()).item(),
        "input_psnr": psnr(same_size[None], clean.cpu()).item(),
    }


def held_out_loss(
    recipe: Recipe, network: nn.Module, degraded: Tensor, clean: Tensor
) -> dict[str, float]:
    """The loss as it is at the end of the training, with the same draws every time."""
    draws = Generator().manual_seed(VALIDATION_SEED)
    loss = recipe.loss_step(network, degraded, clean, LOSSES[recipe.loss], 1.0, draws)
    return {"validation_loss": loss.item()}


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
    state = State(network, average, torch.optim.Adam(parameter_groups(recipe, network)))
    if path.exists() and not resume:
        raise OutputExists(
            f"{path.parent} holds a training already",
            hint="add --resume to go on with it, or name another --out folder",
        )
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
    degraded = degraded.to(device, memory_format=torch.channels_last)
    network = recipe.feed(in_precision(state.network, device, bf16=bf16))
    draws = Generator().manual_seed(state.step)  # so a resumed training draws the same
    loss = recipe.loss_step(
        network, degraded, clean.to(device), LOSSES[recipe.loss], state.step / steps, draws
    )
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
    state.optimizer.step()
    state.step += 1
    update_average(state.average, state.network, recipe.ema, state.step)
    return loss.detach()


def take_steps(
    state: State,
    recipe: Recipe,
    drawn: Iterable[tuple[Tensor, Tensor]],
    steps: int,
    checkpoint: Callable[[float], None],
    *,
    began: float,
    time_limit: float | None,
    bf16: bool,
    on_progress: Callable[[Progress], None],
) -> None:
    """A step for each batch that is drawn, while there is time since `began` (monotonic).

    checkpoint: called with the last loss at each validation, and at the end.
    """
    for degraded, clean in drawn:
        loss = take_step(state, recipe, steps, degraded, clean, bf16=bf16).item()
        elapsed = time.monotonic() - began
        out_of_time = time_limit is not None and elapsed > time_limit
        if state.step % recipe.validate_every == 0 or state.step == steps or out_of_time:
            checkpoint(loss)
        else:
            on_progress(Progress(state.step, steps, loss, elapsed))
        if out_of_time:
            break


def solve(state: State, recipe: Recipe, pairs: Pairs) -> None:
    """Give the averaged network its best last layer, and go on from there; see least_squares."""
    if recipe.last_layer is None or recipe.loss != "mse":
        return
    layer = state.average.get_submodule(recipe.last_layer)
    assert isinstance(layer, nn.Conv2d)
    drawn = pairs.redrawn(seed=SOLVE_SEED, length=SOLVE_BATCHES * recipe.batch)
    solve_last_layer(state.average, layer, batches(drawn, recipe.batch, 0, workers=0))
    state.network.load_state_dict(state.average.state_dict())


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
    state_file, weights_file = out / "state.pt", out / f"{recipe.arch}.safetensors"
    state = open_state(recipe, state_file, device, resume=resume, init=init)
    if state.step >= steps:
        raise NothingToDo(f"{out}: already trained for {state.step} steps", hint="raise --steps")
    training, held_out = load_photos(data, grey=recipe.grey)
    pairs = training_pairs(recipe, training, steps, seed)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: {error.strerror}", hint="name another --out") from error
    seconds_before = state.seconds

    def checkpoint(loss: float) -> None:
        solve(state, recipe, pairs)
        scores = validate(recipe, state.average, held_out, device)
        score = scores["psnr"] if recipe.paired else -scores["validation_loss"]
        elapsed = time.monotonic() - began
        state.seconds = seconds_before + elapsed
        if score > state.best:
            state.best = score
            record = {
                "steps": state.step,
                "seconds": round(state.seconds),
                "seed": seed,
                "loss": recipe.loss,
            } | {
                f"validation_{name.removeprefix('validation_')}": value
                for name, value in scores.items()
            }
            save(
                state.average,
                weights_file,
                arch=recipe.arch,
                config=dict(recipe.config),
                record=record,
            )
        state.write(state_file)
        progress = Progress(state.step, steps, loss, elapsed, **scores)
        write_log(out / "log.jsonl", progress)
        on_progress(progress)

    try:
        if state.step == 0:
            solve(state, recipe, pairs)
        take_steps(
            state,
            recipe,
            batches(pairs, recipe.batch, state.step, workers),
            steps,
            checkpoint,
            began=began,
            time_limit=time_limit,
            bf16=bf16,
            on_progress=on_progress,
        )
    except KeyboardInterrupt:
        state.seconds = seconds_before + time.monotonic() - began
        state.write(state_file)
        raise
    return weights_file
