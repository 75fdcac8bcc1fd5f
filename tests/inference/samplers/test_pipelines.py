"""ScaleCrafter around the pipelines of diffusers, on tiny random networks."""

import pytest
import torch
from diffusers import DDIMScheduler, HeunDiscreteScheduler
from torch.testing import assert_close

from restore_cli.errors import UsageError
from restore_cli.inference.samplers.memory import MemoryPlan, apply_plan, plan_for
from restore_cli.inference.samplers.request import GenerateRequest
from restore_cli.inference.samplers.stable_diffusion import (
    StableDiffusionSampler,
    crafted,
)
from restore_cli.networks.scalecrafter.model import Settings, scalecrafter
from tests.unets import text_unet, tiny_vae


class Pipe:
    """The loop of the stock pipelines without their text models, which need transformers."""

    vae_scale_factor = 2
    do_classifier_free_guidance = True

    def __init__(self, unet, vae, scheduler):
        self.unet, self.vae, self.scheduler = unet, vae, scheduler
        self.told = []

    def __call__(
        self,
        *,
        height,
        width,
        generator,
        output_type,
        num_inference_steps=50,
        guidance_scale=7.5,
        eta=0.0,
        callback_on_step_end=None,
        skip=0,
    ):
        self.scheduler.set_timesteps(num_inference_steps)
        times = self.scheduler.timesteps[skip:]
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
            if callback_on_step_end:
                callback_on_step_end(self, step, t, {})
        images = x if output_type == "latent" else self.vae.decode(x / 0.18215).sample / 2 + 0.5
        return type("Output", (), {"images": images})

    @property
    def components(self):
        return {"unet": self.unet, "vae": self.vae, "scheduler": self.scheduler}

    def to(self, device):
        self.told.append(device)

    def enable_freeu(self, **strengths):
        self.unet.enable_freeu(**strengths)

    def disable_freeu(self):
        self.unet.disable_freeu()


@pytest.fixture(scope="module")
def vae():
    return tiny_vae()


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
    with (
        pytest.raises(UsageError, match="FreeU"),
        crafted(pipe, (32, 32), freeu=True),
    ):
        pass


def test_freeu_is_on_inside_only(pipe, monkeypatch):
    monkeypatch.setattr(
        "restore_cli.inference.samplers.stable_diffusion.family_of", lambda config: "sd1"
    )
    before = latents(pipe)
    with crafted(pipe, (32, 32), settings=HALF, freeu=True):
        inside = latents(pipe)
    with crafted(pipe, (32, 32), settings=HALF):
        assert not torch.equal(latents(pipe), inside)
    assert torch.equal(latents(pipe), before)


PROMPT = {"prompt": "a sunflower", "size": (32, 32), "steps": 3}


@pytest.mark.parametrize(("direct", "seed"), [(True, 0), (False, 1)], ids=["direct", "seed"])
def test_each_choice_of_a_prompt_changes_its_image(direct, seed, pipe):
    sampler = StableDiffusionSampler({"text": pipe})
    images = [
        sampler(GenerateRequest(**PROMPT)),
        sampler(GenerateRequest(**PROMPT, direct=direct), seed=seed),
    ]
    assert images[0].shape == (1, 3, 32, 32)
    assert not torch.equal(*images)


def test_a_decode_with_shared_statistics_is_near_the_plain_one(pipe):
    sampler = StableDiffusionSampler({"text": pipe})
    plain, stepped = (
        sampler(GenerateRequest(**PROMPT, synchronise=choice)) for choice in (False, True)
    )
    assert_close(stepped, plain, atol=0.05, rtol=0)


def test_progress_of_a_prompt_is_reported(pipe):
    told = []
    StableDiffusionSampler({"text": pipe})(
        GenerateRequest(**PROMPT), on_progress=lambda *now: told.append(now)
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_pipeline_is_moved_to_its_device_by_the_plan(pipe):
    plan, device = plan_for(pipe, None, torch.device("cpu")), torch.device("cpu")
    sampler = StableDiffusionSampler({"text": pipe}, lambda pipe: apply_plan(pipe, plan, device))
    for _ in range(2):
        sampler(GenerateRequest(**PROMPT))
    assert plan == MemoryPlan()
    assert pipe.told == [device]  # once


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers
def test_a_scheduler_is_taken_for_one_image_only(pipe):
    sampler = StableDiffusionSampler({"text": pipe})
    before = sampler(GenerateRequest(**PROMPT))
    changed = sampler(GenerateRequest(**PROMPT, sampler="euler"))
    assert not torch.equal(changed, before)
    assert torch.equal(sampler(GenerateRequest(**PROMPT)), before)


@pytest.mark.parametrize(
    ("field", "value"), [("rope", "yarn"), ("guidance_power", 1.0), ("sampler", "sde")]
)
def test_a_field_without_effect_on_a_pipeline_is_refused(field, value, pipe):
    with pytest.raises(UsageError, match=f"--{field.replace('_', '-')}"):
        StableDiffusionSampler({"text": pipe}).resolve(GenerateRequest("a", **{field: value}))


def test_resolving_for_a_pipeline_twice_changes_nothing(pipe):
    request = StableDiffusionSampler({"text": pipe}).resolve(GenerateRequest("a"))
    assert (request.size, request.steps, request.guidance) == ((16, 16), 50, 7.5)
    assert StableDiffusionSampler({"text": pipe}).resolve(request) == request
