"""DiMR samplers on tiny random networks."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from restore_cli.errors import BrokenOutput, UsageError, WeightsMismatch, WeightsMissing
from restore_cli.inference.samplers.dimr import SAMPLERS, DiMRSampler
from restore_cli.inference.samplers.request import GenerateRequest
from restore_cli.networks.dimr.model import DiMR, DiMRConfig, branches
from tests.unets import tiny_vae

# numpy 2 warns of what diffusers does in UniPC.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ impl:DeprecationWarning")

PIXELS = DiMRConfig(3, 4, stage_configs=branches((16, 8), (2, 2), 4, heads=2))
REQUEST = GenerateRequest("1", size=(8, 8), steps=3)


def random_sampler(config=PIXELS, **options):
    network = DiMR(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return DiMRSampler(network, **options)


@pytest.fixture
def dimr():
    return random_sampler()


@pytest.mark.parametrize(("height", "width"), [(2, 2), (8, 8), (4, 8)])
def test_images_of_any_size_with_positions_are_generated(height, width, dimr):
    images = dimr(replace(REQUEST, size=(height, width)), count=2)
    assert images.shape == (2, 3, height, width)
    assert 0 <= images.min() < images.max() <= 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_depends_on_its_own_seed_alone(sampler, dimr):
    request = replace(REQUEST, sampler=sampler, steps=4)
    three = dimr(request, seed=5, count=3)
    assert_close(dimr(request, seed=7), three[2:], atol=1e-3, rtol=0)
    assert (three[0] - three[1]).abs().max() > 0.05


def test_the_samplers_agree_with_enough_steps(dimr):
    torch.nn.init.normal_(dimr.network.branches[-1].conv_out.weight, std=0.01)
    images = [dimr(replace(REQUEST, sampler=name, steps=200)) for name in SAMPLERS]
    assert_close(images[2], images[0], atol=0.02, rtol=0)
    assert_close(images[1], images[0], atol=0.05, rtol=0)  # ddim is of first order


def test_the_same_request_gives_the_same_bytes(dimr):
    assert torch.equal(dimr(REQUEST), dimr(REQUEST))


@pytest.mark.parametrize(
    "change",
    [{"prompt": "0"}, {"guidance": 4.0}, {"guidance_power": 2.0}, {"negative": "0"}],
    ids=lambda change: next(iter(change)),
)
def test_each_choice_changes_the_image(change, dimr):
    request = replace(REQUEST, guidance=3.0)
    assert (dimr(replace(request, **change)) - dimr(request)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ({"size": (7, 8)}, "size 8x7: both sides must be multiples of 2", "the nearest is 8x8"),
        ({"size": (8, 10)}, "size 10x8: this DiMR has positions up to 8x8", "restore upscale"),
        ({"prompt": "3"}, "there is no class 3", "0 to 2"),
        ({"negative": "3"}, "there is no class 3", "0 to 2"),
        ({"rope": "yarn"}, "--rope has no effect on DiMR", "leave it out"),
        ({"sampler": "euler"}, "--sampler euler", "one of: dpm, ddim, unipc"),
    ],
    ids=["odd", "large", "class", "negative", "rope", "sampler"],
)
def test_what_a_dimr_cannot_generate_is_refused(change, message, hint, dimr):
    with pytest.raises(UsageError, match=message) as caught:
        dimr(replace(REQUEST, **change))
    assert hint in caught.value.hint


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_progress_is_reported_step_by_step(sampler, dimr):
    told = []
    dimr(
        replace(REQUEST, sampler=sampler),
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_nan_is_refused(dimr):
    torch.nn.init.constant_(dimr.network.branches[-1].conv_out.bias, float("nan"))
    with pytest.raises(BrokenOutput):
        dimr(REQUEST)


# Latents


def test_latents_are_decoded_by_a_vae_and_sampled_as_published():
    sampler = random_sampler(replace(PIXELS, channels=4), vae=tiny_vae())
    request = sampler.resolve(GenerateRequest("1"))
    assert request == replace(
        REQUEST, size=(16, 16), steps=250, guidance=1.4, guidance_power=0.0, sampler="dpm"
    )
    assert sampler.resolve(request) == request
    assert sampler(replace(request, size=(8, 12), steps=2)).shape == (1, 3, 8, 12)


def test_latents_without_a_vae_are_refused_with_the_way_to_one():
    with pytest.raises(WeightsMissing, match="this DiMR generates latents of 4 channels") as caught:
        random_sampler(replace(PIXELS, channels=4))
    assert "hf download" in caught.value.hint


def test_a_vae_of_other_latents_is_refused():
    with pytest.raises(WeightsMismatch, match="VAE has 4 channels, this DiMR 3"):
        random_sampler(vae=tiny_vae())
