"""The weights that come with restore show what their papers claim."""

from dataclasses import replace

import pytest

from benchmarks.drawn_objects import DRAWERS
from benchmarks.object_count import count_objects
from restore_cli.checkpoints.classes import class_weights
from restore_cli.checkpoints.load import load_checkpoint
from restore_cli.inference.samplers.fit import FiTSampler
from restore_cli.inference.samplers.request import GenerateRequest
from restore_cli.inference.samplers.unet import UNetSampler

TRAINED, FIT_TRAINED = 64, 32  # pixels along a side


@pytest.fixture(scope="module")
def sampler():
    names = class_weights("scalecrafter.default").classes
    return UNetSampler(load_checkpoint("scalecrafter.default").module, names)


def request_for(name, side):
    return GenerateRequest(name, (side, side), steps=8)


@pytest.mark.parametrize("name", ["scalecrafter.default", "fitv2.default"])
def test_the_bundled_generators_know_the_classes_of_the_set(name):
    assert set(class_weights(name).classes) == set(DRAWERS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["heart", "mushroom"])
def test_the_bundled_unet_generates_one_object_at_its_own_size(name, sampler):
    assert count_objects(sampler(request_for(name, TRAINED))[0], trained=TRAINED) == 1


@pytest.mark.slow
def test_beyond_its_size_scalecrafter_generates_fewer_objects_than_plain_sampling(sampler):
    request = request_for("mushroom", 2 * TRAINED)
    crafted, plain = (sampler(replace(request, direct=direct))[0] for direct in (False, True))
    assert count_objects(plain, trained=TRAINED) >= 3
    assert count_objects(crafted, trained=TRAINED) == 1


@pytest.mark.slow
@pytest.mark.parametrize("size", [(32, 32), (80, 80)], ids=["trained", "beyond"])
def test_the_bundled_fit_generates_one_object_at_any_size(size):
    names = class_weights("fitv2.default").classes
    sampler = FiTSampler(load_checkpoint("fitv2.default").module, names)
    image = sampler(GenerateRequest("heart", size, steps=6))[0]
    assert count_objects(image, trained=FIT_TRAINED) == 1
