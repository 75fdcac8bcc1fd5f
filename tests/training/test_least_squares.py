import pytest
import torch
from torch import nn
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.training.least_squares import solve_last_layer


@pytest.fixture
def teacher():
    """A small network with strong features."""
    network = registry.build("espcn", scale=2, features=6, mapping=4)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network


def pairs_of(network, count=6):
    for _ in range(count):
        low = torch.rand(4, 1, 12, 10)
        with torch.no_grad():
            yield low, network(low)


def test_the_layer_that_made_the_targets_is_found_again(teacher):
    student = registry.build("espcn", scale=2, features=6, mapping=4)
    student.load_state_dict(teacher.state_dict())
    nn.init.zeros_(student.subpixel.weight)
    nn.init.zeros_(student.subpixel.bias)
    solve_last_layer(student, student.subpixel, pairs_of(teacher))
    assert_close(student.state_dict(), teacher.state_dict(), atol=1e-3, rtol=0)  # the ridge


def test_no_step_away_from_the_solution_lowers_the_error(teacher):
    student = registry.build("espcn", scale=2, features=6, mapping=4)
    pairs = list(pairs_of(teacher))
    solve_last_layer(student, student.subpixel, pairs)

    def error():
        return sum((student(low) - high).square().mean() for low, high in pairs)

    least = error()
    least.backward()
    slopes = [student.subpixel.weight.grad.abs().max(), student.subpixel.bias.grad.abs()]
    assert max(float(slope.max()) for slope in slopes) < 1e-3
    with torch.no_grad():
        student.subpixel.weight.add_(0.05 * torch.randn_like(student.subpixel.weight))
        assert error() > least


def test_only_the_last_layer_changes(teacher):
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    other = registry.build("espcn", scale=2, features=6, mapping=4)
    solve_last_layer(teacher, teacher.subpixel, pairs_of(other))
    changed = {key for key, value in teacher.state_dict().items() if not value.equal(before[key])}
    assert changed == {"subpixel.weight", "subpixel.bias"}
