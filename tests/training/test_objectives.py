"""Preprocessing and objectives of the restoration recipes."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from restore_cli.checkpoints import load_checkpoint
from restore_cli.inference.preprocessing import prepare
from restore_cli.networks.facts import Standardized
from restore_cli.training.objectives import (
    Batch,
    self_supervised,
    self_supervised_continued,
    standardized,
    standardized_jointly,
    supervised_with_blind_mode,
)
from restore_cli.training.processes import ALONE
from restore_cli.training.recipes import find_recipe
from tests.training.runs import log_of, train

TINY = {
    "patch": 20,
    "batch": 2,
    "steps": 200,
    "validate_every": 50,
    "ema": 0.9,
    "validation_patch": 20,
    "config": {"channels": 8, "num_module": 1},
}


def batch(degraded, clean=None, progress=1.0, seed=0):
    clean = degraded if clean is None else clean
    generator = torch.Generator().manual_seed(seed)
    return Batch(degraded, clean, progress, generator, ALONE.share(len(degraded)))


def test_the_input_of_a_network_is_the_same_in_training_and_inference():
    image = torch.rand(1, 3, 40, 50)
    used, _ = prepare(Standardized(), image[0])
    seen = []

    def network(x):
        seen.append(x)
        return x

    assert_close(standardized(network)(image), image, atol=1e-6, rtol=0)
    assert_close(seen[0], used[..., 32:-32, 32:-32], atol=1e-6, rtol=0)


def test_noisy_images_alone_lower_the_loss_on_held_out_ones(noisy, tmp_path):
    recipe = replace(find_recipe("cbsn"), **TINY, learning_rate=1e-2)
    weights = train(recipe, noisy, tmp_path)
    lines = log_of(tmp_path)
    losses = [line["validation_loss"] for line in lines]
    assert losses[-1] < 0.97 * losses[0]
    assert lines[0]["psnr"] is None
    loaded = load_checkpoint(weights)
    assert loaded.spec.arch == "cbsn"
    assert loaded.module.config.channels == 8


def half(x, blind=False):
    return x * 0.5


def test_the_clean_images_are_not_used():
    noisy = torch.rand(1, 3, 20, 20)
    losses = [
        self_supervised(half, batch(noisy, clean), None)
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

    def gradients(progress):
        network = Modes()
        noisy = torch.rand(1, 3, 20, 20)
        self_supervised(network, batch(noisy, progress=progress), None).backward()
        return network.blind.grad.item(), network.full.grad.item()

    (blind_first, full_first), (blind_last, full_last) = gradients(0.0), gradients(1.0)
    assert blind_first != 0
    assert full_first == 0
    assert full_last != 0
    assert blind_last == pytest.approx(blind_first, rel=0.1)  # other random images


def test_synthetic_noise_trains_against_clean_images(noisy, tmp_path):
    recipe = replace(find_recipe("cbsn", preset="fast"), **TINY)
    train(replace(recipe, steps=10), noisy, tmp_path)
    (line,) = log_of(tmp_path)
    assert line["validation_loss"] is None
    assert line["input_psnr"] > 0


def test_patches_are_standardized_as_parts_of_one_image():
    image = torch.rand(1, 3, 20, 60) * torch.linspace(0.1, 1, 60)
    used, _ = prepare(Standardized(), image[0])
    inner = used[..., 19:-19, 32:-32]  # 20 rows reflect 19 of them
    seen = []

    def network(x):
        seen.append(x)
        return x

    patches = torch.cat(image.split(20, dim=-1))
    assert_close(standardized_jointly(network)(patches), patches, atol=1e-6, rtol=0)
    assert_close(torch.cat(list(seen[0]), dim=-1), inner[0], atol=1e-5, rtol=0)


def test_six_patches_are_standardized_as_two_images():
    patches = (
        torch.rand(6, 3, 10, 10) * torch.tensor([1.0, 1, 1, 0.4, 0.4, 0.4])[:, None, None, None]
    )
    seen = []
    standardized_jointly(lambda x: (seen.append(x), x)[1])(patches)
    for few in seen[0].split(3):
        assert few.std(correction=0).item() == pytest.approx(1, abs=1e-3)


def test_the_blind_mode_is_trained_on_every_second_or_fifth_pixel():
    noisy, clean, inputs = torch.rand(1, 3, 20, 20), torch.rand(1, 3, 20, 20), []

    def network(x, blind=False):
        inputs.append((tuple(x.shape[-2:]), blind))
        return x

    def loss(outputs, target):
        assert outputs[0].shape == target.shape
        return (outputs[0] - target).abs().mean()

    for seed in range(20):
        supervised_with_blind_mode(network, batch(noisy, clean, 0.0, seed), loss)
    assert set(inputs) == {((20, 20), False), ((10, 10), True), ((4, 4), True)}


def test_a_continued_training_counts_all_three_losses_at_once():
    noisy = torch.randn(1, 3, 20, 20)
    noisy = (noisy - noisy.mean((-2, -1), keepdim=True)) / noisy.std(
        (-2, -1), correction=0, keepdim=True
    )
    at_once, at_last = (
        objective(half, batch(noisy, progress=progress), None)
        for objective, progress in ((self_supervised_continued, 0.0), (self_supervised, 1.0))
    )
    assert_close(at_once, at_last)
