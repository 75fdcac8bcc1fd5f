"""SOAP: Adam along the eigenvectors of the gradient covariance of each layer.

Neighbouring pixels are nearly equal, and so are their features: the loss is steep along a few
directions and flat along most, each of them a mixture of all weights of a convolution. Adam has
one rate for each weight and is slow along the flat directions. SOAP rotates the gradient into the
eigenvectors of its own covariance and runs Adam there.

Vyas et al., SOAP: Improving and Stabilizing Shampoo using Adam, ICLR 2025 (arXiv 2409.11321).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-8
EARLY = (10, 20, 40, 70)  # steps at which the directions are updated whatever the interval
MATRICES = ("mean", "square", "left", "right", "left_covariance", "right_covariance")


class SOAP(torch.optim.Optimizer):
    """Algorithm 3 of the paper, for layers whose sides are some hundreds.

    A weight (out, ...) is treated as a matrix (out, all the rest), a vector as one column. A side
    of n costs n^3 operations whenever its directions are updated. The first step initializes the
    covariances and leaves the weights unchanged.
    Layers of one shape are processed together, as a batch of matrices. The state of each parameter
    is a view of that of its batch, so states are saved and loaded parameter by parameter.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 3e-3,
        *,
        decay: float = 0.95,
        every: int = 10,
    ):
        """decay: of all averages. every: interval of the updates of the directions, in steps."""
        super().__init__(params, {"lr": lr, "decay": decay, "every": every})
        self._stacked: dict[tuple[int, ...], dict[str, Tensor]] = {}  # by the ids of a batch

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state. Raises ValueError for that of another kind of optimizer."""
        for state in state_dict["state"].values():
            if not {"step", *MATRICES} <= state.keys():
                raise ValueError("not a state of SOAP")
        # The interval is a setting of this training, not of the one that wrote the state.
        intervals = [group["every"] for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, every in zip(self.param_groups, intervals, strict=True):
            group["every"] = every
        self._stacked = {}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameters in self._grouped(group["params"]):
                gradients = torch.stack([_matrix(p.grad) for p in parameters if p.grad is not None])
                if parameters[0] in self.state:
                    self._update(parameters, gradients, group)
                else:
                    self._store(parameters, _begin(gradients, group["decay"]), step=0)

    def _grouped(self, parameters: Iterable[Tensor]) -> list[tuple[Tensor, ...]]:
        """Return the parameters that have a gradient, grouped by shape and by number of steps."""
        batches: dict[tuple[int, ...], list[Tensor]] = {}
        for p in parameters:
            if p.grad is not None:
                age = self.state[p]["step"] if p in self.state else -1
                batches.setdefault((*_matrix(p).shape, age), []).append(p)
        return [tuple(batch) for batch in batches.values()]

    def _update(
        self, parameters: tuple[Tensor, ...], gradients: Tensor, group: dict[str, Any]
    ) -> None:
        stacked = self._stacked.get(tuple(map(id, parameters)))
        step = self.state[parameters[0]]["step"] + 1
        if stacked is None:  # after loading, or if other layers had a gradient in the last step
            matrices = [[self.state[p][name] for p in parameters] for name in MATRICES]
            stacked = dict(zip(MATRICES, map(torch.stack, matrices), strict=True))
            self._store(parameters, stacked, step)
        for p in parameters:
            self.state[p]["step"] = step
        changes = _update_averages(stacked, gradients, group["decay"], step)
        for p, change in zip(parameters, changes, strict=True):
            p.sub_(change.reshape(p.shape), alpha=group["lr"])
        if step % group["every"] == 0 or step in EARLY:
            _update_directions(stacked)

    def _store(self, parameters: tuple[Tensor, ...], stacked: dict[str, Tensor], step: int) -> None:
        """Store the state of a batch, and a view of it for each of its parameters."""
        members = tuple(map(id, parameters))
        others = {ids: s for ids, s in self._stacked.items() if set(ids).isdisjoint(members)}
        self._stacked = others | {members: stacked}
        for index, p in enumerate(parameters):
            self.state[p] = {"step": step, **{name: stacked[name][index] for name in MATRICES}}


def _matrix(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1)


def _begin(gradients: Tensor, decay: float) -> dict[str, Tensor]:
    """Return the state after the first gradients (layers, rows, columns)."""
    state = {
        "mean": torch.zeros_like(gradients),
        "square": torch.zeros_like(gradients),  # mean square, in coordinates of the directions
    }
    for side, products in _products(gradients).items():
        state[f"{side}_covariance"] = (1 - decay) * products
        # In float64: with fewer gradients than directions, float32 does not always converge.
        vectors = torch.linalg.eigh(products.cpu().double()).eigenvectors
        state[side] = vectors.to(products).contiguous()
    return state


def _update_averages(
    state: dict[str, Tensor], gradients: Tensor, decay: float, step: int
) -> Tensor:
    """Update the averages by one gradient; return the update of Adam at a learning rate of 1."""
    state["mean"].lerp_(gradients, 1 - decay)
    state["square"].lerp_(_rotated(gradients, state).square(), 1 - decay)
    correction = 1 - decay**step  # both averages began at 0
    std = (state["square"] / correction).sqrt() + EPSILON
    change = _rotated(state["mean"], state) / correction / std
    change = state["left"] @ change @ state["right"].mT
    for side, products in _products(gradients).items():
        state[f"{side}_covariance"].lerp_(products, 1 - decay)
    return change


def _products(gradients: Tensor) -> dict[str, Tensor]:
    return {"left": gradients @ gradients.mT, "right": gradients.mT @ gradients}


def _rotated(matrices: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Return the coordinates of `matrices` along the directions."""
    return state["left"].mT @ matrices @ state["right"]


def _update_directions(state: dict[str, Tensor]) -> None:
    """One step of power iteration towards the eigenvectors of both covariances (algorithm 4).

    On the CPU, since not every device has the decomposition. In place, since parameters hold views.
    """
    for axis, side in ((-2, "left"), (-1, "right")):
        stretched = state[f"{side}_covariance"] @ state[side]
        order = (state[side] * stretched).sum(-2).argsort(dim=-1, descending=True)  # (layers, n)
        stretched = torch.take_along_dim(stretched, order[:, None, :], dim=-1)
        state[side].copy_(torch.linalg.qr(stretched.cpu()).Q)
        along = order.unsqueeze(-1 if axis == -2 else -2)
        state["square"].copy_(torch.take_along_dim(state["square"], along, dim=axis))


# For a GPU, whose steps are too short to update the directions of each layer at every tenth.
INFREQUENT_SOAP = partial(SOAP, every=100)
