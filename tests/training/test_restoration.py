"""Training on photographs."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.checkpoints import load_checkpoint
from restore_cli.checkpoints.save import save
from restore_cli.data.pairs import load_photos
from restore_cli.errors import NothingToDo, UsageError, WeightsMismatch
from restore_cli.imaging.resize import resize_matlab
from restore_cli.metrics import psnr
from restore_cli.training import restoration
from restore_cli.training.processes import ALONE
from restore_cli.training.recipes import find_recipe
from restore_cli.training.restoration import (
    load_source,
    loss_of,
    mean_scores,
    solve,
    train_restoration,
    training_pairs,
    validation_pairs,
)
from restore_cli.training.schedule import BY_CLOCK
from restore_cli.training.trainer import (
    TrainingOptions,
    take_step,
)
from tests.training.runs import CPU, log_of, new_state, state_of, stop_at, train

SMALL = {"batch": 2, "validation_patch": 24}
TINY = replace(find_recipe("dpenet"), patch=16, steps=6, validate_every=3, **SMALL)


def step(state, recipe, progress, degraded, clean):
    """One step on this batch."""
    take_step(
        state,
        recipe,
        progress,
        lambda at: loss_of(
            state, recipe, at, (degraded, clean), ALONE.share(len(degraded)), bf16=False
        ),
    )


def test_training_lowers_the_loss_on_held_out_images(photos, tmp_path):
    train(replace(TINY, steps=30, validate_every=10), photos, tmp_path)
    lines = log_of(tmp_path)
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert lines[-1]["psnr"] > lines[0]["psnr"]


def test_the_same_seed_gives_the_same_weights(photos, tmp_path):
    first, second = (train(TINY, photos, tmp_path / name, seed=3) for name in "ab")
    a, b = (load_checkpoint(path).module.state_dict() for path in (first, second))
    assert_close(a, b, atol=0, rtol=0)


def test_bfloat16_trains_too(photos, tmp_path):
    train(TINY, photos, tmp_path, steps=2, bf16=True)
    assert all(value.isfinite().all() for value in state_of(tmp_path)["network"].values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_runs_on_a_gpu(photos, tmp_path):
    options = TrainingOptions(tmp_path, torch.device("cuda"), steps=2, bf16=True)
    train_restoration(TINY, photos, options)
    assert state_of(tmp_path)["step"] == 2


def test_too_few_photographs_are_refused(tmp_path):
    with pytest.raises(NothingToDo, match="at least 8 photographs are needed, 0 found"):
        train(TINY, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


UPSCALING = replace(find_recipe("espcn", scale=2), patch=8, steps=4, validate_every=2, **SMALL)


@pytest.mark.parametrize("loss", ["l1", "mse", "ms_ssim", "mix"])
def test_a_network_that_enlarges_trains_by_each_loss(photos, tmp_path, loss):
    weights = train(replace(UPSCALING, loss=loss), photos, tmp_path)
    assert load_checkpoint(weights).spec.facts.scale == 2
    log = log_of(tmp_path)
    assert log[-1]["psnr"] > 0


@pytest.mark.parametrize(("loss", "sign"), [("mse", 1), ("ms_ssim", -1)])
def test_weights_are_kept_by_psnr_unless_structure_is_learned(photos, tmp_path, loss, sign):
    train(replace(UPSCALING, loss=loss), photos, tmp_path)
    log = log_of(tmp_path)
    criterion = "psnr" if sign == 1 else "validation_loss"
    assert state_of(tmp_path)["best"] == max(sign * line[criterion] for line in log)


def test_the_input_of_super_resolution_is_scored_after_bicubic_enlargement(photos):
    network = registry.build("espcn", scale=2)
    held_out = load_photos(photos, grey=True)[1]
    pairs = validation_pairs(UPSCALING, held_out)
    of_input = mean_scores(UPSCALING, network, pairs, CPU)["input_psnr"]
    degraded, clean = pairs[0]
    bicubic = resize_matlab(degraded, *clean.shape[-2:])
    assert of_input == pytest.approx(psnr(bicubic.clamp(0, 1), clean).item())


def test_a_training_may_start_from_weights_of_another_scale(tmp_path):
    other = registry.build("espcn", scale=3)
    save(other, tmp_path / "x3.safetensors", arch="espcn", config={"scale": 3}, record={})
    init = str(tmp_path / "x3.safetensors")
    started = new_state(UPSCALING, tmp_path / "none", init=init)
    assert_close(started.network.extract.state_dict(), other.extract.state_dict())
    assert_close(started.average.map.state_dict(), other.map.state_dict())
    assert started.network.subpixel.weight.shape[0] == 4


def test_the_last_layer_is_solved_before_the_first_step_and_at_each_validation(
    photos, tmp_path, monkeypatch
):
    solved_at = []

    def watched(state, recipe, pairs, options):
        solved_at.append(state.step)
        solve(state, recipe, pairs, options)
        assert_close(state.network.state_dict(), state.average.state_dict(), atol=0, rtol=0)

    monkeypatch.setattr(restoration, "solve", watched)
    monkeypatch.setattr(restoration, "SOLVE_BATCHES", 3)
    train(UPSCALING, photos, tmp_path)
    assert solved_at == [0, 2, 4]


def test_a_resumed_training_with_a_solved_layer_equals_an_uninterrupted_one(
    photos, tmp_path, monkeypatch
):
    monkeypatch.setattr(restoration, "SOLVE_BATCHES", 3)
    train(UPSCALING, photos, tmp_path / "whole", seed=2)

    with pytest.raises(KeyboardInterrupt):
        train(UPSCALING, photos, tmp_path / "halves", seed=2, on_progress=stop_at(3))
    train(UPSCALING, photos, tmp_path / "halves", seed=2, resume=True)
    whole, halves = state_of(tmp_path / "whole"), state_of(tmp_path / "halves")
    assert_close(halves["average"], whole["average"], atol=0, rtol=0)


def test_the_last_layer_learns_at_its_own_pace(tmp_path):
    state = new_state(UPSCALING, tmp_path)
    low, high = torch.rand(1, 1, 8, 8), torch.rand(1, 1, 16, 16)
    step(state, UPSCALING, 0.1, low, high)
    others, last = (group["lr"] for group in state.optimizer.param_groups)
    assert last == pytest.approx(0.1 * others)
    assert state.optimizer.param_groups[1]["params"] == list(state.network.subpixel.parameters())


def test_other_losses_have_no_closed_solution(photos, tmp_path):
    recipe = replace(UPSCALING, loss="l1")
    state = new_state(recipe, tmp_path)
    before = state.average.subpixel.weight.clone()
    solve(state, recipe, training_pairs(recipe, load_photos(photos, grey=True)[0], 0), ALONE)
    assert torch.equal(state.average.subpixel.weight, before)


TML = replace(
    find_recipe("tml"),
    steps=4,
    batch=2,
    validate_every=2,
    whole_size=(80, 80),
    is_usable=None,
    config={"pm_stem": 2, "em_stem": 2, "nominal_size": (80, 80)},
)


def test_tml_trains_on_photographs_alone(photos, tmp_path):
    loaded = load_checkpoint(train(TML, photos, tmp_path))
    assert (loaded.spec.arch, loaded.spec.facts.fixed_size) == ("tml", (80, 80))
    log = log_of(tmp_path)
    assert log[-1]["input_psnr"] > 0


def test_both_models_of_tml_learn_at_once(tmp_path):
    state = new_state(TML, tmp_path)
    before = {name: value.clone() for name, value in state.network.named_parameters()}
    step(state, TML, 0.1, *torch.rand(2, 2, 3, 80, 80))
    for model in ("pm", "em"):
        name = f"{model}.output.weight"
        assert not torch.equal(state.network.get_parameter(name), before[name])


@pytest.mark.parametrize(("progress", "moves"), [(0.39, True), (0.4, False)])
def test_batch_norm_keeps_its_statistics_from_a_share_of_the_training_on(tmp_path, progress, moves):
    state = new_state(TML, tmp_path)
    before = state.network.pm.enter[1].running_mean.clone()
    step(state, TML, progress, *torch.rand(2, 2, 3, 80, 80))
    assert torch.equal(state.network.pm.enter[1].running_mean, before) != moves


# Pairs of the user


def test_a_network_learns_from_own_pairs(pair_folders, tmp_path):
    recipe = replace(TINY, steps=40, validate_every=10)
    train(recipe, pair_folders, tmp_path)
    lines = log_of(tmp_path)
    assert lines[-1]["input_psnr"] < 25
    assert lines[-1]["psnr"] > lines[0]["psnr"]


def test_own_pairs_are_not_degraded_nor_reduced(pair_folders):
    recipe, training, _ = load_source(TINY, pair_folders)
    assert len(training) == 7
    degraded, clean = training_pairs(recipe, training, 0)[0]
    assert (degraded - clean).abs().mean().item() == pytest.approx(20 / 255, rel=0.2)


def test_a_whole_image_recipe_learns_from_own_pairs(pair_folders, tmp_path):
    assert train(TML, pair_folders, tmp_path, steps=1).exists()


def test_a_recipe_without_clean_images_refuses_pairs(pair_folders, tmp_path):
    with pytest.raises(UsageError, match="noisy photographs only"):
        train(find_recipe("cbsn"), pair_folders, tmp_path)


def test_own_pairs_that_are_equal_leave_nothing_to_validate(pair_folders, tmp_path):
    with pytest.raises(NothingToDo, match="equal the clean ones"):
        train(TINY, (pair_folders[1], pair_folders[1]), tmp_path)


# By the clock


def ticking():
    """Return a clock that advances by a second at each call."""
    return itertools.count().__next__


def rates(monkeypatch):
    """Fills with the progress and the share of the peak rate of each step."""
    seen = []

    def watched(state, recipe, progress, pairs, share, **options):
        seen.append((progress, state.optimizer.param_groups[0]["lr"] / recipe.learning_rate))
        return loss_of(state, recipe, progress, pairs, share, **options)

    monkeypatch.setattr(restoration, "loss_of", watched)
    return seen


def test_without_steps_the_learning_rate_follows_the_time(photos, tmp_path, monkeypatch):
    seen = rates(monkeypatch)
    train(TINY, photos, tmp_path, time_limit=60, now=ticking())
    assert len(seen) > TINY.steps
    assert seen[0][0] == 0
    assert seen[-1][0] > 0.7
    assert all(rate == pytest.approx(BY_CLOCK(progress)) for progress, rate in seen)


@pytest.mark.parametrize(("time_limit", "most"), [(0, 1), (60, 3)])
def test_solving_the_last_layer_takes_a_small_share_of_the_time(
    time_limit, most, photos, tmp_path, monkeypatch
):
    drawn = []

    def watched(average, layer, pairs):
        drawn.append(len([*pairs]))

    monkeypatch.setattr(restoration, "solve_last_layer", watched)
    train(UPSCALING, photos, tmp_path, time_limit=time_limit, now=ticking())
    assert len(drawn) >= 2
    assert set(drawn) == {most}


def test_with_steps_the_learning_rate_follows_the_steps(photos, tmp_path, monkeypatch):
    seen = rates(monkeypatch)
    train(TINY, photos, tmp_path, steps=4, time_limit=60)
    assert [progress for progress, _ in seen] == [0, 0.25, 0.5, 0.75]


def test_a_resumed_training_has_the_time_of_its_own_call(photos, tmp_path, monkeypatch):
    train(TINY, photos, tmp_path, time_limit=30, now=ticking())
    before = state_of(tmp_path)["step"]
    seen = rates(monkeypatch)
    train(TINY, photos, tmp_path, time_limit=30, resume=True, now=ticking())
    assert seen[0][0] == 0
    assert state_of(tmp_path)["step"] == before + len(seen)


def test_a_state_of_adam_is_no_state_for_soap(photos, tmp_path):
    adam = replace(TINY, optimizer=torch.optim.Adam)
    train(adam, photos, tmp_path, steps=1)
    with pytest.raises(WeightsMismatch, match=r"state\.pt is not a state of this recipe"):
        train(TINY, photos, tmp_path, resume=True)
