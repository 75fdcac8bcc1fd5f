"""C-BSN learns from the very photographs that it is to denoise, none of them clean.

Its self-supervised training goes on from weights that suit any camera, by the same loop as all
training. Some crops are held out: only weights that do better on them than those it began with
are taken.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from restore_cli.checkpoints.load import Checkpoint
from restore_cli.checkpoints.save import encoded
from restore_cli.data.degrade import nothing
from restore_cli.data.pairs import turned
from restore_cli.errors import NothingToDo, UsageError
from restore_cli.files import sha256_of, write_atomically
from restore_cli.inference.device import fastest_low_precision
from restore_cli.networks.cbsn.model import CBSN
from restore_cli.training.objectives import self_supervised_on, statistics
from restore_cli.training.recipes import Recipe
from restore_cli.training.restoration import batch_loss, held_out_loss, parameter_groups
from restore_cli.training.schedule import BY_CLOCK, Budget
from restore_cli.training.trainer import State, take_steps

PATCH = 120  # pixels, the paper's; a multiple of both strides
MOST_TRAINED, MOST_HELD_OUT = 240, 16  # crops
FEWEST = 4  # crops
HELD_OUT_EVERY = 5  # crops

ADAPT = Recipe(
    arch="cbsn",
    degrade=nothing,
    loss="l1",
    patch=PATCH,
    batch=2,
    steps=1_000,  # not followed: the clock ends it
    learning_rate=1e-4,  # the paper's
    schedule=BY_CLOCK,
    ema=0.99,  # there are hundreds of steps, not thousands
    loss_step=self_supervised_on,
    paired=False,
)


@dataclass(frozen=True)
class Adapted:
    """The network with the least loss on the crops that were held out."""

    network: CBSN  # in eval mode, on the CPU
    steps: int  # taken in all
    before: float  # loss on the held-out crops with the weights that it began with
    after: float  # and with those that are kept
    seconds: float
    interrupt: KeyboardInterrupt | None  # what ended the training early

    @property
    def helped(self) -> bool:
        return self.after < self.before


def adapt(
    network: nn.Module,
    photos: Iterable[Tensor],
    *,
    seconds: float,
    device: torch.device,
    seed: int = 0,
    now: Callable[[], float] = time.monotonic,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Adapted:
    """Train a C-BSN on noisy photographs, (1 or 3, H, W) in [0, 1], for so many seconds in all.

    now: the clock. on_progress: gets the seconds that have gone by. An interruption (Ctrl-C) ends
    the training, not the function: what was best by then comes back with it.
    Raises UsageError for a network of another kind, NothingToDo where the photographs are too small
    to learn from.
    """
    if not isinstance(network, CBSN):
        raise UsageError("only C-BSN adapts: others have no blind mode", hint="add --model cbsn")
    budget = Budget(None, seconds, ADAPT.validate_every, now(), now)
    draws = Generator().manual_seed(seed)
    bf16 = _in_bfloat16(network, device)
    training, held_out = split(crops_of(photos, draws))
    state = _state_of(network, device)
    best: CBSN = copy.deepcopy(network)
    first = now()
    before = after = _judge(ADAPT, state.average, held_out)
    budget.validated(first)
    interrupt: KeyboardInterrupt | None = None
    batches = batches_of(training, draws)

    def loss_at(progress: float) -> Tensor:
        return batch_loss(state, ADAPT, progress, *next(batches), bf16=bf16)

    def keep_the_better(_: float) -> None:
        nonlocal after
        value = _judge(ADAPT, state.average, held_out)
        if value < after:
            best.load_state_dict(state.average.state_dict())
            after = value
        on_progress(budget.elapsed)

    try:
        take_steps(
            state,
            ADAPT,
            budget,
            loss_at,
            keep_the_better,
            lambda progress: on_progress(progress.seconds),
        )
    except KeyboardInterrupt as signal:
        interrupt = signal
    return Adapted(best.cpu().eval(), state.step, before, after, budget.elapsed, interrupt)


def as_checkpoint(start: Checkpoint, result: Adapted, path: Path | None) -> Checkpoint:
    """The adapted weights as those to restore with, written to `path` if there is one.

    Raises OutputError.
    """
    name = path.stem if path else f"{start.name} (adapted)"
    data = encoded(
        result.network.state_dict(),
        name,
        arch=start.spec.arch,
        config=asdict(result.network.config),
        record={
            "adapted_from": start.name,
            "steps": result.steps,
            "seconds": round(result.seconds),
            "held_out_loss_before": result.before,
            "held_out_loss": result.after,
        },
    )
    if path is not None:
        write_atomically(path, data, overwrite=True)
    return Checkpoint(name, path or start.path, sha256_of(data), start.spec, result.network)


def crops_of(photos: Iterable[Tensor], draws: Generator) -> list[Tensor]:
    """Crops of PATCH px side by side, standardized by their whole photograph, in random order.

    Of all photographs at most so many that they fit into memory, each with the same chance.
    """
    most = MOST_TRAINED + MOST_HELD_OUT
    kept: list[Tensor] = []
    seen = 0
    for photo in photos:
        mean, deviation = statistics(photo.expand(3, -1, -1)[None])
        for top, left in _places(*photo.shape[-2:]):
            seen += 1
            slot = len(kept) if seen <= most else int(torch.randint(seen, (), generator=draws))
            if slot < most:
                crop = photo[:, top : top + PATCH, left : left + PATCH].expand(3, -1, -1)
                kept[slot : slot + 1] = [((crop - mean[0]) / deviation[0]).contiguous()]
    return [kept[index] for index in torch.randperm(len(kept), generator=draws).tolist()]


def split(crops: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """(training, held out). Raises NothingToDo where there are too few."""
    if len(crops) < FEWEST:
        raise NothingToDo(
            f"only {len(crops)} areas of {PATCH}x{PATCH} pixels to adapt to, "
            f"at least {FEWEST} are needed",
            hint="leave --adapt out, or name more photographs of the same camera",
        )
    count = min(MOST_HELD_OUT, -(-len(crops) // HELD_OUT_EVERY))
    return list(crops[count:]), list(crops[:count])


def batches_of(crops: Sequence[Tensor], draws: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Random batches without end, each crop turned at random; noisy, and noisy again."""
    while True:
        chosen = torch.randint(len(crops), (ADAPT.batch,), generator=draws).tolist()
        turns = torch.randint(8, (ADAPT.batch,), generator=draws).tolist()
        batch = torch.stack([turned(crops[c], turn) for c, turn in zip(chosen, turns, strict=True)])
        yield batch, batch


def _places(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Top and left of the crops that lie side by side, their grid in the middle."""
    for top in range(height % PATCH // 2, height - PATCH + 1, PATCH):
        for left in range(width % PATCH // 2, width - PATCH + 1, PATCH):
            yield top, left


def _in_bfloat16(network: CBSN, device: torch.device) -> bool:
    """Where the device is fast in it; 16 has to divide the channels, see training.recipes."""
    fast = fastest_low_precision(device) is torch.bfloat16
    return fast and network.config.channels % 16 == 0


def _state_of(network: nn.Module, device: torch.device) -> State:
    own = copy.deepcopy(network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(own).eval().requires_grad_(False)
    return State(own.train(), average, torch.optim.Adam(parameter_groups(ADAPT, own)))


def _judge(recipe: Recipe, network: nn.Module, crops: Sequence[Tensor]) -> float:
    device = next(network.parameters()).device
    with torch.inference_mode():
        losses = [
            held_out_loss(recipe, network, crop[None].to(device), crop[None].to(device))
            for crop in crops
        ]
    return sum(loss["validation_loss"] for loss in losses) / len(losses)
