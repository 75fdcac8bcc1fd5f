"""One plain training loop, shared by every recipe."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from restore_cli import registry
from restore_cli.checkpoints.save import save
from restore_cli.data.pairs import Pairs, load_photos
from restore_cli.errors import NothingToDo, WeightsMismatch
from restore_cli.metrics import psnr
from restore_cli.training.losses import LOSSES
from restore_cli.training.recipes import Recipe

VALIDATION_PATCH = 128
VALIDATION_SEED = 2003  # another stream than any training seed gives


@dataclass(frozen=True)
class Progress:
    """One line of the log."""

    step: int
    steps: int
    loss: float
    seconds: float  # since this call began
    psnr: float | None = None  # of the averaged weights on held-out photographs, RGB, dB
    input_psnr: float | None = None  # of the degraded input of the same pairs


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

    def resume(self, path: Path, device: torch.device) -> None:
        try:
            saved = torch.load(path, map_location=device, weights_only=True)
            self.network.load_state_dict(saved["network"])
            self.average.load_state_dict(saved["average"])
            self.optimizer.load_state_dict(saved["optimizer"])
        except (RuntimeError, KeyError, ValueError) as error:
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


def as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def batches(
    recipe: Recipe, photos: Sequence[Tensor], start: int, steps: int, seed: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of steps start ... steps - 1."""
    pairs = Pairs(
        photos, recipe.degrade, patch=recipe.patch, seed=seed, length=steps * recipe.batch
    )
    rest = Subset(pairs, range(start * recipe.batch, len(pairs)))
    return iter(DataLoader(rest, recipe.batch, num_workers=workers))


def held_out_pairs(recipe: Recipe, photos: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """One (degraded, clean) pair of each held-out photograph, the same every time."""
    for index in range(len(photos)):
        yield Pairs(
            photos[index : index + 1],
            recipe.degrade,
            patch=VALIDATION_PATCH,
            seed=VALIDATION_SEED,
            length=index + 1,
        )[index]


def validate(
    recipe: Recipe, network: nn.Module, photos: Sequence[Tensor], device: torch.device
) -> tuple[float, float]:
    """Mean PSNR (dB, RGB) of the results and of the inputs over the held-out photographs.

    Pairs without any degradation say nothing of the input and are left out.
    """
    restored_scores, input_scores = [], []
    with torch.inference_mode():
        for degraded, clean in held_out_pairs(recipe, photos):
            if torch.equal(degraded, clean):
                continue
            result = as_tuple(network(degraded[None].to(device)))[-1].clamp(0, 1).cpu()
            restored_scores.append(psnr(result, clean[None]).item())
            input_scores.append(psnr(degraded[None], clean[None]).item())
    return sum(restored_scores) / len(restored_scores), sum(input_scores) / len(input_scores)


def fit(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    steps: int | None = None,
    time_limit: float | None = None,
    resume: bool = False,
    device: torch.device,
    bf16: bool = False,
    seed: int = 0,
    workers: int = 0,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Train by `recipe` on the photographs in `data`; the path of the best weights in `out`.

    Writes `out`/state.pt (to resume) and `out`/<arch>.safetensors (the averaged weights of the
    best validation). time_limit: seconds, counted from the call; the learning rate still follows
    `steps`. Raises NothingToDo where `out` already holds as many steps, WeightsMismatch where its
    state belongs to another network.
    """
    steps = steps or recipe.steps
    began = time.monotonic()
    torch.manual_seed(seed)
    training, held_out = load_photos(data)
    network = registry.build(recipe.arch, **recipe.config)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network).eval().requires_grad_(False)
    state = State(network, average, torch.optim.Adam(network.parameters()))
    state_file, weights_file = out / "state.pt", out / f"{recipe.arch}.safetensors"
    out.mkdir(parents=True, exist_ok=True)
    if resume and state_file.exists():
        state.resume(state_file, device)
    if state.step >= steps:
        raise NothingToDo(f"{out}: already trained for {state.step} steps", hint="raise --steps")
    loss_of = LOSSES[recipe.loss]
    seconds_before = state.seconds

    def checkpoint(loss: float) -> None:
        score, input_score = validate(recipe, average, held_out, device)
        state.seconds = seconds_before + time.monotonic() - began
        if score > state.best:
            state.best = score
            record = {
                "steps": state.step,
                "seconds": round(state.seconds),
                "seed": seed,
                "validation_psnr": score,
                "validation_input_psnr": input_score,
            }
            save(average, weights_file, arch=recipe.arch, config=dict(recipe.config), record=record)
        part = state_file.with_suffix(".part")
        torch.save(state.as_dict(), part)
        part.replace(state_file)
        on_progress(Progress(state.step, steps, loss, time.monotonic() - began, score, input_score))

    for degraded, clean in batches(recipe, training, state.step, steps, seed, workers):
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, state.step, steps)
        degraded = degraded.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            outputs = as_tuple(network(degraded))
        loss = loss_of([output.float() for output in outputs], clean.to(device))
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        state.optimizer.step()
        state.step += 1
        update_average(average, network, recipe.ema, state.step)
        elapsed = time.monotonic() - began
        out_of_time = time_limit is not None and elapsed > time_limit
        if state.step % recipe.validate_every == 0 or state.step == steps or out_of_time:
            checkpoint(loss.item())
        else:
            on_progress(Progress(state.step, steps, loss.item(), elapsed))
        if out_of_time:
            break
    return weights_file
