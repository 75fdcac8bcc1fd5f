"""Training on photographs: pairs, loss and validation of the restoration recipes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader

from restore_cli import registry
from restore_cli.checkpoints.load import load
from restore_cli.data.degrade import unchanged
from restore_cli.data.pairs import Pairs, Photo, load_pairs, load_photos
from restore_cli.data.whole_images import WholeImages
from restore_cli.errors import NothingToDo, UsageError
from restore_cli.imaging.resize import resize_matlab
from restore_cli.metrics import psnr
from restore_cli.training.cuda import cudnn_benchmark, has_fixed_graph, record_graph
from restore_cli.training.least_squares import solve_last_layer
from restore_cli.training.losses import LOSSES, STRUCTURAL
from restore_cli.training.objectives import (
    JOINT,
    Batch,
    as_tuple,
    in_precision,
    standardized_jointly,
    supervised,
)
from restore_cli.training.processes import ALONE, Processes, Share, share_batches
from restore_cli.training.recipe import RestorationRecipe
from restore_cli.training.schedule import BY_CLOCK, Budget
from restore_cli.training.trainer import (
    State,
    TrainingOptions,
    Validation,
    initialize_from,
    open_state,
    run_training,
    start_budget,
)

VALIDATION_SEED = 2003  # another random stream than that of any training seed
SOLVE_SEED = 1999
SOLVE_BATCHES = 100
SOLVE_SHARE = 0.05  # of the time, at most, where it is limited; one batch is enough to solve
VALIDATION_DRAWS = 100  # at most, until one of them degrades the photograph
ENDLESS = 2**40  # pairs
MOST_WORKERS = 5  # enough for a GPU with the slowest pairs, those with rain

T = TypeVar("T")
Source = Path | tuple[Path, Path]  # clean photographs, or degraded and clean images


def make_pairs(
    recipe: RestorationRecipe,
    photos: Sequence[Photo],
    *,
    patch: int,
    seed: int,
    length: int,
    candidates: int = 1,
    zooms: Sequence[float] = (1.0,),
) -> Pairs | WholeImages:
    if recipe.whole_size is not None:
        size = recipe.whole_size
        return WholeImages(photos, recipe.degrade, size=size, seed=seed, length=length)
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


def training_pairs(
    recipe: RestorationRecipe, photos: Sequence[Photo], seed: int
) -> Pairs | WholeImages:
    """Return all pairs of a training, one batch after the other, without end."""
    return make_pairs(
        recipe,
        photos,
        patch=recipe.patch,
        seed=seed,
        length=ENDLESS,
        candidates=recipe.candidates,
        zooms=recipe.zooms,
    )


def validation_pairs(
    recipe: RestorationRecipe, photos: Sequence[Photo]
) -> list[tuple[Tensor, Tensor]]:
    """Return one (degraded, clean) pair of each held-out photograph, the same every time.

    Draws that leave a photograph unchanged say nothing about a network and are drawn again. Where
    no clean image is known, the two are the same. Raises NothingToDo where no pair is degraded.
    """
    found = []
    for index, photo in enumerate(photos):
        pairs = make_pairs(
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


def worker_count(device: torch.device) -> int:
    """Return the default number of processes that make pairs: none where the CPU also trains."""
    if device.type != "cuda":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min((cores or 1) - 1, MOST_WORKERS)


def batches(
    pairs: Pairs | WholeImages, share: Share, start: int, workers: int, *, pinned: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the share of each batch from number `start` on; the workers live as long.

    pinned: in page-locked memory, from which a GPU copies while it works.
    """
    starts = range(start * share.batch, len(pairs), share.batch)
    chosen = ([*range(first, first + share.batch)[share.rows]] for first in starts)
    return iter(DataLoader(pairs, batch_sampler=chosen, num_workers=workers, pin_memory=pinned))


def mean_scores(
    recipe: RestorationRecipe,
    network: nn.Module,
    held_out: Sequence[tuple[Tensor, Tensor]],
    device: torch.device,
    processes: Processes = ALONE,
) -> dict[str, float]:
    """Return the mean scores of the network on held-out pairs; the keys are fields of Progress."""
    score_pair = _fidelity if recipe.paired else validation_loss

    @torch.inference_mode()
    def score(pair: tuple[Tensor, Tensor]) -> dict[str, float]:
        degraded, clean = (image[None].to(device) for image in pair)
        return score_pair(recipe, network, degraded, clean)

    scores = processes.map(score, held_out)
    return {name: sum(score[name] for score in scores) / len(scores) for name in scores[0]}


def _fidelity(
    recipe: RestorationRecipe, network: nn.Module, degraded: Tensor, clean: Tensor
) -> dict[str, float]:
    """Return the PSNR of the output and of the input, which is enlarged by bicubic if smaller.

    Includes the loss if it measures structure: PSNR falls while structure is learned.
    """
    outputs = as_tuple(recipe.preprocessing(network)(degraded))
    same_size = resize_matlab(degraded[0].cpu(), *clean.shape[-2:]).clamp(0, 1)
    scores = {
        "psnr": psnr(outputs[-1].clamp(0, 1).cpu(), clean.cpu()).item(),
        "input_psnr": psnr(same_size[None], clean.cpu()).item(),
    }
    if recipe.loss in STRUCTURAL:
        scores["validation_loss"] = LOSSES[recipe.loss](outputs, clean).item()
    return scores


def validation_loss(
    recipe: RestorationRecipe, network: nn.Module, degraded: Tensor, clean: Tensor
) -> dict[str, float]:
    """Return the loss at the end of the training, with the same random numbers every time."""
    generator = Generator().manual_seed(VALIDATION_SEED)
    batch = Batch(degraded, clean, 1.0, generator, ALONE.share(len(degraded)))
    return {"validation_loss": recipe.objective(network, batch, LOSSES[recipe.loss]).item()}


def freeze_norms(network: nn.Module) -> None:
    """Let each batch norm normalize by its running statistics, as in inference."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def optimizer_of(recipe: RestorationRecipe, network: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer; the last layer is a group of its own, which learns more slowly.

    `pace` of a group is its learning rate relative to that of the recipe.
    """
    others: list[nn.Parameter] = []
    last: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (last if name.rpartition(".")[0] == recipe.last_layer else others).append(parameter)
    groups: list[dict[str, Any]] = [{"params": others, "pace": 1.0}]
    if last:
        groups.append({"params": last, "pace": recipe.last_layer_rate})
    return recipe.optimizer(groups)


def open_restoration(recipe: RestorationRecipe, options: TrainingOptions, budget: Budget) -> State:
    """Build the network with its initial weights; return a new or the resumed state."""
    network = registry.build(recipe.arch, **recipe.config)
    if options.init is not None:
        initialize_from(network, load(options.init))
    return open_state(
        network,
        lambda built: optimizer_of(recipe, built),
        options,
        budget,
        memory_format=torch.channels_last,
    )


def loss_of(
    state: State,
    recipe: RestorationRecipe,
    progress: float,
    pairs: tuple[Tensor, Tensor],
    share: Share,
    *,
    bf16: bool,
) -> Tensor:
    """Return the part of the loss of a batch that a share of its (degraded, clean) images adds."""
    device = state.device
    if progress >= recipe.freeze_norms_at:
        freeze_norms(state.network)
    degraded, clean = (images.to(device, non_blocking=True) for images in pairs)
    network = recipe.preprocessing(in_precision(state.network, device, bf16=bf16))
    degraded = degraded.contiguous(memory_format=torch.channels_last)
    generator = Generator().manual_seed(state.step)  # the same in a resumed training
    batch = Batch(degraded, clean, progress, generator, share)
    return share.weight * recipe.objective(network, batch, LOSSES[recipe.loss])


def record_steps(recipe: RestorationRecipe, state: State, share: Share, *, bf16: bool) -> bool:
    """Replace the network by a CUDA graph where all its inputs have one shape."""
    one_shape = recipe.objective is supervised and recipe.whole_size is None
    if not one_shape or not has_fixed_graph(state.network, state.device):
        return False
    side = recipe.patch * (recipe.scale if recipe.pre_upscaled else 1)
    sample = torch.rand(share.size, 1 if recipe.grey else 3, side, side, device=state.device)
    sample = sample.contiguous(memory_format=torch.channels_last)
    return record_graph(state.network, sample, bf16=bf16)


def solve(
    state: State,
    recipe: RestorationRecipe,
    pairs: Pairs | WholeImages,
    options: TrainingOptions,
) -> None:
    """Solve the last layer of the averaged network and copy it to the trained one.

    See least_squares; does nothing where the recipe names no last layer.
    """
    if recipe.last_layer is None or recipe.loss != "mse" or isinstance(pairs, WholeImages):
        return
    layer = state.average.get_submodule(recipe.last_layer)
    assert isinstance(layer, nn.Conv2d)
    drawn = pairs.redrawn(seed=SOLVE_SEED, length=SOLVE_BATCHES * recipe.batch)

    def solution() -> dict[str, Tensor]:
        each = batches(drawn, ALONE.share(recipe.batch), 0, workers=0)
        if options.time_limit is not None:
            each = within(SOLVE_SHARE * options.time_limit, each, options.now)
        solve_last_layer(state.average, layer, each)
        return {name: tensor.cpu() for name, tensor in layer.state_dict().items()}

    layer.load_state_dict(options.processes.from_first(solution))
    state.network.load_state_dict(state.average.state_dict())


def within(seconds: float, items: Iterable[T], now: Callable[[], float]) -> Iterator[T]:
    """Yield items until the time is over, at least one."""
    end = now() + seconds
    for item in items:
        yield item
        if now() >= end:
            return


def load_source(
    recipe: RestorationRecipe, source: Source
) -> tuple[RestorationRecipe, list[Photo], list[Photo]]:
    """Return (recipe, training, validation).

    Pairs of the user are not changed: the recipe neither degrades nor resizes them.
    Raises UsageError for a recipe that needs no pairs; also the errors of load_photos, load_pairs.
    """
    if isinstance(source, Path):
        photos = load_photos(source, grey=recipe.grey, is_usable=recipe.is_usable)
        return recipe, [*photos[0]], [*photos[1]]
    if not recipe.paired:
        raise UsageError(
            f"this preset of {recipe.arch} trains on noisy photographs only",
            hint="use --data, or a preset that trains on pairs: cbsn --preset camera",
        )
    pairs = load_pairs(*source, scale=recipe.scale, grey=recipe.grey)
    recipe = replace(recipe, degrade=unchanged, zooms=(1.0,), is_usable=None)
    return recipe, [*pairs[0]], [*pairs[1]]


def train_restoration(
    recipe: RestorationRecipe,
    source: Source,
    options: TrainingOptions,
    *,
    workers: int | None = None,
) -> Path:
    """Train by `recipe` on the images of `source`; return the path of the best weights.

    source: a folder of photographs, or (degraded, clean) folders of pairs. workers: processes that
    make pairs; None: by the device. Where a time limit is given without steps, the learning rate
    follows the time. Raises the errors of start_budget, open_state, load_source and run_training.
    """
    budget = start_budget(recipe, options)
    if budget.steps is None:
        recipe = replace(recipe, schedule=BY_CLOCK)
    torch.manual_seed(options.seed)
    device, bf16, processes = options.device, options.bf16, options.processes
    unit = JOINT if recipe.preprocessing is standardized_jointly else 1
    share = processes.share(recipe.batch, unit)
    state = open_restoration(recipe, options, budget)
    if processes.count > 1:
        share_batches(state.network, share)
    recipe, training, validation = load_source(recipe, source)
    held_out = validation_pairs(recipe, validation)
    pairs = training_pairs(recipe, training, options.seed)
    workers = worker_count(device) if workers is None else workers
    if workers and isinstance(pairs, Pairs):
        pairs.prepare()

    def batch_loss(progress: float) -> Tensor:
        torch.manual_seed(options.seed * 1_000_003 + state.step)  # of the layers that draw
        return loss_of(state, recipe, progress, next(drawn), share, bf16=bf16)

    def validate() -> Validation:
        solve(state, recipe, pairs, options)
        scores = mean_scores(recipe, state.average, held_out, device, processes)
        loss = scores.get("validation_loss")
        named = {
            f"validation_{name.removeprefix('validation_')}": value
            for name, value in scores.items()
        }
        record = {"loss": recipe.loss, **named}
        return Validation(scores, record, scores["psnr"] if loss is None else -loss)

    with cudnn_benchmark(device):
        record_steps(recipe, state, share, bf16=bf16)
        # After the recording, which a thread that pins memory would disturb.
        drawn = batches(pairs, share, state.step, workers, pinned=device.type == "cuda")
        began = budget.now()
        if state.step == 0:
            solve(state, recipe, pairs, options)
        if options.time_limit is not None:
            solving = budget.now() - began
            pairs_each = len(held_out[:: processes.count])  # at most, of a process
            budget.validation = solving + pairs_each * seconds_per_pair(
                recipe, state, held_out, budget.now
            )
        return run_training(recipe, state, options, budget, batch_loss, validate)


def seconds_per_pair(
    recipe: RestorationRecipe,
    state: State,
    held_out: Sequence[tuple[Tensor, Tensor]],
    now: Callable[[], float],
) -> float:
    """Estimate the time to score a pair by the first one, whose first run is slower."""
    for _ in range(2):
        began = now()
        mean_scores(recipe, state.average, held_out[:1], state.device)
    return now() - began
