"""How batches reach C-BSN, with clean sides and without."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from restore_cli.checkpoints import load_checkpoint
from restore_cli.pipelines.adapters import standardized as adapter
from restore_cli.registry import MODELS
from restore_cli.training.loop import fit
from restore_cli.training.recipes import find_recipe
from restore_cli.training.steps import self_supervised, standardized

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
    """Nine smooth pictures with noise, of which the eighth is held out."""
    folder = tmp_path_factory.mktemp("noisy")
    for index in range(9):
        random = np.random.default_rng(index)
        coarse = random.integers(30, 200, (3, 4, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((40, 30)), np.float32)
        picture = smooth + random.normal(0, 12, smooth.shape)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    return folder


def test_a_network_is_fed_in_training_as_in_use():
    picture = torch.rand(1, 3, 40, 50)
    used, _ = adapter(picture[0], MODELS["cbsn"])
    seen = []

    def network(x):
        seen.append(x)
        return x

    assert_close(standardized(network)(picture), picture, atol=1e-6, rtol=0)
    assert_close(seen[0], used[..., 32:-32, 32:-32], atol=1e-6, rtol=0)


def test_noisy_pictures_alone_teach_a_network_what_it_has_not_seen(noisy, tmp_path):
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
    assert blind_last == pytest.approx(blind_first, rel=0.1)  # other random pictures


def test_made_noise_trains_against_the_clean_side(noisy, tmp_path):
    recipe = replace(find_recipe("cbsn", preset="fast"), **TINY)
    fit(replace(recipe, steps=10), noisy, tmp_path, device=CPU)
    (line,) = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert line["validation_loss"] is None
    assert line["input_psnr"] > 0
