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


class SOAP(torch.optim.Optimizer):
    """Algorithm 3 of the paper, for layers whose sides are some hundreds.

    A weight (out, ...) counts as a matrix (out, all the rest), a vector as one column. A side of n
    costs n^3 operations whenever its directions are found anew. The first step only sees where the
    gradients go; it leaves the weights as they are.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 3e-3,
        *,
        decay: float = 0.95,
        every: int = 10,
    ):
        """decay: of all averages, each step. every: so many steps the directions are found anew."""
        super().__init__(params, {"lr": lr, "decay": decay, "every": every})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises ValueError for the state of another kind of optimizer."""
        if any("left" not in state for state in state_dict["state"].values()):
            raise ValueError("not a state of SOAP")
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    gradient = parameter.grad.reshape(len(parameter), -1)
                    state = self.state[parameter]
                    if state:
                        change = _take_in(state, gradient, group["decay"], group["every"])
                        parameter.sub_(group["lr"] * change.reshape(parameter.shape))
                    else:
                        state.update(_begin(gradient, group["decay"]))


def _begin(gradient: Tensor, decay: float) -> dict[str, Any]:
    state: dict[str, Any] = {
        "step": 0,
        "mean": torch.zeros_like(gradient),  # of the gradients
        "square": torch.zeros_like(gradient),  # of their coordinates along the directions
    }
    for side, products in _products(gradient).items():
        state[f"{side}_covariance"] = (1 - decay) * products
        # In float64: with fewer gradients than directions, float32 does not always converge.
        vectors = torch.linalg.eigh(products.cpu().double()).eigenvectors
        state[side] = vectors.to(products)
    return state


def _take_in(state: dict[str, Any], gradient: Tensor, decay: float, every: int) -> Tensor:
    """The step against one more gradient, as Adam with a rate of 1 would take it."""
    state["step"] += 1
    state["mean"].lerp_(gradient, 1 - decay)
    state["square"].lerp_(_turned(gradient, state).square(), 1 - decay)
    seen = 1 - decay ** state["step"]  # both averages began at 0
    deviation = (state["square"] / seen).sqrt() + EPSILON
    change: Tensor = _turned(state["mean"], state) / seen / deviation
    change = state["left"] @ change @ state["right"].T
    for side, products in _products(gradient).items():
        state[f"{side}_covariance"].lerp_(products, 1 - decay)
    if state["step"] % every == 0:
        _find_directions(state)
    return change


def _products(gradient: Tensor) -> dict[str, Tensor]:
    return {"left": gradient @ gradient.T, "right": gradient.T @ gradient}


def _turned(matrix: Tensor, state: dict[str, Any]) -> Tensor:
    """The coordinates of `matrix` along the directions."""
    turned: Tensor = state["left"].T @ matrix @ state["right"]
    return turned


def _find_directions(state: dict[str, Any]) -> None:
    """One step of power iteration towards the eigenvectors of both covariances (algorithm 4).

    On the CPU: not every device has the decomposition.
    """
    for axis, side in enumerate(("left", "right")):
        stretched = state[f"{side}_covariance"] @ state[side]
        order = (state[side] * stretched).sum(0).argsort(descending=True)
        state[side] = torch.linalg.qr(stretched[:, order].cpu()).Q.to(stretched.device)
        state["square"] = state["square"].index_select(axis, order)
