"""C-BSN goes on learning from the images that it is to denoise."""

import hashlib
import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.checkpoints.load import Checkpoint, load_checkpoint
from restore_cli.errors import NothingToDo, UsageError
from restore_cli.training import adapt as module
from restore_cli.training.adapt import adapt, as_checkpoint, crops_of, split
from restore_cli.training.recipes.cbsn import ADAPT
from tests.training.runs import CPU

SECONDS = 60


@pytest.fixture(autouse=True)
def few_small_steps(monkeypatch):
    """Crops of 20 px, and a high learning rate."""
    monkeypatch.setattr(module, "ADAPT", replace(ADAPT, patch=20, learning_rate=3e-3))


@pytest.fixture
def network():
    return registry.build("cbsn", channels=8, num_module=1).eval()


def noisy(height=40, width=60):
    coarse = torch.rand(1, 3, 4, 6)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic")[0]
    return (smooth + 0.1 * torch.randn(3, height, width)).clamp(0, 1)


def run(network, *photos, **options):
    """Some steps, by a clock on which everything takes a second."""
    now = itertools.count().__next__
    return adapt(network, photos, seconds=SECONDS, device=CPU, now=now, **options)


def parameters(network):
    return torch.cat([value.flatten() for value in network.state_dict().values()])


def test_learning_from_an_image_lowers_the_loss_on_what_was_held_out(network):
    start = parameters(network).clone()
    result = run(network, noisy())
    assert result.helped
    assert result.after < 0.99 * result.before
    assert 8 < result.steps < 20
    assert result.seconds <= SECONDS
    assert torch.equal(parameters(network), start)  # its own copy has learned


def test_the_same_seed_learns_the_same(network):
    photo = noisy()
    first, second = (run(network, photo, seed=3) for _ in range(2))
    assert torch.equal(parameters(first.network), parameters(second.network))


def test_weights_that_got_worse_are_not_taken(network, monkeypatch):
    losses = iter([1.0, *[1.5] * SECONDS])
    monkeypatch.setattr(module, "mean_scores", lambda *_: {"validation_loss": next(losses)})
    result = run(network, noisy())
    assert not result.helped
    assert torch.equal(parameters(result.network), parameters(network))


def test_an_interruption_keeps_what_was_best_by_then(network):
    reports = []

    def on_progress(seconds):
        reports.append(seconds)
        if len(reports) == 5:
            raise KeyboardInterrupt

    result = run(network, noisy(), on_progress=on_progress)
    assert isinstance(result.interrupt, KeyboardInterrupt)
    assert result.steps < run(network, noisy()).steps
    assert result.helped


def test_images_too_small_to_learn_from_are_refused(network):
    with pytest.raises(NothingToDo, match="only 2 areas"):
        run(network, noisy(20, 40), noisy(19, 500))


def test_a_network_without_a_blind_mode_is_refused():
    with pytest.raises(UsageError, match="blind"):
        run(registry.build("dpenet"), noisy())


def test_crops_are_standardized_by_their_whole_photograph():
    photo = noisy() * torch.linspace(0.1, 1, 60)
    crops = torch.stack(crops_of([photo], torch.Generator()))
    assert crops.shape == (6, 3, 20, 20)
    assert_close(crops.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    assert_close(crops.var((0, 2, 3), correction=0), torch.ones(3), atol=1e-4, rtol=0)
    assert crops.mean((1, 2, 3)).std() > 0.1  # each by its own they would all be 0


def test_a_grey_photograph_gives_three_equal_channels():
    crops = crops_of([noisy()[:1]], torch.Generator())
    assert torch.equal(crops[0][0], crops[0][2])


def test_of_many_photographs_so_many_crops_are_kept_as_fit(monkeypatch):
    monkeypatch.setattr(module, "MOST_TRAINED", 8)
    monkeypatch.setattr(module, "MOST_HELD_OUT", 2)
    first, second = torch.zeros(3, 40, 100), torch.zeros(3, 40, 100)
    first[..., ::2], second[..., ::3] = 1, 1
    crops = crops_of([first, second], torch.Generator().manual_seed(0))
    assert len(crops) == 10
    assert len({crop[0, 0, :3].sum().item() for crop in crops}) > 1  # of both


def test_no_crop_is_both_learned_from_and_held_out():
    crops = crops_of([noisy()], torch.Generator())
    training, held_out = split(crops)
    assert [len(training), len(held_out)] == [4, 2]
    assert not any(torch.equal(a, b) for a in training for b in held_out)


def test_adapted_weights_are_a_file_like_any_other(network, tmp_path):
    spec = registry.find("cbsn")
    start = Checkpoint("cbsn.test", tmp_path / "start.safetensors", "", spec, network)
    path = tmp_path / "camera.safetensors"
    result = run(network, noisy())
    made = as_checkpoint(start, result, path)
    loaded = load_checkpoint(path)
    assert made.name == loaded.name == "camera"
    assert made.sha256 == loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert torch.equal(parameters(loaded.module), parameters(result.network))
