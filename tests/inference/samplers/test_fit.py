"""FiT samplers on tiny random networks."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from restore_cli.errors import BrokenOutput, UsageError, WeightsMismatch, WeightsMissing
from restore_cli.inference.samplers.fit import FiTSampler, rope_for
from restore_cli.inference.samplers.request import GenerateRequest
from restore_cli.inference.samplers.vae import read_vae
from restore_cli.networks.fit.model import PUBLISHED, FiT, FiTConfig, FiTv1Config, Rope
from tests.unets import tiny_vae

TINY = {"hidden_size": 32, "depth": 1, "num_heads": 2, "num_classes": 3}
PIXELS = FiTConfig(**TINY, adaln_lora_dim=8, in_channels=3, context_size=16, ori_max_pe_len=4)
REQUEST = GenerateRequest("1", size=(8, 8), steps=2)


def random_weights(network, std=0.2):
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return network.eval()


@pytest.fixture
def fit():
    return FiTSampler(random_weights(FiT(PIXELS)))


@pytest.fixture(scope="module")
def vae():
    return tiny_vae()


@pytest.mark.parametrize(("height", "width"), [(2, 2), (8, 8), (4, 14), (12, 10)])
def test_a_fit_generates_images_of_any_size(height, width, fit):
    images = fit(replace(REQUEST, size=(height, width)), count=2)
    assert images.shape == (2, 3, height, width)
    assert 0 <= images.min() < images.max() <= 1


@pytest.mark.parametrize("sampler", ["euler", "midpoint", "heun", "dopri5", "sde"])
def test_an_image_depends_on_its_own_seed_alone(sampler, fit):
    request = replace(REQUEST, sampler=sampler, steps=4)
    three = fit(request, seed=5, count=3)
    # Not to the bit: matrices of another shape are multiplied in another order.
    assert_close(fit(request, seed=7), three[2:], atol=1e-3, rtol=0)
    assert (three[0] - three[1]).abs().max() > 0.05


def test_the_same_request_gives_the_same_bytes(fit):
    assert torch.equal(fit(REQUEST), fit(REQUEST))


def test_rules_of_an_ode_agree_with_enough_steps(fit):
    images = [fit(replace(REQUEST, sampler=rule, steps=60)) for rule in ("midpoint", "heun")]
    assert_close(*images, atol=5e-3, rtol=0)
    assert_close(fit(replace(REQUEST, sampler="dopri5")), images[0], atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "0"},
        {"guidance": 4.0},
        {"guidance_power": 2.0},
        {"negative": "0"},
        {"rope": "yarn"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_choice_changes_the_image(change, fit):
    request = replace(REQUEST, size=(12, 12), guidance=3.0)
    assert (fit(replace(request, **change)) - fit(request)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ({"size": (7, 8)}, "size 8x7: both sides must be multiples of 2", "the nearest is 8x8"),
        ({"size": (0, 8)}, "size 8x0", "the nearest is 8x2"),
        ({"prompt": "3"}, "there is no class 3", "0 to 2"),
        ({"negative": "4"}, "there is no class 4", "0 to 2"),
        (
            {"guidance": 0.5},
            "--guidance 0.5: wanted a number from 1 to 1000",
            "1 means no guidance",
        ),
    ],
    ids=["odd", "empty", "class", "negative", "guidance"],
)
def test_what_a_fit_cannot_generate_is_refused(change, message, hint, fit):
    with pytest.raises(UsageError, match=message) as caught:
        fit(replace(REQUEST, **change))
    assert caught.value.hint == hint


def test_progress_is_reported_step_by_step(fit):
    told = []
    fit(replace(REQUEST, steps=3), on_progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_nan_is_refused(fit):
    torch.nn.init.constant_(fit.network.final_layer.linear.bias, float("nan"))
    with pytest.raises(BrokenOutput):
        fit(REQUEST)


@pytest.mark.parametrize(
    ("name", "size", "rope"),
    [
        ("FiTv2-XL/2", (16, 16), Rope()),
        ("FiTv2-XL/2", (8, 32), Rope()),
        ("FiTv2-XL/2", (20, 20), Rope("ntk-aware-pro2", decouple=True)),
        ("FiTv2-XL/2-HR", (16, 16), Rope("ntk-aware", decouple=True)),
        ("FiTv2-XL/2-HR", (32, 32), Rope("ntk-aware", decouple=True)),
    ],
)
def test_positions_scale_as_the_authors_recommend(name, size, rope):
    assert rope_for(PUBLISHED[name], size) == rope


def test_positions_of_a_small_trained_grid_scale_linearly():
    assert rope_for(PIXELS, (5, 4)) == Rope("linear", decouple=True, trained=4)


def test_a_named_position_mode_counts():
    assert rope_for(PUBLISHED["FiTv2-XL/2"], (20, 20), "yarn") == Rope("yarn", decouple=True)


def test_latents_are_decoded_by_a_vae(vae):
    latents = FiT(replace(PIXELS, in_channels=4))
    sampler = FiTSampler(random_weights(latents), vae=vae)
    assert sampler.unit == 4  # a patch of 2 latents of 2 pixels
    assert sampler(replace(REQUEST, size=(8, 12))).shape == (1, 3, 8, 12)


def test_latents_without_a_vae_are_refused_with_the_way_to_one():
    with pytest.raises(WeightsMissing, match="latents of 4 channels") as caught:
        FiTSampler(FiT(replace(PIXELS, in_channels=4)))
    assert "hf download" in caught.value.hint


def test_a_vae_of_other_latents_is_refused(vae):
    with pytest.raises(WeightsMismatch, match="VAE has 4 channels, this FiT 3"):
        FiTSampler(FiT(PIXELS), vae=vae)


def test_a_vae_is_read_from_its_folder(vae, tmp_path):
    vae.save_pretrained(tmp_path)
    read = read_vae(tmp_path)
    assert_close(read.state_dict(), vae.state_dict(), atol=0, rtol=0)


def test_a_folder_without_a_vae_is_refused(tmp_path):
    with pytest.raises(WeightsMissing, match="contains no readable AutoencoderKL"):
        read_vae(tmp_path)


def test_fit_of_the_first_version_samples_as_a_ddpm():
    network = random_weights(FiT(FiTv1Config(**TINY, in_channels=3)), std=0.05)
    sampler, request = FiTSampler(network), replace(REQUEST, steps=4)
    images = sampler(request, seed=2, count=2)
    assert images.shape == (2, 3, 8, 8)
    assert_close(sampler(request, seed=2), images[:1], atol=1e-3, rtol=0)


def test_resolving_twice_changes_nothing(fit):
    request = fit.resolve(GenerateRequest("1"))
    assert request.size == (8, 8)
    assert (request.steps, request.guidance, request.sampler, request.rope) == (
        25,
        1.5,
        "midpoint",
        "auto",
    )
    assert fit.resolve(request) == request


def test_fit_of_the_first_version_has_no_choice_of_samplers():
    sampler = FiTSampler(FiT(FiTv1Config(**TINY, in_channels=3)))
    request = sampler.resolve(GenerateRequest("1"))
    assert (request.steps, request.sampler) == (250, None)
    with pytest.raises(UsageError, match="--sampler euler"):
        sampler.resolve(GenerateRequest("1", sampler="euler"))


def test_zero_steps_are_refused(fit):
    with pytest.raises(UsageError, match="--steps 0"):
        fit(replace(REQUEST, steps=0))
