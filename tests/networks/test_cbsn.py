"""What makes C-BSN blind, and for which pixels."""

import pytest
import torch
from torch.testing import assert_close

from restore_cli.networks.cbsn.model import CBSN, CBSNConfig

CENTRE = 40
SIZE = 2 * CENTRE + 1


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return CBSN(CBSNConfig(channels=6)).eval()


@pytest.fixture(scope="module")
def noisy():
    return torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def seen(network, noisy, blind):
    """How strongly the output at the centre hangs on each input pixel, (H, W)."""
    noisy = noisy.clone().requires_grad_()
    network(noisy, blind=blind)[..., CENTRE, CENTRE].sum().backward()
    return noisy.grad.abs().sum((0, 1))


def test_blind_no_pixel_sees_itself(network, noisy):
    assert seen(network, noisy, blind=True)[CENTRE, CENTRE] == 0


def test_not_blind_a_pixel_sees_itself(network, noisy):
    assert seen(network, noisy, blind=False)[CENTRE, CENTRE] > 0


@pytest.mark.parametrize("offset", [(0, 6), (6, 6), (-12, 18)])
def test_blind_no_pixel_sees_those_six_or_its_multiples_away(network, noisy, offset):
    down, across = offset
    assert seen(network, noisy, blind=True)[CENTRE + down, CENTRE + across] == 0


def test_blind_the_pixels_around_are_seen(network, noisy):
    near = seen(network, noisy, blind=True)[CENTRE - 1 : CENTRE + 2, CENTRE - 1 : CENTRE + 2]
    assert (near > 0).sum() == 8


def test_blind_a_changed_pixel_changes_no_bit_of_its_own_output(network, noisy):
    changed = noisy.clone()
    changed[..., CENTRE, CENTRE] += 100
    with torch.inference_mode():
        before, after = (network(x, blind=True)[..., CENTRE, CENTRE] for x in (noisy, changed))
    assert torch.equal(before, after)


def test_a_changed_pixel_changes_nothing_farther_than_the_radius(network, noisy):
    changed = noisy.clone()
    changed[..., CENTRE, CENTRE] += 100
    with torch.inference_mode():
        differs = (network(noisy) != network(changed)).any(1)[0].nonzero() - CENTRE
    assert differs.abs().max() == 29


def test_the_modes_differ_by_the_centre_taps_alone(network, noisy):
    same = CBSN(network.config)
    same.load_state_dict(network.state_dict())
    with torch.inference_mode():
        assert not torch.equal(same(noisy, blind=True), same(noisy))
        for branch in same.branches:
            middle = branch.look.kernel_size[0] // 2
            branch.look.weight[..., middle, middle] = 0
        assert_close(same(noisy, blind=True), same(noisy), atol=0, rtol=0)


def test_the_published_size_has_the_published_number_of_parameters():
    assert sum(parameter.numel() for parameter in CBSN().parameters()) == 3_656_131
