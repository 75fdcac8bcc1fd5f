"""SOAP."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import Tensor, nn

from restore_cli.training.soap import SOAP

SIDE = 24


def stiff_loss(layer: nn.Module) -> Tensor:
    """Of a regression on inputs that are nearly equal, as neighbouring pixels are."""
    draws = torch.Generator().manual_seed(0)
    common = torch.randn(256, 1, generator=draws)
    inputs = common + 0.03 * torch.randn(256, SIDE, generator=draws)
    wanted = inputs @ torch.randn(SIDE, SIDE, generator=draws)
    loss: Tensor = (layer(inputs) - wanted).square().mean()
    return loss


def descend(layer: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> float:
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / steps)
        optimizer.zero_grad()
        stiff_loss(layer).backward()
        optimizer.step()
    return stiff_loss(layer).item()


def test_a_stiff_problem_is_solved_where_adam_creeps() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(SIDE, SIDE)
    other = copy.deepcopy(layer)
    by_adam = descend(other, torch.optim.Adam(other.parameters()), 200)
    assert descend(layer, SOAP(layer.parameters()), 200) < by_adam / 10


def test_the_first_step_only_looks() -> None:
    layer = nn.Conv2d(3, 4, 3)
    before = copy.deepcopy(layer.state_dict())
    optimizer = SOAP(layer.parameters(), lr=0.1)
    picture = torch.rand(1, 3, 8, 8)
    layer(picture).square().mean().backward()
    optimizer.step()
    for name, kept in layer.state_dict().items():
        assert torch.equal(kept, before[name])
    optimizer.step()
    for name, moved in layer.state_dict().items():
        assert not torch.equal(moved, before[name])


def test_a_state_that_was_saved_goes_on_as_the_one_that_was_not() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(SIDE, SIDE)
    optimizer = SOAP(layer.parameters())
    descend(layer, optimizer, 25)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed = copy.deepcopy(layer)
    other = SOAP(resumed.parameters())
    other.load_state_dict(torch.load(file, weights_only=True))
    descend(layer, optimizer, 25)
    descend(resumed, other, 25)
    assert torch.equal(layer.weight, resumed.weight)


def test_it_finds_the_eigenvectors_of_the_gradients() -> None:
    """With gradients of fixed covariance the directions make that covariance diagonal."""
    draws = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 6, generator=draws)
    weight = nn.Parameter(torch.zeros(6, 300))
    optimizer = SOAP([weight], lr=0.0, decay=0.999, every=1)
    for _ in range(200):
        weight.grad = mixing @ torch.randn(6, 300, generator=draws)
        optimizer.step()
    left = optimizer.state[weight]["left"]
    turned = left.T @ (mixing @ mixing.T) @ left
    assert (turned - turned.diag().diag()).abs().max() < 0.02 * turned.diag().max()


def test_the_state_of_another_optimizer_is_refused() -> None:
    layer = nn.Linear(SIDE, SIDE)
    adam = torch.optim.Adam(layer.parameters())
    descend(layer, adam, 1)
    with pytest.raises(ValueError, match="not a state of SOAP"):
        SOAP(layer.parameters()).load_state_dict(adam.state_dict())


def test_gradients_of_few_directions_are_no_obstacle() -> None:
    """Of a layer of 288 inputs, as where all but a few of its features are zero."""
    draws = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.zeros(32, 288))
    optimizer = SOAP([weight], lr=0.1, every=1)
    for _ in range(3):
        few = torch.zeros(32, 288)
        few[:2, :3] = 1e-5 * torch.randn(2, 3, generator=draws)
        weight.grad = few
        optimizer.step()
    assert weight.isfinite().all()
    assert weight[:2, :3].abs().min() > 0
    assert weight[2:].abs().max() < 1e-3
