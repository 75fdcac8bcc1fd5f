"""Adaptation of C-BSN to the photographs that it is to denoise, none of them clean.

The self-supervised training continues from weights that suit any camera. Some crops are held out:
new weights are kept only if their loss there is lower than that of the initial ones.
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
from restore_cli.errors import NothingToDo, UsageError
from restore_cli.files import sha256_of, write_atomically
from restore_cli.imaging.orientations import turned
from restore_cli.inference.device import low_precisions
from restore_cli.inference.preprocessing import channel_statistics
from restore_cli.networks.cbsn.model import CBSN
from restore_cli.training.processes import ALONE
from restore_cli.training.recipes.cbsn import ADAPT
from restore_cli.training.restoration import loss_of, mean_scores, optimizer_of
from restore_cli.training.schedule import Budget
from restore_cli.training.trainer import State, take_steps

MOST_TRAINED, MOST_HELD_OUT = 240, 16  # crops
FEWEST = 4  # crops
HELD_OUT_EVERY = 5  # crops


@dataclass(frozen=True)
class Adapted:
    """Network with the lowest loss on the held-out crops."""

    network: CBSN  # in eval mode, on the CPU
    steps: int
    before: float  # loss of the initial weights on the held-out crops
    after: float  # loss of the kept weights
    seconds: float
    interrupt: KeyboardInterrupt | None  # that ended the training early

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

    now: the clock. on_progress: called with the seconds that have passed. An interruption (Ctrl-C)
    ends the training; the best weights so far are returned.
    Raises UsageError for another network, NothingToDo where the photographs are too small.
    """
    if not isinstance(network, CBSN):
        raise UsageError("only C-BSN can be adapted: it has a blind mode", hint="add --model cbsn")
    budget = Budget(None, seconds, ADAPT.validate_every, now(), now)
    draws = Generator().manual_seed(seed)
    bf16 = _uses_bfloat16(network, device)
    training, held_out = split(crops_of(photos, draws))
    pairs = [(crop, crop) for crop in held_out]
    state = State.create(
        copy.deepcopy(network), lambda net: optimizer_of(ADAPT, net), device, torch.channels_last
    )
    best: CBSN = copy.deepcopy(network)
    batches, share = batches_of(training, draws), ALONE.share(ADAPT.batch)

    def held_out_loss() -> float:
        return mean_scores(ADAPT, state.average, pairs, device)["validation_loss"]

    def batch_loss(progress: float) -> Tensor:
        return loss_of(state, ADAPT, progress, next(batches), share, bf16=bf16)

    def keep_the_best(_: float) -> None:
        if state.improves(-held_out_loss()):
            best.load_state_dict(state.average.state_dict())
        on_progress(budget.elapsed)

    began = now()
    before = held_out_loss()
    state.improves(-before)
    budget.validated(began)
    interrupt: KeyboardInterrupt | None = None
    try:
        take_steps(
            state,
            ADAPT,
            budget,
            batch_loss,
            keep_the_best,
            lambda progress: on_progress(progress.seconds),
        )
    except KeyboardInterrupt as signal:
        interrupt = signal
    return Adapted(best.cpu().eval(), state.step, before, -state.best, budget.elapsed, interrupt)


def as_checkpoint(start: Checkpoint, result: Adapted, path: Path | None) -> Checkpoint:
    """Return the adapted weights as a checkpoint, written to `path` if there is one.

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
    """Return crops of the patch size, standardized by their whole photograph, in random order.

    Crops lie side by side. Of all photographs, as many are kept as fit into memory, each with the
    same probability.
    """
    capacity, side = MOST_TRAINED + MOST_HELD_OUT, ADAPT.patch
    kept: list[Tensor] = []
    seen = 0
    for photo in photos:
        mean, std = channel_statistics(photo.expand(3, -1, -1)[None])
        for top, left in _positions(*photo.shape[-2:]):
            seen += 1
            slot = len(kept) if seen <= capacity else int(torch.randint(seen, (), generator=draws))
            if slot < capacity:
                crop = photo[:, top : top + side, left : left + side].expand(3, -1, -1)
                kept[slot : slot + 1] = [((crop - mean[0]) / std[0]).contiguous()]
    return [kept[index] for index in torch.randperm(len(kept), generator=draws).tolist()]


def split(crops: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return (training, held out). Raises NothingToDo where there are too few crops."""
    if len(crops) < FEWEST:
        raise NothingToDo(
            f"only {len(crops)} areas of {ADAPT.patch}x{ADAPT.patch} pixels to adapt to, "
            f"at least {FEWEST} are needed",
            hint="leave --adapt out, or name more photographs of the same camera",
        )
    count = min(MOST_HELD_OUT, -(-len(crops) // HELD_OUT_EVERY))
    return list(crops[count:]), list(crops[:count])


def batches_of(crops: Sequence[Tensor], draws: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield random batches (noisy, noisy) without end, each crop randomly rotated and flipped."""
    while True:
        chosen = torch.randint(len(crops), (ADAPT.batch,), generator=draws).tolist()
        turns = torch.randint(8, (ADAPT.batch,), generator=draws).tolist()
        batch = torch.stack([turned(crops[c], turn) for c, turn in zip(chosen, turns, strict=True)])
        yield batch, batch


def _positions(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield top and left of a centred grid of crops."""
    side = ADAPT.patch
    for top in range(height % side // 2, height - side + 1, side):
        for left in range(width % side // 2, width - side + 1, side):
            yield top, left


def _uses_bfloat16(network: CBSN, device: torch.device) -> bool:
    """Return True if the device is fast in bfloat16 and 16 divides the channels: recipes.cbsn."""
    return "bf16" in low_precisions(device) and network.config.channels % 16 == 0
