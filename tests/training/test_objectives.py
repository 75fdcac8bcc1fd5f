"""How batches reach C-BSN, with clean sides and without."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from restore_cli.checkpoints import load_checkpoint
from restore_cli.inference.preprocessing import standardized as adapter
from restore_cli.registry import MODELS
from restore_cli.training.objectives import (
    self_supervised,
    self_supervised_on,
    standardized,
    standardized_together,
    supervised_blind_too,
)
from restore_cli.training.recipes import find_recipe
from restore_cli.training.restoration import fit

CPU = torch.device("cpu")
TINY = {
    "patch": 20,
    "batch": 2,
    "steps": 200,
    "validate_every": 50,
    "ema": 0.9,
    "validation_patch": 20,
    "config": {"channels": 8, "num_module": 1},
}


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Nine smooth images with noise, of which the eighth is held out."""
    folder = tmp_path_factory.mktemp("noisy")
    for index in range(9):
        random = np.random.default_rng(index)
        coarse = random.integers(30, 200, (3, 4, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((40, 30)), np.float32)
        image = smooth + random.normal(0, 12, smooth.shape)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    return folder


def test_a_network_is_fed_in_training_as_in_use():
    image = torch.rand(1, 3, 40, 50)
    used, _ = adapter(image[0], MODELS["cbsn"])
    seen = []

    def network(x):
        seen.append(x)
        return x

    assert_close(standardized(network)(image), image, atol=1e-6, rtol=0)
    assert_close(seen[0], used[..., 32:-32, 32:-32], atol=1e-6, rtol=0)


def test_noisy_images_alone_teach_a_network_what_it_has_not_seen(noisy, tmp_path):
    recipe = replace(find_recipe("cbsn"), **TINY, learning_rate=1e-2)
    weights = fit(recipe, noisy, tmp_path, device=CPU)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [line["validation_loss"] for line in lines]
    assert losses[-1] < 0.97 * losses[0]
    assert lines[0]["psnr"] is None
    loaded = load_checkpoint(weights)
    assert loaded.spec.arch == "cbsn"
    assert loaded.module.config.channels == 8


def half(x, blind=False):
    return x * 0.5


def test_the_clean_side_is_never_looked_at():
    noisy = torch.rand(1, 3, 20, 20)
    losses = [
        self_supervised(half, noisy, clean, None, 1.0, torch.Generator().manual_seed(0))
        for clean in (noisy, torch.full_like(noisy, float("nan")))
    ]
    assert torch.equal(*losses)


def test_at_first_only_the_blind_mode_learns():
    class Modes(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blind = torch.nn.Parameter(torch.tensor(0.5))
            self.full = torch.nn.Parameter(torch.tensor(0.5))

        def forward(self, x, blind=False):
            return x * (self.blind if blind else self.full)

    def gradients(done):
        network, draws = Modes(), torch.Generator().manual_seed(0)
        noisy = torch.rand(1, 3, 20, 20)
        self_supervised(network, noisy, noisy, None, done, draws).backward()
        return network.blind.grad.item(), network.full.grad.item()

    (blind_first, full_first), (blind_last, full_last) = gradients(0.0), gradients(1.0)
    assert blind_first != 0
    assert full_first == 0
    assert full_last != 0
    assert blind_last == pytest.approx(blind_first, rel=0.1)  # other random images


def test_made_noise_trains_against_the_clean_side(noisy, tmp_path):
    recipe = replace(find_recipe("cbsn", preset="fast"), **TINY)
    fit(replace(recipe, steps=10), noisy, tmp_path, device=CPU)
    (line,) = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert line["validation_loss"] is None
    assert line["input_psnr"] > 0


def test_patches_together_are_fed_as_parts_of_one_image():
    image = torch.rand(1, 3, 20, 60) * torch.linspace(0.1, 1, 60)
    used, _ = adapter(image[0], MODELS["cbsn"])
    inner = used[..., 19:-19, 32:-32]  # 20 rows reflect 19 of them
    seen = []

    def network(x):
        seen.append(x)
        return x

    patches = torch.cat(image.split(20, dim=-1))
    assert_close(standardized_together(network)(patches), patches, atol=1e-6, rtol=0)
    assert_close(torch.cat(list(seen[0]), dim=-1), inner[0], atol=1e-5, rtol=0)


def test_six_patches_are_two_images():
    patches = (
        torch.rand(6, 3, 10, 10) * torch.tensor([1.0, 1, 1, 0.4, 0.4, 0.4])[:, None, None, None]
    )
    seen = []
    standardized_together(lambda x: (seen.append(x), x)[1])(patches)
    for few in seen[0].split(3):
        assert few.std(correction=0).item() == pytest.approx(1, abs=1e-3)


def test_the_blind_mode_is_taught_on_every_second_or_fifth_pixel():
    noisy, clean, asked = torch.rand(1, 3, 20, 20), torch.rand(1, 3, 20, 20), []

    def network(x, blind=False):
        asked.append((tuple(x.shape[-2:]), blind))
        return x

    def loss(outputs, target):
        assert outputs[0].shape == target.shape
        return (outputs[0] - target).abs().mean()

    for seed in range(20):
        draws = torch.Generator().manual_seed(seed)
        supervised_blind_too(network, noisy, clean, loss, 0.0, draws)
    assert set(asked) == {((20, 20), False), ((10, 10), True), ((4, 4), True)}


def test_going_on_all_three_losses_count_at_once():
    noisy = torch.randn(1, 3, 20, 20)
    noisy = (noisy - noisy.mean((-2, -1), keepdim=True)) / noisy.std(
        (-2, -1), correction=0, keepdim=True
    )
    at_once, at_last = (
        step(half, noisy, noisy, None, done, torch.Generator().manual_seed(0))
        for step, done in ((self_supervised_on, 0.0), (self_supervised, 1.0))
    )
    assert_close(at_once, at_last)
