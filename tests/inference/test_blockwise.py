import pytest
import torch
from torch import nn
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.inference.blockwise import BlockwiseSequential, blockwise
from restore_cli.networks.dpenet.model import DDRB, ERPAB


@pytest.mark.parametrize("block", [DDRB, ERPAB])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (7, 50), (41, 30)])
def test_a_chain_in_pieces_equals_the_chain(block, count, size):
    chain = nn.Sequential(*(block(32) for _ in range(count))).eval().requires_grad_(False)
    x = torch.rand(1, 32, *size)
    expected = chain(x)
    assert_close(
        BlockwiseSequential(chain, side=20)(x), expected, atol=1e-6, rtol=0
    )  # float32 sum order


@pytest.mark.parametrize("block", [DDRB, ERPAB])
def test_a_block_names_exactly_how_far_it_sees(block):
    one_sign = block(32)
    for parameter in one_sign.parameters():  # so that no ReLU is off
        nn.init.constant_(parameter, 0.01)
    x = torch.rand(1, 32, 1, 61, requires_grad=True)
    one_sign(x)[..., 30].sum().backward()
    felt = x.grad.abs().sum((0, 1, 2)).nonzero().flatten()
    assert (felt.min(), felt.max()) == (30 - block.radius, 30 + block.radius)


def test_a_network_in_pieces_equals_the_network():
    network = registry.build("dpenet").eval().requires_grad_(False)
    rainy = torch.rand(1, 3, 50, 70)
    assert_close(blockwise(network, side=32)(rainy), network(rainy), atol=1e-5, rtol=0)


def test_the_network_that_was_given_stays_as_it_was():
    network = registry.build("dpenet")
    names = set(network.state_dict())
    blockwise(network)
    assert set(network.state_dict()) == names


def test_a_network_without_local_blocks_comes_back_as_it_is():
    network = nn.Sequential(nn.Conv2d(3, 3, 3))
    assert blockwise(network) is network
