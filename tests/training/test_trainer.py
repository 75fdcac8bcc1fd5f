"""The shared loop: resuming, finishing, keeping and averaging, for every kind of training."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.checkpoints import load_checkpoint
from restore_cli.errors import NothingToDo, OutputError, OutputExists, WeightsMismatch
from restore_cli.training import generation, restoration
from restore_cli.training.recipes import find_recipe
from restore_cli.training.trainer import initialize_from, update_average
from tests.training.runs import state_of, stop_at, train, train_classes

TINY = {"batch": 2, "steps": 6, "validate_every": 3}
DPENET = replace(find_recipe("dpenet"), patch=16, validation_patch=24, **TINY)
UNET = replace(
    find_recipe("unet"),
    **TINY,
    config={
        "sample_size": 8,
        "widths": [8, 8],
        "layers": 1,
        "groups": 4,
        "head_dim": 8,
        "attention_levels": 1,
    },
)


@pytest.fixture(params=["dpenet", "unet"])
def run(request, photos, class_folder):
    """A function that trains a tiny network in a folder: run(out, **options)."""
    if request.param == "dpenet":
        return lambda out, **options: train(DPENET, photos, out, **options)
    return lambda out, **options: train_classes(UNET, class_folder, out, **options)


def test_a_resumed_training_equals_an_uninterrupted_one(run, tmp_path):
    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "halves", on_progress=stop_at(4))
    assert state_of(tmp_path / "halves")["step"] == 4
    run(tmp_path / "halves", resume=True)
    whole, halves = state_of(tmp_path / "whole"), state_of(tmp_path / "halves")
    for part in ("network", "average", "optimizer", "step", "best"):
        assert_close(halves[part], whole[part], atol=0, rtol=0)


def test_an_older_training_is_not_overwritten(run, tmp_path):
    run(tmp_path, steps=1)
    with pytest.raises(OutputExists, match="already contains a training"):
        run(tmp_path)


def test_a_training_interrupted_in_its_last_validation_is_not_finished(run, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(restoration, "mean_scores", interrupted)
        patch.setattr(generation, "validation_loss", interrupted)
        run(tmp_path, steps=1)
    assert run(tmp_path, steps=1, resume=True).exists()


def test_a_finished_training_has_nothing_to_resume(run, tmp_path):
    run(tmp_path, steps=1)
    with pytest.raises(NothingToDo, match="already trained for 1 steps"):
        run(tmp_path, steps=1, resume=True)


def test_a_time_limit_ends_with_validated_weights(run, tmp_path):
    weights = run(tmp_path, time_limit=0)
    assert state_of(tmp_path)["step"] == state_of(tmp_path)["judged"] == 1
    assert load_checkpoint(weights).module is not None


def test_a_state_without_the_step_of_its_validation_is_resumed(run, tmp_path):
    run(tmp_path, steps=3)
    state = state_of(tmp_path)
    del state["judged"]  # as written by the first versions
    torch.save(state, tmp_path / "state.pt")
    run(tmp_path, resume=True)
    assert state_of(tmp_path)["step"] == 6


@pytest.mark.parametrize("content", [b"", b"not a state"], ids=["empty", "text"])
def test_a_damaged_state_is_refused(run, tmp_path, content):
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(WeightsMismatch, match=r"state\.pt is not a state of this recipe"):
        run(tmp_path, resume=True)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("file write failed")], ids=str
)
def test_a_full_disk_ends_the_training_in_one_line(run, tmp_path, monkeypatch, error):
    def no_room(state, path):
        path.write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(torch, "save", no_room)
    with pytest.raises(OutputError, match=r"state\.pt: cannot be written"):
        run(tmp_path)
    assert not list(tmp_path.glob(".restore-*"))


def test_a_state_of_another_network_is_refused(run, tmp_path):
    torch.save({"network": {}}, tmp_path / "state.pt")
    with pytest.raises(WeightsMismatch, match=r"state\.pt"):
        run(tmp_path, resume=True)


def test_a_file_where_the_folder_should_be_is_refused(run, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="out: "):
        run(tmp_path / "out")


def test_initial_weights_that_do_not_fit_are_refused():
    with pytest.raises(WeightsMismatch, match="none of the initial weights"):
        initialize_from(registry.build("espcn"), torch.nn.Linear(1, 1))


def test_the_average_follows_fast_at_first_and_slowly_later():
    average, network = (torch.nn.Linear(1, 1, bias=False) for _ in range(2))
    for step, expected in ((0, 0.9), (10**6, 0.001)):
        torch.nn.init.zeros_(average.weight)
        torch.nn.init.ones_(network.weight)
        update_average(average, network, 0.999, step)
        assert average.weight.item() == pytest.approx(expected)


def test_statistics_are_averaged_as_the_weights_they_belong_to():
    average, network = (torch.nn.BatchNorm2d(1) for _ in range(2))
    network.running_mean.fill_(1)
    network.num_batches_tracked.fill_(7)
    update_average(average, network, 0.9, 10**6)
    assert average.running_mean.item() == pytest.approx(0.1)
    assert average.num_batches_tracked.item() == 7
