"""UNet sampler on a tiny random network."""

from dataclasses import replace

import pytest
import torch

from restore_cli.errors import UsageError
from restore_cli.inference.samplers.request import GenerateRequest
from restore_cli.inference.samplers.unet import UNetSampler
from restore_cli.networks.scalecrafter.unet import UNetConfig, class_unet

SMALL = UNetConfig(
    sample_size=8, num_classes=2, widths=(8, 16), layers=1, groups=4, head_dim=8, attention_levels=1
)


@pytest.fixture(scope="module")
def sampler():
    torch.manual_seed(0)
    return UNetSampler(class_unet(SMALL))


def test_the_bundled_size_of_a_class_unet_has_the_layers_of_stable_diffusion():
    with torch.device("meta"):
        unet = class_unet(UNetConfig())
    assert sum(p.numel() for p in unet.parameters()) == pytest.approx(5.55e6, rel=0.01)


@pytest.mark.parametrize(("size", "changed"), [((8, 8), False), ((16, 16), True), ((8, 20), True)])
def test_scalecrafter_acts_beyond_the_trained_size_only(size, changed, sampler):
    request = GenerateRequest("1", size=size, steps=3)
    crafted_image, direct = sampler(request), sampler(replace(request, direct=True))
    assert crafted_image.shape == (1, 3, *size)
    assert (not torch.equal(crafted_image, direct)) == changed


def test_a_class_that_a_unet_lacks_is_refused(sampler):
    with pytest.raises(UsageError, match="there is no class 2"):
        sampler(GenerateRequest("2", size=(8, 8)))


def test_resolving_twice_changes_nothing(sampler):
    request = sampler.resolve(GenerateRequest("1"))
    assert request.size == (16, 16)  # twice the trained side
    assert (request.steps, request.guidance, request.sampler) == (25, 3.0, "ddim")
    assert sampler.resolve(request) == request


@pytest.mark.parametrize("field", ["rope", "guidance_power"])
def test_a_field_without_effect_is_refused(field, sampler):
    with pytest.raises(UsageError, match=f"--{field.replace('_', '-')} has no effect on"):
        sampler.resolve(GenerateRequest("1", **{field: "yarn"}))


def test_a_size_beyond_the_reach_of_scalecrafter_is_refused_before_any_work(sampler):
    with pytest.raises(UsageError, match=r"8\.0 times the side"):
        sampler.resolve(GenerateRequest("1", size=(64, 64)))
