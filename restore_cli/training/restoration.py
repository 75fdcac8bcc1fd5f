"""Training on photographs: pairs, loss and validation of any recipe; the loop is trainer.py's."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, Subset

from restore_cli import registry
from restore_cli.checkpoints.load import load
from restore_cli.data.degrade import nothing
from restore_cli.data.pairs import Pairs, Photo, load_pairs, load_photos
from restore_cli.data.whole_images import WholeImages
from restore_cli.errors import NothingToDo, UsageError
from restore_cli.imaging.resize import resize_matlab
from restore_cli.metrics import psnr
from restore_cli.training.cuda import chosen_convolutions, has_fixed_graph, record_graph
from restore_cli.training.least_squares import solve_last_layer
from restore_cli.training.losses import LOSSES, STRUCTURAL
from restore_cli.training.objectives import as_tuple, in_precision, supervised
from restore_cli.training.recipes import Recipe
from restore_cli.training.schedule import BY_CLOCK, Budget
from restore_cli.training.trainer import (
    STATE_FILE,
    Progress,
    Run,
    State,
    Verdict,
    begin_with,
    refuse_another,
    refuse_finished,
)

VALIDATION_SEED = 2003  # another stream than any training seed gives
SOLVE_SEED = 1999
SOLVE_BATCHES = 100
VALIDATION_DRAWS = 100  # at most, until one of them degrades the photograph
ENDLESS = 2**40  # pairs
MOST_WORKERS = 5  # what a GPU needs of the slowest pairs, rain

Source = Path | tuple[Path, Path]  # clean photographs, or degraded and clean images of one's own


def pairs_of(
    recipe: Recipe,
    photos: Sequence[Photo],
    *,
    patch: int,
    seed: int,
    length: int,
    candidates: int = 1,
    zooms: Sequence[float] = (1.0,),
) -> Pairs | WholeImages:
    if recipe.view is not None:
        return WholeImages(photos, recipe.degrade, size=recipe.view, seed=seed, length=length)
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
        zooms=zooms,
    )


def training_pairs(recipe: Recipe, photos: Sequence[Photo], seed: int) -> Pairs | WholeImages:
    """All pairs of a training, one batch after the other, without end."""
    return pairs_of(
        recipe,
        photos,
        patch=recipe.patch,
        seed=seed,
        length=ENDLESS,
        candidates=recipe.candidates,
        zooms=recipe.zooms,
    )


def worker_count(device: torch.device) -> int:
    """The processes that make pairs unless a number is given: none where the CPU trains too."""
    if device.type != "cuda":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min((cores or 1) - 1, MOST_WORKERS)


def batches(
    pairs: Pairs | WholeImages, size: int, start: int, workers: int, *, pinned: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of `size` from number `start` on; the processes live as long as the iterator.

    pinned: in page-locked memory, from which a GPU copies while it works.
    """
    rest = Subset(pairs, range(start * size, len(pairs)))
    return iter(DataLoader(rest, size, num_workers=workers, pin_memory=pinned))


def held_out_pairs(recipe: Recipe, photos: Sequence[Photo]) -> list[tuple[Tensor, Tensor]]:
    """One (degraded, clean) pair of each held-out photograph, the same every time.

    Draws that leave a photograph as it was say nothing of a network and are drawn again; where
    nothing clean is known, the two are the same. Raises NothingToDo where no pair is degraded.
    """
    found = []
    for index, photo in enumerate(photos):
        pairs = pairs_of(
            recipe,
            [photo],
            patch=recipe.validation_patch,
            seed=VALIDATION_SEED + index,
            length=VALIDATION_DRAWS,
        )
        draws = (pairs[draw] for draw in range(VALIDATION_DRAWS))
        useful = ((d, c) for d, c in draws if not (recipe.paired and torch.equal(d, c)))
        found += [pair for pair in [next(useful, None)] if pair is not None]
    if not found:
        raise NothingToDo(
            "the degraded images that are held out for validation equal the clean ones",
            hint="name the folder of degraded images first: --data-pairs DEGRADED CLEAN",
        )
    return found


def validate(
    recipe: Recipe,
    network: nn.Module,
    held_out: Sequence[tuple[Tensor, Tensor]],
    device: torch.device,
) -> dict[str, float]:
    """The mean scores of the network on held-out pairs; fields of Progress."""
    judge = _fidelity if recipe.paired else held_out_loss
    with torch.inference_mode():
        scores = [
            judge(recipe, network, degraded[None].to(device), clean[None].to(device))
            for degraded, clean in held_out
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
        state.resume(path)
    return state


def batch_loss(
    state: State, recipe: Recipe, progress: float, degraded: Tensor, clean: Tensor, *, bf16: bool
) -> Tensor:
    """The loss of one batch, which may still lie on the CPU."""
    device = state.device
    if progress >= recipe.norms_settle:
        settle_norms(state.network)
    degraded, clean = (half.to(device, non_blocking=True) for half in (degraded, clean))
    network = recipe.feed(in_precision(state.network, device, bf16=bf16))
    draws = Generator().manual_seed(state.step)  # so a resumed training draws the same
    return recipe.loss_step(
        network,
        degraded.contiguous(memory_format=torch.channels_last),
        clean,
        LOSSES[recipe.loss],
        progress,
        draws,
    )


def record_steps(recipe: Recipe, state: State, *, bf16: bool) -> bool:
    """Replay the network as a CUDA graph where all that it is given has one shape."""
    alike = recipe.loss_step is supervised and recipe.view is None
    if not alike or not has_fixed_graph(state.network, state.device):
        return False
    side = recipe.patch * (recipe.scale if recipe.pre_upscaled else 1)
    sample = torch.rand(recipe.batch, 1 if recipe.grey else 3, side, side, device=state.device)
    sample = sample.contiguous(memory_format=torch.channels_last)
    return record_graph(state.network, sample, bf16=bf16)


def solve(state: State, recipe: Recipe, pairs: Pairs | WholeImages) -> None:
    """Give the averaged network its best last layer, and go on from there; see least_squares."""
    if recipe.last_layer is None or recipe.loss != "mse" or isinstance(pairs, WholeImages):
        return
    layer = state.average.get_submodule(recipe.last_layer)
    assert isinstance(layer, nn.Conv2d)
    drawn = pairs.redrawn(seed=SOLVE_SEED, length=SOLVE_BATCHES * recipe.batch)
    solve_last_layer(state.average, layer, batches(drawn, recipe.batch, 0, workers=0))
    state.network.load_state_dict(state.average.state_dict())


def load_source(recipe: Recipe, source: Source) -> tuple[Recipe, list[Photo], list[Photo]]:
    """(recipe, training, validation).

    Pairs of one's own are taken as they are: the recipe no longer degrades nor reduces them.
    Raises UsageError where a recipe has no use for them, and what load_photos and load_pairs raise.
    """
    if isinstance(source, Path):
        training, held_out = load_photos(source, grey=recipe.grey, is_usable=recipe.is_usable)
        return recipe, [*training], [*held_out]
    if not recipe.paired:
        raise UsageError(
            f"this preset of {recipe.arch} learns from noisy photographs alone",
            hint="use --data, or a preset that learns from pairs, as: cbsn --preset camera",
        )
    pairs, held_out_of_own = load_pairs(*source, scale=recipe.scale, grey=recipe.grey)
    recipe = replace(recipe, degrade=nothing, zooms=(1.0,), is_usable=None)
    return recipe, [*pairs], [*held_out_of_own]


def fit(
    recipe: Recipe,
    source: Source,
    out: Path,
    *,
    steps: int | None = None,
    time_limit: float | None = None,
    began: float | None = None,
    resume: bool = False,
    init: str | None = None,
    device: torch.device,
    bf16: bool = False,
    seed: int = 0,
    workers: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Train by `recipe` on the images of `source`; the path of the best weights in `out`.

    Writes into `out`: state.pt (to resume), <arch>.safetensors (the averaged weights of the best
    validation), log.jsonl (a line for each validation). An interruption (Ctrl-C) keeps the state.
    source: a folder of photographs, or (degraded, clean) folders of pairs.
    time_limit: seconds in all since `began` (monotonic, by default the call), the last validation
    included; without `steps`, the learning rate follows this time.
    init: weights to begin with, by name or path; tensors of another shape stay random.
    workers: processes that make pairs; None: by the device.
    Raises NothingToDo where `out` already holds as many steps or `source` too few photographs,
    OutputExists where it holds a training and `resume` is not set, WeightsMismatch where that
    training is of another network, OutputError where `out` cannot be a folder; also what
    load_source raises.
    """
    if steps is None and time_limit is None:
        steps = recipe.steps
    if steps is None:
        recipe = replace(recipe, schedule=BY_CLOCK)
    budget = Budget(
        steps, time_limit, recipe.validate_every, time.monotonic() if began is None else began
    )
    torch.manual_seed(seed)
    state = open_state(recipe, out / STATE_FILE, device, resume=resume, init=init)
    refuse_finished(state, out, steps)
    recipe, training, validation = load_source(recipe, source)
    held_out = held_out_pairs(recipe, validation)
    pairs = training_pairs(recipe, training, seed)
    workers = worker_count(device) if workers is None else workers
    if workers and isinstance(pairs, Pairs):
        pairs.prepare()

    def loss_at(progress: float) -> Tensor:
        return batch_loss(state, recipe, progress, *next(drawn), bf16=bf16)

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

    with chosen_convolutions(device):
        record_steps(recipe, state, bf16=bf16)
        # After that: a thread that pins memory would disturb the recording.
        drawn = batches(pairs, recipe.batch, state.step, workers, pinned=device.type == "cuda")
        timed = time_limit is not None
        budget.validation = _first_seconds(state, recipe, pairs, held_out, budget.now, timed=timed)
        run = Run(recipe.arch, recipe.config, state, out, budget, seed, on_progress)
        return run.train(recipe, loss_at, judge)


def _first_seconds(
    state: State,
    recipe: Recipe,
    pairs: Pairs | WholeImages,
    held_out: Sequence[tuple[Tensor, Tensor]],
    now: Callable[[], float],
    *,
    timed: bool,
) -> float:
    """Solve the last layer where nothing is learned yet; the seconds of a validation.

    They are told by one pair, of which the first run is slower than all others.
    """
    began = now()
    if state.step == 0:
        solve(state, recipe, pairs)
    solved = now() - began
    if not timed:
        return 0.0
    for _ in range(2):
        began = now()
        validate(recipe, state.average, held_out[:1], state.device)
    return solved + len(held_out) * (now() - began)
