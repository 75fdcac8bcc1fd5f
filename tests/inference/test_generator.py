"""What a generator does with a request, whichever it is."""

import pytest
import torch

from restore_cli.errors import OutOfMemory
from restore_cli.inference.generator import ImageGenerator, settings_of
from restore_cli.inference.samplers.diffusion import UNetRequest

REQUEST = UNetRequest(label=1, size=(8, 16), steps=3)


def generator(sample):
    device = torch.device("cpu")
    return ImageGenerator("unet", "unet.tiny", None, device, "fp32", lambda asked: asked, sample)


def test_a_image_is_made_alone_with_its_own_seed():
    asked = []

    def sample(request, *, on_progress):
        asked.append(request)
        return torch.full((request.count, 3, *request.size), request.seed / 10)

    image = generator(sample)(REQUEST, 5)
    assert (image == 0.5).all()
    assert image.shape == (3, 8, 16)
    assert [(request.seed, request.count) for request in asked] == [(5, 1)]


def test_a_image_that_does_not_fit_is_told_with_its_size():
    def sample(request, *, on_progress):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(OutOfMemory, match="16x8 does not fit") as caught:
        generator(sample)(REQUEST, 0)
    assert "--size" in caught.value.hint


def test_another_error_stays_what_it_is():
    def sample(request, *, on_progress):
        raise RuntimeError("mat1 and mat2")

    with pytest.raises(RuntimeError, match="mat1"):
        generator(sample)(REQUEST, 0)


def test_the_settings_are_all_but_what_is_told_elsewhere():
    assert settings_of(REQUEST) == {
        "steps": 3,
        "guidance": 3.0,
        "negative": None,
        "eta": 0.0,
        "direct": False,
    }
