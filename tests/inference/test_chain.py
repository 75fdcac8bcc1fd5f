"""Several restorers as one: floats pass from each to the next."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.checkpoints.save import save
from restore_cli.errors import WeightsMismatch
from restore_cli.imaging.colour import quantize
from restore_cli.imaging.image import Image
from restore_cli.inference.chain import Step, load_chain
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import load_restorer
from restore_cli.inference.upscaler import Target, load_upscaler

CPU = RunOptions(device="cpu", precision="fp32")


@pytest.fixture
def x2(tmp_path):
    path = tmp_path / "x2.safetensors"
    save(registry.build("espcn", scale=2), path, arch="espcn", config={"scale": 2}, record={})
    return str(path)


@pytest.fixture
def steps(random_weights, x2):
    derain = Step("derain", weights=str(random_weights))
    return [derain, Step("upscale", 2, weights=x2)]


def one_by_one(steps, pixels):
    """The same by hand, with what `between` makes of the image in the middle."""
    derain, upscale = steps
    first = load_restorer("derain", replace(CPU, weights=derain.weights))
    second = load_upscaler(replace(CPU, weights=upscale.weights), Target(upscale.scale))
    return lambda between: second.run(between(first.run(pixels)))


def test_steps_pass_floats_to_each_other(steps):
    pixels = torch.rand(3, 12, 9)
    restored = load_chain(steps, CPU)(Image(pixels)).image.pixels
    by_hand = one_by_one(steps, pixels)
    assert_close(restored, by_hand(lambda image: image), rtol=0, atol=0)
    assert not torch.equal(restored, by_hand(quantize))


def test_a_series_tells_of_each_network_in_its_order(steps):
    series = load_chain(steps, CPU)
    report = series(Image(torch.rand(3, 8, 8))).report
    assert series.model == report.model == "dpenet+espcn"
    assert [(step.weights, step.height) for step in report.steps] == [("random", 8), ("x2", 16)]


def test_alpha_grows_with_the_image(steps):
    image = Image(torch.rand(3, 6, 5), alpha=torch.ones(1, 6, 5))
    restored = load_chain(steps, CPU)(image)
    assert restored.image.alpha.shape == (1, 12, 10)


def test_progress_goes_from_the_first_step_to_the_last(steps):
    told = []
    image = Image(torch.rand(3, 6, 5))
    load_chain(steps, CPU)(image, on_progress=lambda done, total: told.append(done / total))
    assert told == [0.5, 1.0]


def test_weights_of_another_task_are_refused(x2):
    with pytest.raises(WeightsMismatch):
        load_chain([Step("derain", weights=x2)], CPU)
