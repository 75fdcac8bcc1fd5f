"""The mean over the orientations of an image."""

import pytest
import torch
from torch.testing import assert_close

from restore_cli.imaging.image import Image
from restore_cli.imaging.orientations import turned, turned_back
from restore_cli.inference.ensemble import ALL, UPRIGHT, mean_of_orientations
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import load_restorer
from restore_cli.inference.upscaler import Target, load_upscaler

FP32 = {"device": "cpu", "backend": "torch", "precision": "fp32"}


def image(height=24, width=32):
    noise = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    return 0.4 + 0.2 * noise  # no output is clamped


def by_hand(restorer, pixels, orientations):
    outputs = [turned_back(restorer.run(turned(pixels, each)), each) for each in orientations]
    return torch.stack(outputs).mean(0)


def test_the_eight_orientations_differ_and_are_undone():
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    oriented = [turned(x, each) for each in ALL]
    assert len({(tuple(each.shape), tuple(each.flatten().tolist())) for each in oriented}) == 8
    for orientation, each in enumerate(oriented):
        assert torch.equal(turned_back(each, orientation), x)
    assert torch.equal(turned(x, UPRIGHT[1]), x.flip(-1))


def test_a_network_that_turns_with_its_input_gives_the_same_mean():
    x = image()[None]
    assert_close(mean_of_orientations(lambda x: 3 * x, x, ALL), 3 * x)


@pytest.mark.parametrize("weights", ["espcn.x2", "mirnet.fast_x2", "mirnet.denoise", "cbsn.fast"])
def test_the_result_is_the_mean_of_eight(weights):
    task = "upscale" if "x2" in weights else "denoise"
    plain, ensemble = (
        load_restorer(task, RunOptions(weights=weights, noise_limit="off", ensemble=on, **FP32))
        for on in (False, True)
    )
    wanted = by_hand(plain, image(), ALL)
    assert_close(ensemble.run(image()), wanted, atol=1e-5, rtol=0)
    assert not torch.equal(plain.run(image()), wanted)


def test_rain_is_only_mirrored():
    plain, ensemble = (
        load_restorer("derain", RunOptions(ensemble=on, **FP32)) for on in (False, True)
    )
    assert_close(ensemble.run(image()), by_hand(plain, image(), UPRIGHT), atol=1e-5, rtol=0)


@pytest.mark.parametrize("tiles", [{"tile": 16}, {"tile": 16, "exact": True}])
def test_tiles_are_turned_one_by_one(tiles):
    whole, tiled = (
        load_restorer("upscale", RunOptions(weights="espcn.x3", ensemble=True, **FP32, **each))
        for each in ({"tile": "off"}, tiles)
    )
    progress = []
    restored = tiled(Image(image(40, 24)), on_progress=lambda *each: progress.append(each))
    assert_close(restored.image.pixels, whole.run(image(40, 24)), atol=1e-5, rtol=0)
    assert progress[-1][0] == progress[-1][1]
    assert progress == sorted(progress)


def test_exact_tiles_of_a_network_that_averages_are_turned():
    whole, tiled = (
        load_restorer(
            "denoise",
            RunOptions(weights="mirnet.denoise", noise_limit="off", ensemble=True, **FP32, **each),
        )
        for each in ({"tile": "off"}, {"tile": 32, "exact": True})
    )
    progress = []
    restored = tiled(Image(image(72, 48)), on_progress=lambda *each: progress.append(each))
    assert_close(restored.image.pixels, whole.run(image(72, 48)), atol=1e-5, rtol=0)
    assert progress[-1][0] == progress[-1][1]


def test_sizes_and_alpha_go_through_an_ensemble():
    options = RunOptions(model="espcn", ensemble=True, **FP32)
    given = Image(image(), torch.rand(1, 24, 32))
    result = load_upscaler(options, Target(2.5))(given).image
    assert (result.height, result.width, result.alpha.shape) == (60, 80, (1, 60, 80))
