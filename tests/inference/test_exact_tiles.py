"""Exact tiles equal the whole image, or are refused: never silently something else."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from restore_cli import registry
from restore_cli.checkpoints.load import Checkpoint
from restore_cli.errors import UsageError
from restore_cli.inference.restorer import Restorer, RunOptions


class ToyNetwork(nn.Module):
    """A 5x5 convolution and a global mean that is not one of ours."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 5, padding=2, padding_mode="reflect")
        nn.init.constant_(self.conv.weight, 1 / 75)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x):
        return 0.9 * self.conv(x) + 0.1 * x.mean((-2, -1), keepdim=True)


def toy_restorer(**options):
    spec = replace(registry.MODELS["mirnet"], arch="toy", multiple=1)
    checkpoint = Checkpoint("toy", Path("toy"), "", spec, ToyNetwork().eval())
    return Restorer(checkpoint, RunOptions(device="cpu", precision="fp32", **options))


def test_default_tiles_stay_close_to_the_whole_image():
    # Statistics that hardly differ from tile to tile, as in a photograph of fine texture.
    pixels = 0.5 + 0.02 * torch.rand(3, 150, 200)
    whole, tiled = (toy_restorer(tile=tile).run(pixels) for tile in ("off", 64))
    assert (whole - tiled).abs().max() < 0.002


def test_exact_tiles_are_refused_where_global_operations_cannot_be_shared():
    with pytest.raises(UsageError, match="toy has global operations") as refused:
        toy_restorer(tile=64, exact=True)
    assert "--tile off" in refused.value.hint
