from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.inference.blockwise import blockwise
from restore_cli.inference.fused import FusedConv, can_fuse, fused
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import Restorer, load_network
from restore_cli.networks.layers import PixelConv

NETWORKS = {
    "cbsn": {"channels": 16, "num_module": 2},
    "dpenet": {},
    "espcn": {"scale": 2},
    "mirnet": {"n_feat": 16, "n_RRG": 1, "n_MSRB": 1},
}
if not can_fuse("fp32"):
    pytest.skip("this torch has no operators to fuse", allow_module_level=True)
in_16_bit = pytest.mark.skipif(not can_fuse("bf16"), reason="this CPU has no bfloat16 of oneDNN")


def build(name):
    """Return a network whose parameters are all at work, and an input."""
    network = registry.build(name, **NETWORKS[name]).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.02)
    return network, torch.rand(1, 1 if name == "espcn" else 3, 36, 44)


def last(output):
    return output[-1] if isinstance(output, tuple) else output


def convolutions(network):
    return sum(isinstance(module, FusedConv) for module in network.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_fused_network_equals_the_network(name):
    network, x = build(name)
    with torch.inference_mode():
        result = last(fused(blockwise(network, side=24))(x))
    assert_close(result, last(network(x)), atol=2e-5, rtol=1e-5)  # float32 sum order


@in_16_bit
@pytest.mark.parametrize("name", NETWORKS)
def test_a_fused_network_computes_in_bfloat16_what_autocast_computes(name):
    network, x = build(name)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        result, expected = last(fused(network)(x)), last(network(x))
    assert result.dtype == expected.dtype
    off = (result.float() - expected.float()).square().mean() / expected.float().square().mean()
    assert off < 1e-3  # 8 significant bits


@pytest.mark.parametrize("name", NETWORKS)
def test_a_fused_network_has_no_activation_behind_a_plain_convolution(name):
    network, _ = build(name)
    result = fused(network)
    assert convolutions(result) > 0
    assert not any(type(module) in (nn.Conv2d, nn.PReLU) for module in result.modules())


def test_the_network_that_was_given_stays_as_it_was():
    network, _ = build("mirnet")
    names = [name for name, _ in network.named_modules()]
    fused(network)
    assert [name for name, _ in network.named_modules()] == names


class Small(nn.Module):
    """One convolution and what is done with its output."""

    def __init__(self, then, channels=8, conv=nn.Conv2d):
        super().__init__()
        self.conv = conv(8, channels, 3, padding=1)
        self.prelu, self.slopes = nn.PReLU(), nn.PReLU(channels)
        self.then = then

    def forward(self, x):
        return self.then(self, x)


@pytest.mark.parametrize(
    "then",
    [
        lambda self, x: F.relu(self.conv(x) + x),
        lambda self, x: self.conv(x) + self.conv(x),
        lambda self, x: self.conv(x) + self.conv(x).mean((-2, -1), keepdim=True),
        lambda self, x: self.conv(x) + 1,
        lambda self, x: self.slopes(self.conv(x)),
        lambda self, x: self.prelu(self.conv(x)) + x.type_as(x),
        lambda self, x: self.conv(self.conv(x).tanh()).sigmoid() * x,
        lambda self, x: (lambda y: F.relu(y) + y)(self.conv(x)),
        lambda self, x: (lambda y: y + y)(self.conv(x)),
    ],
    ids=[
        "sum and activation",
        "two convolutions",
        "another shape",
        "number",
        "slope a channel",
        "activation before the sum",
        "same convolution twice",
        "output used twice",
        "sum with itself",
    ],
)
def test_what_follows_a_convolution_stays_the_same(then):
    network, x = Small(then).eval().requires_grad_(False), torch.rand(2, 8, 9, 7) - 0.5
    result = fused(network)
    assert convolutions(result) > 0
    assert_close(result(x), network(x), atol=1e-6, rtol=1e-5)  # float32 sum order


def test_a_sum_of_another_shape_than_the_convolution_is_broadcast():
    network = Small(lambda self, x: self.conv(x) + x[:, :1], channels=4).requires_grad_(False)
    x = torch.rand(1, 8, 9, 7)
    assert_close(fused(network)(x), network(x), atol=1e-6, rtol=1e-5)


@in_16_bit
def test_a_convolution_of_pixels_stays_in_float32():
    network = Small(lambda self, x: self.conv(x).tanh(), conv=PixelConv).requires_grad_(False)
    x = torch.rand(1, 8, 9, 7)
    expected = network(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(fused(network)(x), expected, atol=1e-6, rtol=1e-5)


def test_a_network_whose_way_depends_on_its_input_comes_back_as_it_is():
    network = Small(lambda self, x: self.conv(x) if x.sum() > 0 else x)
    assert fused(network) is network


def test_a_network_without_convolutions_comes_back_as_it_is():
    network = nn.Sequential(nn.ReLU())
    assert fused(network) is network


def test_a_restorer_on_a_cpu_runs_fused_convolutions():
    options = RunOptions(weights="cbsn.fast", device="cpu")
    assert convolutions(Restorer(load_network("cbsn.fast", options), options).runner.network) > 0


def test_float16_which_onednn_may_lack_runs_unfused():
    options = RunOptions(device="cpu", precision="fp16")
    restorer = Restorer(load_network("cbsn.fast", options), options)
    assert convolutions(restorer.runner.network) == 0
    assert restorer.run(torch.rand(3, 9, 8)).shape == (3, 9, 8)


OPERATORS = (
    "_convolution_pointwise",
    "_convolution_transpose_pointwise",
    "_reorder_convolution_weight",
    "_reorder_convolution_transpose_weight",
)


def other_operators(**changed):
    """Return the operators of oneDNN as another version or platform has them; None: not at all."""
    operators = {name: getattr(torch.ops.mkldnn, name) for name in OPERATORS}
    operators["_is_mkldnn_acl_supported"] = lambda: False
    present = {name: value for name, value in (operators | changed).items() if value is not None}
    return SimpleNamespace(**present)


def fewer_arguments(*_):
    raise RuntimeError("expected at most 1 argument(s)")  # as operators of torch say it


@pytest.mark.parametrize(
    "changed",
    [
        *({name: None} for name in OPERATORS),
        {"_convolution_pointwise": torch.ops.mkldnn._convolution_pointwise.default},
        {"_convolution_pointwise": fewer_arguments},
        {"_is_mkldnn_acl_supported": lambda: True},
    ],
    ids=[*OPERATORS, "sum", "arguments", "arm"],
)
def test_a_restorer_runs_unfused_where_torch_has_other_operators(changed, monkeypatch):
    monkeypatch.setattr(torch.ops, "mkldnn", other_operators(**changed))
    options = RunOptions(weights="cbsn.fast", device="cpu", precision="fp32")
    restorer = Restorer(load_network("cbsn.fast", options), options)
    assert convolutions(restorer.runner.network) == 0
    assert restorer.run(torch.rand(3, 9, 8)).shape == (3, 9, 8)


def test_a_torch_with_these_operators_fuses(monkeypatch):
    monkeypatch.setattr(torch.ops, "mkldnn", other_operators())
    assert can_fuse("fp32")
