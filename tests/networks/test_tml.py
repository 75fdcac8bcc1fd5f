"""UGDC and its global dynamic convolution."""

import copy

import pytest
import torch
from torch.testing import assert_close

from restore_cli.networks.layers import DropPath
from restore_cli.networks.tml.model import GDC, UGDC, UGDCConfig


def block(channels=12, grid=(4, 6)):
    return GDC(channels, grid, 5).eval()


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return UGDC(UGDCConfig(stem_channels=4, nominal_size=(80, 96))).eval()


@pytest.mark.parametrize("size", [(20, 30), (24, 34)], ids=["nominal", "larger"])
def test_one_matrix_does_what_all_kernels_one_by_one_do(size):
    gdc, x = block(), torch.randn(2, 12, *size)
    torch.nn.init.constant_(gdc.bias, 0.3)
    with torch.inference_mode():
        answers = torch.einsum("bkc,bchw->bkhw", gdc.kernels(x), gdc.look(x)) + gdc.bias
        assert_close(gdc(x), x + gdc.mix(answers), atol=1e-5, rtol=0)  # float32 sum order


def test_a_block_without_a_mix_changes_nothing():
    gdc, x = block(), torch.randn(1, 12, 20, 30)
    torch.nn.init.zeros_(gdc.mix.weight)
    torch.nn.init.zeros_(gdc.mix.bias)
    assert torch.equal(gdc(x), x)


def test_a_block_of_other_patches_makes_other_kernels():
    gdc, x = block(), torch.randn(1, 12, 20, 30)
    other = x.clone()
    other[..., :5, :5] += 1  # the first patch
    with torch.inference_mode():
        differs = (gdc.kernels(x) != gdc.kernels(other)).any(2)[0].nonzero().flatten()
    assert differs.tolist() == [0]


def test_each_image_of_a_batch_has_kernels_of_its_own(network):
    low = torch.randn(2, 3, 80, 96)
    with torch.inference_mode():
        together = network(low)
        alone = torch.cat([network(image[None]) for image in low])
    assert_close(together, alone, atol=1e-5, rtol=0)  # float32 sum order


def test_a_far_corner_is_felt_everywhere(network):
    exact = copy.deepcopy(network).double()  # untrained, it feels little from afar
    low = torch.randn(1, 3, 80, 96, dtype=torch.float64)
    other = low.clone()
    other[..., :8, :8] += 3
    with torch.inference_mode():
        felt = (exact(low) != exact(other)).any(1)[0]
    assert felt[40:, 48:].float().mean() > 0.99


@pytest.mark.parametrize("size", [(80, 96), (99, 99)], ids=["smallest", "largest"])
def test_a_size_of_the_same_patches_is_taken(network, size):
    with torch.inference_mode():
        assert network(torch.randn(1, 3, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize("size", [(79, 96), (100, 96), (80, 160)])
def test_a_size_of_other_patches_is_refused_with_the_size_wanted(network, size):
    with pytest.raises(ValueError, match=r"\(80, 96\)"):
        network(torch.randn(1, 3, *size))


@pytest.mark.parametrize(
    ("config", "reason"),
    [({"nominal_size": (79, 96)}, "at least 80"), ({"bilinear": True}, "bilinear")],
)
def test_what_no_weights_can_be_for_is_refused(config, reason):
    with pytest.raises(ValueError, match=reason):
        UGDC(UGDCConfig(**config))


def test_dropped_paths_keep_the_mean_and_are_dropped_whole():
    dropped = DropPath(0.2).train()(torch.ones(4000, 1, 2, 2))
    values = dropped.unique()
    assert values.tolist() == [0, 1.25]
    assert_close(dropped.mean(), torch.tensor(1.0), atol=0.03, rtol=0)  # 4000 draws
    assert (dropped == dropped[:, :, :1, :1]).all()


def test_no_path_is_dropped_after_training():
    x = torch.ones(50, 1, 2, 2)
    assert torch.equal(DropPath(0.2).eval()(x), x)


@pytest.mark.parametrize(("width", "parameters"), [(64, 17_580_103), (32, 4_720_679)])
def test_the_published_sizes_have_the_published_parameters_less_the_unused(width, parameters):
    with torch.device("meta"):
        network = UGDC(UGDCConfig(stem_channels=width))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("size", [(16, 16), (79, 96), (100, 200)], ids=str)
def test_any_size_is_taken_once_it_is_allowed(network, size):
    anything = copy.deepcopy(network)
    anything.allow_any_size()
    with torch.inference_mode():
        assert anything(torch.randn(1, 3, *size)).shape == (1, 3, *size)


def test_sizes_that_were_taken_before_give_what_they_gave(network):
    anything, low = copy.deepcopy(network), torch.randn(1, 3, 99, 99)
    anything.allow_any_size()
    with torch.inference_mode():
        assert torch.equal(anything(low), network(low))


def test_patches_are_weighed_as_the_convolution_does_it():
    gdc, x = block(), torch.randn(2, 12, 23, 31)
    assert_close(gdc.weighed(x), gdc.patch(x), atol=1e-5, rtol=0)  # float32 sum order
