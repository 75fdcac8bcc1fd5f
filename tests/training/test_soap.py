"""SOAP."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from restore_cli.training.soap import SOAP

SIDE = 24


def stiff_loss(layer: nn.Module) -> Tensor:
    """Loss of a regression on nearly equal inputs, such as neighbouring pixels."""
    draws = torch.Generator().manual_seed(0)
    common = torch.randn(256, 1, generator=draws)
    inputs = common + 0.03 * torch.randn(256, SIDE, generator=draws)
    target = inputs @ torch.randn(SIDE, SIDE, generator=draws)
    loss: Tensor = (layer(inputs) - target).square().mean()
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
    image = torch.rand(1, 3, 8, 8)
    layer(image).square().mean().backward()
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
    """A layer of 288 inputs, of which all but a few are zero."""
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


def layer_by_layer(weights: list[Tensor], gradients: list[list[Tensor]], every: int) -> None:
    """Algorithm 3 of the paper on one matrix after the other, all of it written out."""
    decay = 0.95
    for weight, seen in zip(weights, gradients, strict=True):
        first = seen[0]
        left_covariance, right_covariance = 0.05 * first @ first.T, 0.05 * first.T @ first
        left = torch.linalg.eigh((first @ first.T).double()).eigenvectors.float()
        right = torch.linalg.eigh((first.T @ first).double()).eigenvectors.float()
        mean, square = torch.zeros_like(first), torch.zeros_like(first)
        for step, gradient in enumerate(seen[1:], start=1):
            mean = decay * mean + (1 - decay) * gradient
            square = decay * square + (1 - decay) * (left.T @ gradient @ right) ** 2
            seen_share = 1 - decay**step
            change = (left.T @ mean @ right) / seen_share / ((square / seen_share).sqrt() + 1e-8)
            weight -= 0.01 * left @ change @ right.T
            left_covariance = decay * left_covariance + (1 - decay) * gradient @ gradient.T
            right_covariance = decay * right_covariance + (1 - decay) * gradient.T @ gradient
            if step % every == 0 or step in (10, 20, 40, 70):
                left, order = renewed(left_covariance, left)
                square = square[order]
                right, order = renewed(right_covariance, right)
                square = square[:, order]


def renewed(covariance: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    stretched = covariance @ vectors
    order = (vectors * stretched).sum(0).argsort(descending=True)
    return torch.linalg.qr(stretched[:, order]).Q, order


@pytest.mark.parametrize("every", [10, 25, 100])
def test_layers_of_one_shape_together_are_stepped_as_each_alone(every: int) -> None:
    draws = torch.Generator().manual_seed(0)
    # Nearly square, so that the first gradient has a direction for each row and column; where it
    # has none, the directions are arbitrary.
    shapes = [(6, 6), (4, 4), (6, 6), (6, 6)]
    mixing = [torch.randn(rows, rows, generator=draws) for rows, _ in shapes]
    gradients = [
        [mix @ torch.randn(shape, generator=draws) for _ in range(91)]
        for mix, shape in zip(mixing, shapes, strict=True)
    ]
    together = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    optimizer = SOAP(together, lr=0.01, every=every)
    for seen in zip(*gradients, strict=True):
        for weight, gradient in zip(together, seen, strict=True):
            weight.grad = gradient
        optimizer.step()
    alone = [torch.zeros(shape) for shape in shapes]
    layer_by_layer(alone, gradients, every)
    for weight, expected in zip(together, alone, strict=True):
        assert_close(weight.detach(), expected, atol=1e-4, rtol=1e-3)  # float32, 90 steps


def test_layers_that_learn_later_or_not_at_every_step_keep_their_own_state() -> None:
    """Parameters of one shape, of which one has no gradient in some steps."""
    draws = torch.Generator().manual_seed(0)
    steady, other, alone = (nn.Parameter(torch.zeros(5, 5)) for _ in range(3))
    together, separate = SOAP([steady, other], lr=0.01), SOAP([alone], lr=0.01)
    for step in range(40):
        steady.grad = torch.randn(5, 5, generator=draws)
        gradient = torch.randn(5, 5, generator=draws) if step % 3 else None
        other.grad, alone.grad = gradient, None if gradient is None else gradient.clone()
        together.step()
        if gradient is not None:
            separate.step()
    assert_close(other.detach(), alone.detach(), atol=1e-5, rtol=1e-4)
    assert together.state[other]["step"] == separate.state[alone]["step"]


def test_a_state_with_separate_matrices_is_loaded() -> None:
    """Older states have separate matrices for each parameter."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(SIDE, SIDE), nn.Linear(SIDE, SIDE))
    optimizer = SOAP(network.parameters())
    descend(network, optimizer, 12)
    saved = optimizer.state_dict()
    for state in saved["state"].values():
        state.update({name: value.clone() for name, value in state.items() if name != "step"})
        assert state["left"].shape in ((SIDE, SIDE), (1, 1))
    resumed = copy.deepcopy(network)
    other = SOAP(resumed.parameters())
    other.load_state_dict(copy.deepcopy(saved))
    descend(network, optimizer, 12)
    descend(resumed, other, 12)
    assert_close(list(resumed.parameters()), list(network.parameters()), atol=0, rtol=0)


def test_a_resumed_training_renews_directions_as_it_chooses_itself() -> None:
    layer = nn.Linear(SIDE, SIDE)
    optimizer = SOAP(layer.parameters(), every=10)
    descend(layer, optimizer, 3)
    other = SOAP(layer.parameters(), every=100)
    other.load_state_dict(optimizer.state_dict())
    assert [group["every"] for group in other.param_groups] == [100]
