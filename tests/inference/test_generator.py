"""Generator and its loading."""

import pytest
import torch

from restore_cli import registry
from restore_cli.checkpoints.save import save
from restore_cli.errors import OutOfMemory, UsageError, WeightsMismatch
from restore_cli.inference.generator import Generator, load_generator
from restore_cli.inference.report import StepReport
from restore_cli.inference.samplers.request import GenerateRequest
from tests.unets import CLASS_UNET

REQUEST = GenerateRequest("1", size=(8, 16), steps=3)


class Constant:
    """Images of the tenth of their seed."""

    def __init__(self):
        self.seeds = []

    def resolve(self, request):
        return request

    def __call__(self, request, *, seed=0, count=1, on_progress=None):
        self.seeds.append((seed, count))
        return torch.full((count, 3, *request.size), seed / 10)


class Failing(Constant):
    def __init__(self, message):
        self.message = message

    def __call__(self, request, *, seed=0, count=1, on_progress=None):
        raise RuntimeError(self.message)


def generator(sampler):
    return Generator(sampler, "unet", "unet.tiny", "ab" * 32, torch.device("cpu"), "fp32")


def test_an_image_is_sampled_alone_with_its_own_seed():
    sampler = Constant()
    image = generator(sampler).sample(REQUEST, 5)
    assert (image == 0.5).all()
    assert image.shape == (3, 8, 16)
    assert sampler.seeds == [(5, 1)]


def test_a_call_returns_an_image_and_its_report():
    result = generator(Constant())(1, size=(8, 16), seed=4)
    assert result.image.pixels.shape == (3, 8, 16)
    assert (result.image.pixels == 0.4).all()
    (step,) = result.report.steps
    assert step == StepReport(
        "unet", "unet.tiny", "ab" * 32, None, "fp32", 8, 16, seconds=step.seconds
    )


def test_several_images_are_a_contact_sheet_of_consecutive_seeds():
    sampler = Constant()
    sheet = generator(sampler)("1", size=(8, 16), count=3, seed=2).image
    assert (sheet.height, sheet.width) == (8 + 2 + 8, 16 + 2 + 16)
    assert sampler.seeds == [(2, 1), (3, 1), (4, 1)]


@pytest.mark.parametrize(("option", "value"), [("count", 0), ("seed", -1)])
def test_a_number_below_the_least_is_refused(option, value):
    with pytest.raises(UsageError, match=f"{option} is {value}"):
        generator(Constant())("1", **{option: value})


def test_an_image_too_large_for_the_memory_is_refused_with_its_size():
    failing = generator(Failing("DefaultCPUAllocator: can't allocate memory"))
    with pytest.raises(OutOfMemory, match="16x8 does not fit") as caught:
        failing.sample(REQUEST, 0)
    assert "--size" in caught.value.hint


def test_another_error_stays_as_it_is():
    with pytest.raises(RuntimeError, match="mat1"):
        generator(Failing("mat1 and mat2")).sample(REQUEST, 0)


@pytest.fixture
def unet(tmp_path):
    path = tmp_path / "unet.safetensors"
    network = registry.build("scalecrafter", **CLASS_UNET)
    record = {"classes": ["ball", "sunflower"]}
    save(network, path, arch="scalecrafter", config=CLASS_UNET, record=record)
    return path


def test_weights_become_a_generator_of_their_classes(unet):
    loaded = load_generator(weights=str(unet), device="cpu")
    named, numbered = (loaded(what, size=(8, 8), steps=1).image for what in ("sunflower", 1))
    assert (loaded.model, loaded.weights) == ("scalecrafter", "unet")
    assert torch.equal(named.pixels, numbered.pixels)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": "fitv2"}, WeightsMismatch, "holds scalecrafter, not fitv2"),
        ({"base": "sd"}, UsageError, "--base and --weights contradict"),
        ({"vae": "vae"}, UsageError, "--vae has no effect"),
    ],
    ids=["model", "base", "vae"],
)
def test_contradictions_are_refused(options, error, message, unet):
    with pytest.raises(error, match=message):
        load_generator(weights=str(unet), device="cpu", **options)


def test_weights_that_restore_are_refused(random_weights):
    with pytest.raises(UsageError, match="generates no images"):
        load_generator(weights=str(random_weights))
