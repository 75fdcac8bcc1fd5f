import pytest
import torch

from restore_cli import registry, restore
from restore_cli.checkpoints.save import save
from restore_cli.errors import UsageError
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import load_restorer


def restorer(weights, strength, **options):
    chosen = RunOptions(
        weights=str(weights), device="cpu", precision="fp32", strength=strength, **options
    )
    return load_restorer("derain", chosen)


def test_no_strength_is_the_image_itself(random_weights):
    pixels = torch.rand(3, 9, 14)
    assert torch.equal(restorer(random_weights, 0.0).run(pixels), pixels)


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_strength_is_a_linear_step_from_the_image_to_the_result(random_weights, channels):
    pixels = torch.rand(channels, 9, 14)
    whole = restorer(random_weights, 1.0).run(pixels)
    part = restorer(random_weights, 0.3).run(pixels)
    torch.testing.assert_close(part, 0.7 * pixels + 0.3 * whole)


def test_python_takes_a_strength_too(random_weights):
    pixels = torch.rand(3, 9, 14)
    assert torch.equal(restore("derain", pixels, weights=random_weights, strength=0), pixels)


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan")])
def test_a_strength_beyond_its_range_is_refused(strength):
    with pytest.raises(UsageError, match="from 0 to 1"):
        RunOptions(strength=strength)


def test_a_network_that_enlarges_takes_no_strength(tmp_path):
    weights, config = tmp_path / "espcn.safetensors", {"scale": 2}
    save(registry.build("espcn", **config), weights, arch="espcn", config=config, record={})
    with pytest.raises(UsageError, match="enlarges"):
        load_restorer("upscale", RunOptions(weights=str(weights), strength=0.5))
