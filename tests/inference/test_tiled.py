"""MIRNet in tiles that share the averages of the whole image."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.checkpoints.load import Checkpoint
from restore_cli.errors import BrokenOutput, OutOfMemory
from restore_cli.inference import runner
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import Restorer
from restore_cli.inference.tiled import share_statistics
from restore_cli.networks.layers import GlobalAverage
from restore_cli.networks.mirnet.model import MRB, MIRNetConfig

SMALL = {"n_feat": 8, "n_RRG": 1, "n_MSRB": 1}


def attentive(**config):
    """A random MIRNet to which the averages matter, as they do to a trained one."""
    network = registry.build("mirnet", **config).eval()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "squeeze" in name or "excite" in name or "score" in name:
                weight.mul_(8)
    return network


def restorer(network, config, **options):
    spec = registry.configured(registry.MODELS["mirnet"], config)
    checkpoint = Checkpoint("x", Path("x"), "", spec, network)
    return Restorer(checkpoint, RunOptions(device="cpu", precision="fp32", **options))


def uneven(height, width):
    """An image that is bright on one side: each of its tiles has averages of its own."""
    return torch.rand(3, height, width) * torch.linspace(0.1, 1, width)


@pytest.mark.parametrize("size", [(70, 150), (131, 66), (3, 129), (150, 1)], ids=str)
def test_tiles_that_share_averages_equal_the_whole_image(size):
    network, pixels = attentive(**SMALL), uneven(*size)
    whole = restorer(network, SMALL, tile="off").run(pixels)
    exact = restorer(network, SMALL, tile=64, exact=True)
    assert_close(exact.run(pixels), whole, atol=1e-5, rtol=0)  # float32 sum order


def test_tiles_that_do_not_share_them_differ():
    network, pixels = attentive(**SMALL), uneven(70, 150)
    whole, tiled = (restorer(network, SMALL, tile=tile).run(pixels) for tile in ("off", 64))
    assert (whole - tiled).abs().max() > 1e-3


@pytest.mark.parametrize(
    "config",
    [{"height": 2, "width": 3}, {"n_MSRB": 2}, {"width": 3}],
    ids=["two streams", "two blocks", "three columns"],
)
def test_every_shape_of_the_network_runs_in_step(config):
    config = {"n_feat": 8, "n_RRG": 1, "n_MSRB": 1, **config}
    network, pixels = attentive(**config), uneven(40, 130)
    whole = restorer(network, config, tile="off").run(pixels)
    exact = restorer(network, config, tile=64, exact=True)
    assert_close(exact.run(pixels), whole, atol=1e-5, rtol=0)


def constant(module, inputs, own):
    return torch.full_like(own, 0.1)


@pytest.mark.parametrize(
    ("height", "width"), [(2, 2), (2, 3), (3, 2), (3, 3)], ids=lambda value: str(value)
)
def test_a_block_sees_no_further_than_its_radius(height, width):
    block = MRB(MIRNetConfig(n_feat=8, height=height, width=width)).double()
    for module in block.modules():
        if isinstance(module, GlobalAverage):
            module.register_forward_hook(constant)
    for parameter in block.parameters():  # of one sign, so that nothing is switched off
        fan_in = parameter[0].numel() if parameter.dim() >= 2 else 1
        torch.nn.init.uniform_(parameter, 0.05 / fan_in, 0.15 / fan_in)
    multiple, size = 2 ** (height - 1), 256
    features = torch.rand(1, 8, multiple, size, dtype=torch.float64).requires_grad_()
    prelu = torch.nn.PReLU(dtype=torch.float64)
    seen = []
    for pixel in range(size // 2, size // 2 + multiple):
        (gradient,) = torch.autograd.grad(block(features, prelu)[..., pixel].sum(), features)
        felt = gradient.abs().amax((0, 1, 2)).nonzero().flatten()
        seen.append(max(pixel - felt.min().item(), felt.max().item() - pixel))
    assert block.radius - multiple < max(seen) <= block.radius


def test_broken_weights_end_in_an_error_and_not_in_a_loop():
    network = attentive(**SMALL)
    with torch.no_grad():
        network.embed.weight.fill_(torch.nan)
    with pytest.raises(BrokenOutput, match="NaN"):
        restorer(network, SMALL, tile=64, exact=True).run(uneven(70, 150))


def test_features_that_do_not_fit_are_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(runner, "free_memory", lambda device: 2**20)
    with pytest.raises(OutOfMemory, match="212 x 152 px") as caught:
        restorer(attentive(**SMALL), SMALL, tile=64, exact=True).run(uneven(150, 210))
    assert caught.value.hint == "leave out --tile exact"


def test_progress_ends_where_it_should():
    seen = []
    run = restorer(attentive(**SMALL), SMALL, tile=64, exact=True)
    run.run(uneven(70, 150), on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1), (1, 1)]


def test_the_network_itself_is_left_as_it_was():
    network = attentive(**SMALL)
    share_statistics(network, registry.MODELS["mirnet"].facts(**SMALL), "mirnet")
    assert all(isinstance(block, MRB) for rrg in network.rrgs for block in rrg.mrbs)
