"""Exact tiles equal the whole image, or are refused: never silently something else."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from restore_cli.errors import UsageError
from restore_cli.networks.layers import GlobalAverage
from tests.toys import restorer_of, toy_facts


class Mean(nn.Module):
    """A 5x5 convolution and a global mean that is not one of ours."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 5, padding=2, padding_mode="reflect")
        nn.init.constant_(self.conv.weight, 1 / 75)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x):
        return 0.9 * self.conv(x) + 0.1 * x.mean((-2, -1), keepdim=True)


class Attention(nn.Module):
    """A convolution, weighed by the means of its channels over the image: no block of MIRNet."""

    radius = 2

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 5, padding=2)
        self.average = GlobalAverage()
        self.excite = nn.Conv2d(channels, channels, 1)
        nn.init.normal_(self.excite.weight, std=4)

    def forward(self, x):
        features = self.conv(x).relu()
        return x + features * self.excite(self.average(features)).sigmoid()


class Blocks(nn.Module):
    """A chain of such blocks that name their radius."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(Attention(8), Attention(8))
        self.output = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        return x + self.output(self.blocks(self.embed(x)))


class Outside(nn.Module):
    """An average outside of the block: it sees the whole image anyway."""

    def __init__(self):
        super().__init__()
        self.block, self.average = Attention(3), GlobalAverage()

    def forward(self, x):
        return self.block(x) - 0.1 * self.average(x)


class Enlarging(nn.Module):
    """One attention in low resolution and one in high; its spec knows its radius."""

    local_radius = 2 + 1 + 1  # the convolution of the second sees 2 pixels of half the size

    def __init__(self):
        super().__init__()
        self.first, self.second = Attention(3), Attention(3)
        self.enlarge = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x):
        return self.second(self.enlarge(self.first(x)))


def uneven(height, width):
    """An image that is bright on one side: each of its tiles has averages of its own."""
    return torch.rand(3, height, width) * torch.linspace(0.1, 1, width)


def whole_and_tiled(network, facts, pixels, **options):
    whole = restorer_of(network, facts, tile="off").run(pixels)
    return whole, restorer_of(network, facts, tile=64, **options).run(pixels)


ATTENTIVE = {
    "blocks": (Blocks, toy_facts(None, tiling="approximate")),
    "average outside": (Outside, toy_facts(None, tiling="approximate")),
    "whole network": (
        Enlarging,
        toy_facts(None, tiling="approximate", scale=2, local_radius=Enlarging.local_radius),
    ),
}
each_kind = pytest.mark.parametrize(("kind", "facts"), ATTENTIVE.values(), ids=ATTENTIVE)


@each_kind
@pytest.mark.parametrize("size", [(70, 150), (131, 66), (3, 129)], ids=str)
def test_tiles_that_share_averages_equal_the_whole_image(kind, facts, size):
    whole, exact = whole_and_tiled(kind(), facts, uneven(*size), exact=True)
    assert whole.std() > 0.01
    assert_close(exact, whole, atol=1e-5, rtol=0)  # float32 sum order


@each_kind
def test_tiles_that_do_not_share_them_differ(kind, facts):
    whole, tiled = whole_and_tiled(kind(), facts, uneven(70, 150))
    assert (whole - tiled).abs().max() > 1e-3


def test_a_chain_of_blocks_with_averages_is_not_taken_for_a_local_one():
    """On a CPU, chains of local blocks run piece by piece, each with averages of its own."""
    pixels = uneven(40, 500)
    network = Blocks().eval()
    with torch.inference_mode():
        plain = network(pixels[None])[0].clamp(0, 1)
    whole = restorer_of(network, ATTENTIVE["blocks"][1], tile="off").run(pixels)
    assert_close(whole, plain, atol=1e-6, rtol=0)


def test_default_tiles_stay_close_to_the_whole_image():
    # Statistics that hardly differ from tile to tile, as in a photograph of fine texture.
    pixels = 0.5 + 0.02 * torch.rand(3, 150, 200)
    facts = toy_facts(None, tiling="approximate", overlap=32)
    whole, tiled = whole_and_tiled(Mean(), facts, pixels)
    assert (whole - tiled).abs().max() < 0.002


def test_exact_tiles_are_refused_where_global_operations_cannot_be_shared():
    with pytest.raises(UsageError, match="toy may have global operations") as refused:
        restorer_of(Mean(), toy_facts(None, tiling="approximate"), tile=64, exact=True)
    assert "--tile off" in refused.value.hint
