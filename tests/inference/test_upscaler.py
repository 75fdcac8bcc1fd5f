from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from restore_cli import registry, restore
from restore_cli.checkpoints.library import import_weights
from restore_cli.checkpoints.load import Checkpoint
from restore_cli.checkpoints.save import save
from restore_cli.errors import InputError, UsageError, WeightsMismatch, WeightsMissing
from restore_cli.imaging.image import Image
from restore_cli.imaging.resize import resize_matlab
from restore_cli.inference.factors import scale_of
from restore_cli.inference.options import ImageSize, RunOptions
from restore_cli.inference.restorer import Restorer
from restore_cli.inference.upscaler import Target, Upscaler, load_upscaler

CPU = {"device": "cpu", "precision": "fp32"}


@pytest.fixture
def weights(tmp_path):
    """weights(scale): the path of an ESPCN that was never trained."""

    def write(scale, **config):
        path = tmp_path / f"x{scale}.safetensors"
        config = {"scale": scale, **config}
        save(registry.build("espcn", **config), path, arch="espcn", config=config, record={})
        return str(path)

    return write


@pytest.fixture
def upscaler(weights):
    """upscaler(2, 3, scale=2.5): with networks of these factors."""

    def make(*factors, scale=None, size=None, repeat=False, **options):
        known = {factor: weights(factor) for factor in factors}
        return Upscaler(known, RunOptions(**CPU, **options), Target(scale, size, repeat))

    return make


def untrained(scale, **options):
    spec = registry.configured(registry.find("espcn"), {"scale": scale})
    network = registry.build("espcn", scale=scale).eval()
    for parameter in network.parameters():  # so that each part of the network counts
        torch.nn.init.normal_(parameter, std=0.2)
    return Restorer(Checkpoint("x", Path("x"), "", spec, network), RunOptions(**CPU, **options))


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    tile=st.integers(1, 24),
    scale=st.sampled_from([2, 3, 4]),
    channels=st.sampled_from([1, 3]),
)
def test_tiles_with_4_px_of_context_equal_the_whole_image(height, width, tile, scale, channels):
    pixels = torch.rand(channels, height, width)
    run = untrained(scale, tile="off")
    whole = run.run(pixels)
    run.options = RunOptions(**CPU, tile=tile)
    assert run.facts.overlap == 4
    assert whole.shape == (channels, scale * height, scale * width)
    assert_close(run.run(pixels), whole, atol=1e-5, rtol=0)  # float32 sum order


def test_a_whole_factor_is_what_its_network_gives(upscaler, weights):
    pixels = torch.rand(3, 7, 9)
    alone = restore("upscale", pixels, weights=weights(3), device="cpu")
    torch.manual_seed(1)
    assert upscaler(2, scale=2).run(pixels).shape == (3, 14, 18)
    assert alone.shape == (3, 21, 27)


def test_a_broken_factor_is_the_next_larger_network_reduced(upscaler):
    pixels = torch.rand(3, 8, 10)
    run = upscaler(2, 3, scale=2.5)
    larger = run._restorer(run._weights[3]).run(pixels)
    assert_close(run.run(pixels), resize_matlab(larger, 20, 25).clamp(0, 1))


def test_repeating_is_one_network_after_the_other_without_8_bit_between(upscaler):
    pixels = torch.rand(3, 6, 5)
    run = upscaler(2, 4, scale=4, repeat=True)
    once = run._restorer(run._weights[2])
    assert_close(run.run(pixels), once.run(once.run(pixels)))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (13, 4)])
def test_a_size_is_reached_exactly_from_any(upscaler, height, width):
    large = upscaler(2, 4, size=ImageSize(16, 13), repeat=True).run(torch.rand(3, height, width))
    assert large.shape == (3, 13, 16)


def test_a_size_beyond_the_largest_network_takes_the_fewest_that_reach(upscaler):
    run = upscaler(2, 4, size=ImageSize(longest=70), repeat="beyond")
    result = run(Image(torch.rand(3, 6, 9)))
    assert result.image.pixels.shape == (3, 47, 70)
    assert [(step.height, step.width) for step in result.report.steps] == [(12, 18), (47, 70)]
    whole = run._restorer(run._weights[4]).run(
        run._restorer(run._weights[2]).run(torch.ones(3, 6, 9))
    )
    assert whole.shape == (3, 48, 72)


def test_a_image_larger_than_the_size_is_refused_with_both(upscaler):
    with pytest.raises(InputError, match="9x20, larger than the wanted 30x10"):
        upscaler(2, size=ImageSize(30, 10)).run(torch.rand(3, 20, 9))


def test_a_factor_without_weights_is_refused_with_those_that_exist(upscaler):
    with pytest.raises(UsageError, match="no weights enlarge x4: there are x2, x3") as caught:
        upscaler(2, 3, scale=4)
    assert caught.value.hint == (
        "x2 after x2 reaches it: upscale --repeat, or run --steps upscale:2,upscale:2"
    )


def test_a_factor_beyond_all_repetition_is_refused(upscaler):
    with pytest.raises(UsageError, match="x17") as caught:
        upscaler(2, scale=17, repeat=True)
    assert caught.value.hint == "at most x16"


def test_weights_that_keep_the_size_are_refused(random_weights):
    with pytest.raises(WeightsMismatch, match="trained to derain"):
        scale_of(str(random_weights))


def test_named_weights_stand_alone(weights):
    run = load_upscaler(RunOptions(weights=weights(4), **CPU), Target(scale=3.5))
    restored = run(Image(torch.rand(1, 4, 4)))
    assert restored.image.pixels.shape == (1, 14, 14)
    (step,) = restored.report.steps
    assert (step.weights, step.height, step.width) == ("x4", 14, 14)


def test_alpha_is_resized_with_the_image(upscaler):
    alpha = torch.zeros(1, 8, 8)
    alpha[..., 4:] = 1
    large = upscaler(2, scale=1.5)(Image(torch.rand(3, 8, 8), alpha, bit_depth=16)).image
    assert (large.pixels.shape, large.alpha.shape) == ((3, 12, 12), (1, 12, 12))
    assert large.bit_depth == 16
    assert_close(large.alpha[..., :3], torch.zeros(1, 12, 3), atol=0.1, rtol=0)
    assert_close(large.alpha[..., -3:], torch.ones(1, 12, 3), atol=0.1, rtol=0)


def test_progress_of_several_networks_is_one(upscaler):
    seen = []
    run = upscaler(2, scale=4, repeat=True)
    run(Image(torch.rand(1, 4, 4)), on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


@pytest.fixture
def for_photos(weights):
    """ESPCN imported as weights for photographs: espcn.real_x2."""
    import_weights(Path(weights(2)), "espcn.real_x2")
    return "espcn.real_x2"


CLEAN = Image(torch.full((3, 40, 48), 0.5))
SAVED_COARSELY = replace(CLEAN, jpeg_quality=40)
ESPCN = RunOptions(model="espcn", **CPU)


@pytest.mark.parametrize(
    ("purpose", "image", "wanted"),
    [
        ("auto", CLEAN, "espcn.x2"),
        ("auto", SAVED_COARSELY, "espcn.real_x2"),
        ("clean", SAVED_COARSELY, "espcn.x2"),
        ("photo", CLEAN, "espcn.real_x2"),
    ],
    ids=["auto-clean", "auto-jpeg", "clean-jpeg", "photo-clean"],
)
def test_weights_are_chosen_by_what_the_image_is(for_photos, purpose, image, wanted):
    run = load_upscaler(ESPCN, Target(scale=2), purpose)
    assert run(image).report.weights == wanted


def test_a_factor_without_weights_for_photographs_takes_the_others(for_photos):
    run = load_upscaler(ESPCN, Target(scale=3), "auto")
    assert run(SAVED_COARSELY).report.weights == "espcn.x3"


def test_without_weights_for_photographs_auto_is_clean():
    run = load_upscaler(ESPCN, Target(scale=2), "auto")
    assert run(SAVED_COARSELY).report.weights == "espcn.x2"


def test_photographs_without_weights_for_them_are_an_error():
    with pytest.raises(WeightsMissing, match="no weights of espcn for photographs"):
        load_upscaler(ESPCN, Target(scale=2), "photo")


def test_weights_for_photographs_are_no_others(weights):
    import_weights(Path(weights(5)), "espcn.real_x5")
    with pytest.raises(UsageError, match="no weights enlarge x5"):
        load_upscaler(ESPCN, Target(scale=5))
