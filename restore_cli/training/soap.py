"""SOAP: Adam along the directions in which the gradients of a layer vary.

Neighbouring pixels are nearly equal, and so are the features made of them: the loss is steep along
a few directions and flat along most, each of them a mixture of all weights of a convolution. Adam
has one rate for each weight and creeps along the flat ones. SOAP turns the gradient into the
eigenvectors of its own covariance and lets Adam work there.

Vyas et al., SOAP: Improving and Stabilizing Shampoo using Adam, ICLR 2025 (arXiv 2409.11321).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-8
EARLY = (10, 20, 40, 70)  # steps at which the directions are renewed whatever the interval is
MATRICES = ("mean", "square", "left", "right", "left_covariance", "right_covariance")


class SOAP(torch.optim.Optimizer):
    """Algorithm 3 of the paper, for layers whose sides are some hundreds.

    A weight (out, ...) counts as a matrix (out, all the rest), a vector as one column. A side of n
    costs n^3 operations whenever its directions are renewed. The first step only sees where the
    gradients go; it leaves the weights as they are.
    Layers of one shape are handled together, as a batch of matrices. The state of each parameter
    is a view into that of its batch, so states are saved and loaded parameter by parameter.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 3e-3,
        *,
        decay: float = 0.95,
        every: int = 10,
    ):
        """decay: of all averages, each step. every: steps after which directions are renewed."""
        super().__init__(params, {"lr": lr, "decay": decay, "every": every})
        self._stacked: dict[tuple[int, ...], dict[str, Tensor]] = {}  # by the ids of a batch

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises ValueError for the state of another kind of optimizer."""
        for state in state_dict["state"].values():
            if not {"step", *MATRICES} <= state.keys():
                raise ValueError("not a state of SOAP")
        # How often directions are renewed is this training's choice, not that of the one before.
        intervals = [group["every"] for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, every in zip(self.param_groups, intervals, strict=True):
            group["every"] = every
        self._stacked = {}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameters in self._alike(group["params"]):
                gradients = torch.stack([_matrix(p.grad) for p in parameters if p.grad is not None])
                if parameters[0] in self.state:
                    self._update(parameters, gradients, group)
                else:
                    self._store(parameters, _begin(gradients, group["decay"]), step=0)

    def _alike(self, parameters: Iterable[Tensor]) -> list[tuple[Tensor, ...]]:
        """The parameters that have a gradient, by the shape of their matrix and their age."""
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
        if stacked is None:  # loaded, or other layers had a gradient in the step before
            matrices = [[self.state[p][name] for p in parameters] for name in MATRICES]
            stacked = dict(zip(MATRICES, map(torch.stack, matrices), strict=True))
            self._store(parameters, stacked, step)
        for p in parameters:
            self.state[p]["step"] = step
        changes = _take_in(stacked, gradients, group["decay"], step)
        for p, change in zip(parameters, changes, strict=True):
            p.sub_(change.reshape(p.shape), alpha=group["lr"])
        if step % group["every"] == 0 or step in EARLY:
            _renew_directions(stacked)

    def _store(self, parameters: tuple[Tensor, ...], stacked: dict[str, Tensor], step: int) -> None:
        """Keep the state of a batch, and a view of it for each of its parameters."""
        members = tuple(map(id, parameters))
        others = {ids: s for ids, s in self._stacked.items() if set(ids).isdisjoint(members)}
        self._stacked = others | {members: stacked}
        for index, p in enumerate(parameters):
            self.state[p] = {"step": step, **{name: stacked[name][index] for name in MATRICES}}


def _matrix(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1)


def _begin(gradients: Tensor, decay: float) -> dict[str, Tensor]:
    """The state after the first gradients (layers, rows, columns)."""
    state = {
        "mean": torch.zeros_like(gradients),  # of the gradients
        "square": torch.zeros_like(gradients),  # of their coordinates along the directions
    }
    for side, products in _products(gradients).items():
        state[f"{side}_covariance"] = (1 - decay) * products
        # In float64: with fewer gradients than directions, float32 does not always converge.
        vectors = torch.linalg.eigh(products.cpu().double()).eigenvectors
        state[side] = vectors.to(products).contiguous()
    return state


def _take_in(state: dict[str, Tensor], gradients: Tensor, decay: float, step: int) -> Tensor:
    """The step against one more gradient, as Adam with a rate of 1 would take it."""
    state["mean"].lerp_(gradients, 1 - decay)
    state["square"].lerp_(_turned(gradients, state).square(), 1 - decay)
    seen = 1 - decay**step  # both averages began at 0
    std = (state["square"] / seen).sqrt() + EPSILON
    change = _turned(state["mean"], state) / seen / std
    change = state["left"] @ change @ state["right"].mT
    for side, products in _products(gradients).items():
        state[f"{side}_covariance"].lerp_(products, 1 - decay)
    return change


def _products(gradients: Tensor) -> dict[str, Tensor]:
    return {"left": gradients @ gradients.mT, "right": gradients.mT @ gradients}


def _turned(matrices: Tensor, state: dict[str, Tensor]) -> Tensor:
    """The coordinates of `matrices` along the directions."""
    return state["left"].mT @ matrices @ state["right"]


def _renew_directions(state: dict[str, Tensor]) -> None:
    """One step of power iteration towards the eigenvectors of both covariances (algorithm 4).

    On the CPU: not every device has the decomposition. In place: parameters have views of this.
    """
    for axis, side in ((-2, "left"), (-1, "right")):
        stretched = state[f"{side}_covariance"] @ state[side]
        order = (state[side] * stretched).sum(-2).argsort(dim=-1, descending=True)  # (layers, n)
        stretched = torch.take_along_dim(stretched, order[:, None, :], dim=-1)
        state[side].copy_(torch.linalg.qr(stretched.cpu()).Q)
        along = order.unsqueeze(-1 if axis == -2 else -2)
        state["square"].copy_(torch.take_along_dim(state["square"], along, dim=axis))
