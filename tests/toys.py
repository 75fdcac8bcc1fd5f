"""Small networks without weight files, as checkpoints that a Restorer takes."""

from pathlib import Path

from restore_cli.checkpoints.load import Checkpoint
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import Restorer
from restore_cli.networks.facts import Facts, Rgb
from restore_cli.registry import Configured


def toy_facts(radius, **changes):
    """Facts of an RGB network that is tiled exactly, unless `changes` say otherwise."""
    known = {"overlap": (radius or 0) // 2, "bytes_per_pixel": 1200, "tiling": "exact"}
    return Facts(receptive_radius=radius, **known | {"preprocessing": Rgb()} | changes)


def restorer_of(network, facts, *, precision="fp32", **options):
    spec = Configured("toy", ("derain",), facts)
    checkpoint = Checkpoint("toy", Path("toy"), "", spec, network.eval())
    return Restorer(checkpoint, RunOptions(device="cpu", precision=precision, **options))
