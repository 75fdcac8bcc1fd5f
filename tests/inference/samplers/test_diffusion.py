"""Samplers on tiny random networks."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, HeunDiscreteScheduler
from torch.testing import assert_close

from restore_cli.errors import BrokenOutput, UsageError, WeightsMismatch, WeightsMissing
from restore_cli.inference.samplers.diffusion import (
    FiTRequest,
    FiTSampler,
    PromptRequest,
    ScaleCrafterSampler,
    UNetConfig,
    UNetRequest,
    UNetSampler,
    class_unet,
    crafted,
    read_vae,
    rope_for,
)
from restore_cli.networks.fit.model import PUBLISHED, FiT, FiTConfig, FiTv1Config, Rope
from restore_cli.networks.scalecrafter.model import Settings, scalecrafter
from tests.unets import text_unet

TINY = {"hidden_size": 32, "depth": 1, "num_heads": 2, "num_classes": 3}
PIXELS = FiTConfig(**TINY, adaln_lora_dim=8, in_channels=3, context_size=16, ori_max_pe_len=4)
REQUEST = FiTRequest(label=1, size=(8, 8), steps=2)


def random_weights(network, std=0.2):
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return network.eval()


@pytest.fixture
def fit():
    return FiTSampler(random_weights(FiT(PIXELS)))


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 4),
        norm_num_groups=2,
    ).eval()


# FiT


@pytest.mark.parametrize(("height", "width"), [(2, 2), (8, 8), (4, 14), (12, 10)])
def test_a_fit_makes_images_of_any_size(height, width, fit):
    images = fit(replace(REQUEST, size=(height, width), count=2))
    assert images.shape == (2, 3, height, width)
    assert 0 <= images.min() < images.max() <= 1


@pytest.mark.parametrize("rule", ["euler", "midpoint", "heun", "dopri5", "sde"])
def test_a_image_depends_on_its_own_seed_alone(rule, fit):
    request = replace(REQUEST, rule=rule, steps=4)
    three = fit(replace(request, seed=5, count=3))
    # Not to the bit: matrices of another shape are multiplied in another order.
    assert_close(fit(replace(request, seed=7)), three[2:], atol=1e-3, rtol=0)
    assert (three[0] - three[1]).abs().max() > 0.05


def test_the_same_request_gives_the_same_bytes(fit):
    assert torch.equal(fit(REQUEST), fit(REQUEST))


def test_rules_of_an_ode_agree_with_enough_steps(fit):
    images = [fit(replace(REQUEST, rule=rule, steps=60)) for rule in ("midpoint", "heun")]
    assert_close(*images, atol=5e-3, rtol=0)
    assert_close(fit(replace(REQUEST, rule="dopri5")), images[0], atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    "change",
    [{"label": 0}, {"guidance": 4.0}, {"guidance_power": 2.0}, {"negative": 0}, {"rope": "yarn"}],
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
        ({"label": 3}, "there is no class 3", "0 ... 2"),
        ({"negative": -1}, "there is no class -1", "0 ... 2"),
        ({"guidance": 0.5}, "guidance 0.5 is below 1", "1 is none"),
    ],
    ids=["odd", "empty", "class", "negative", "guidance"],
)
def test_what_a_fit_cannot_make_is_refused(change, message, hint, fit):
    with pytest.raises(UsageError, match=message) as caught:
        fit(replace(REQUEST, **change))
    assert caught.value.hint == hint


def test_progress_is_told_step_by_step(fit):
    told = []
    fit(replace(REQUEST, steps=3), on_progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_broken_image_is_no_image(fit):
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
    with pytest.raises(WeightsMissing, match="holds no AutoencoderKL"):
        read_vae(tmp_path)


def test_fit_of_the_first_version_samples_as_a_ddpm():
    network = random_weights(FiT(FiTv1Config(**TINY, in_channels=3)), std=0.05)
    sampler, request = FiTSampler(network), replace(REQUEST, steps=4, seed=2)
    images = sampler(replace(request, count=2))
    assert images.shape == (2, 3, 8, 8)
    assert_close(sampler(request), images[:1], atol=1e-3, rtol=0)


# UNets for classes

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
    request = UNetRequest(label=1, size=size, steps=3)
    crafted_image, direct = sampler(request), sampler(replace(request, direct=True))
    assert crafted_image.shape == (1, 3, *size)
    assert (not torch.equal(crafted_image, direct)) == changed


def test_a_class_that_a_unet_lacks_is_refused(sampler):
    with pytest.raises(UsageError, match="there is no class 2"):
        sampler(UNetRequest(label=2, size=(8, 8)))


# Pipelines of diffusers


class Pipe:
    """The loop of the stock pipelines without their text models, which need transformers."""

    vae_scale_factor = 2
    do_classifier_free_guidance = True

    def __init__(self, unet, vae, scheduler):
        self.unet, self.vae, self.scheduler = unet, vae, scheduler
        self.told = []

    def __call__(self, *, height, width, num_inference_steps, generator, output_type, **ignored):
        self.scheduler.set_timesteps(num_inference_steps)
        times = self.scheduler.timesteps[ignored.get("skip", 0) :]
        self.num_timesteps = len(times)
        shape = (1, 4, height // 2, width // 2)
        x = torch.cat([torch.randn(shape, generator=one) for one in generator])
        x = x * self.scheduler.init_noise_sigma
        prompts = torch.ones(2 * len(x), 1, 8)
        for step, t in enumerate(times):
            scaled = self.scheduler.scale_model_input(torch.cat([x, x]), t)
            noise = self.unet(scaled, t, encoder_hidden_states=prompts, return_dict=False)[0]
            away, toward = noise.chunk(2)
            x = self.scheduler.step(away + 2 * (toward - away), t, x).prev_sample
            if end := ignored.get("callback_on_step_end"):
                end(self, step, t, {})
        images = x if output_type == "latent" else self.vae.decode(x / 0.18215).sample / 2 + 0.5
        return type("Output", (), {"images": images})

    def enable_freeu(self, **strengths):
        self.unet.enable_freeu(**strengths)

    def disable_freeu(self):
        self.unet.disable_freeu()


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return text_unet().eval()


@pytest.fixture
def pipe(unet, vae):
    return Pipe(unet, vae, DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False))


LAYER = "mid_block.resnets.0.conv1"
HALF = Settings({LAYER: 2.0}, dilate_until=0.5, mild={LAYER: 3.0}, mild_until=0.25)
CALL = {"height": 32, "width": 32, "num_inference_steps": 4, "output_type": "latent"}


@torch.inference_mode()
def latents(pipe, **changes):
    return pipe(**CALL | changes, generator=[torch.Generator().manual_seed(0)]).images


def test_a_pipeline_in_the_context_does_what_a_loop_that_sets_each_step_does(pipe, unet):
    with crafted(pipe, (32, 32), settings=HALF):
        found = latents(pipe)
    with scalecrafter(unet, HALF, steps=4) as rescaling:

        def next_step(pipe, step, t, state):
            rescaling.step = step + 1

        wanted = latents(pipe, callback_on_step_end=next_step)
    assert torch.equal(found, wanted)


def test_a_pipeline_is_itself_after_the_context(pipe, unet):
    before, hooks = latents(pipe), len(unet._forward_pre_hooks)
    with crafted(pipe, (32, 32), settings=HALF):
        assert not torch.equal(latents(pipe), before)
    assert torch.equal(latents(pipe), before)
    assert len(unet._forward_pre_hooks) == hooks


def steps_seen(pipe, **changes):
    """(step, of steps) at each evaluation of the UNet."""
    seen = []
    with crafted(pipe, (32, 32), settings=HALF):
        inside = vars(pipe.unet.get_submodule(LAYER))["_conv_forward"].func.__self__
        hook = pipe.unet.register_forward_hook(
            lambda *_: seen.append((inside.step, inside.steps)) and None
        )
        latents(pipe, **changes)
        latents(pipe, **changes)  # a second image begins anew
        hook.remove()
    return seen


def test_steps_are_counted_by_the_schedule(pipe):
    assert steps_seen(pipe) == 2 * [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_steps_that_image_to_image_skips_do_not_count(pipe):
    assert steps_seen(pipe, skip=1) == 2 * [(0, 3), (1, 3), (2, 3)]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers
def test_a_scheduler_that_evaluates_twice_stays_in_its_step(pipe):
    pipe.scheduler = HeunDiscreteScheduler()
    steps = [step for step, _ in steps_seen(pipe)]
    assert steps == 2 * [0, 1, 1, 3, 3, 5, 5]


def test_within_the_trained_size_a_pipeline_is_left_alone(pipe):
    before = latents(pipe, height=16, width=16)
    with crafted(pipe, (16, 16)):
        assert torch.equal(latents(pipe, height=16, width=16), before)


def test_a_size_that_the_vae_cannot_make_is_refused(pipe):
    with pytest.raises(UsageError, match="multiples of 2"), crafted(pipe, (31, 32)):
        pass


def test_freeu_without_known_strengths_is_refused(pipe):
    with pytest.raises(UsageError, match="FreeU"), crafted(pipe, (32, 32), freeu=True):
        pass


def test_freeu_is_on_inside_only(pipe, monkeypatch):
    monkeypatch.setattr("restore_cli.inference.samplers.diffusion.family_of", lambda config: "sd1")
    before = latents(pipe)
    with crafted(pipe, (32, 32), settings=HALF, freeu=True):
        inside = latents(pipe)
    with crafted(pipe, (32, 32), settings=HALF):
        assert not torch.equal(latents(pipe), inside)
    assert torch.equal(latents(pipe), before)


PROMPT = {"prompt": "a sunflower", "size": (32, 32), "steps": 3}


@pytest.mark.parametrize("change", [{"direct": True}, {"seed": 1}], ids=["direct", "seed"])
def test_each_choice_of_a_prompt_changes_its_image(change, pipe):
    sampler = ScaleCrafterSampler(pipe)
    images = [sampler(PromptRequest(**PROMPT | choice)) for choice in ({}, change)]
    assert images[0].shape == (1, 3, 32, 32)
    assert not torch.equal(*images)


def test_a_decode_in_step_is_near_the_plain_one(pipe):
    sampler = ScaleCrafterSampler(pipe)
    plain, stepped = (
        sampler(PromptRequest(**PROMPT, synchronise=choice)) for choice in (False, True)
    )
    assert_close(stepped, plain, atol=0.05, rtol=0)


def test_progress_of_a_prompt_is_told(pipe):
    told = []
    ScaleCrafterSampler(pipe)(PromptRequest(**PROMPT), on_progress=lambda *now: told.append(now))
    assert told == [(1, 3), (2, 3), (3, 3)]
